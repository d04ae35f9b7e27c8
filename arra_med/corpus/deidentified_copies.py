"""De-identified copies of DICOM files: one copy for each file, or the reason why there is none.

The folder holds `<image_id>.dcm` (the id that ingestion gives the original), `audit.jsonl` (what was taken out, never a
value), `deidentified.json` (profile and key id), and two files for the person who ran the command alone, mode 0600:
`paths.jsonl` (which copy is of which file) and `quarantine.jsonl` (files without a copy, with the reason).
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arra_med.corpus.parquet import clear_disk_errors, progress_bar
from arra_med.errors import DeidentificationError, ImageError
from arra_med.imaging.deidentify import METHODS, Deidentified, check_burned_in, deidentify
from arra_med.imaging.dicom import looks_like_dicom, parse_dicom, silent_pydicom
from arra_med.imaging.read import read_bytes
from arra_med.imaging.reasons import refusal
from arra_med.records.pseudonym import Pseudonymizer, require_key_id
from arra_med.runs import atomic_file, write_json
from arra_med.sources.folder import visible_files

FORMAT_VERSION = 1
DESCRIPTION_FILE = "deidentified.json"
AUDIT_FILE = "audit.jsonl"
PATHS_FILE = "paths.jsonl"
QUARANTINE_FILE = "quarantine.jsonl"
_PRIVATE_MODE, _PUBLIC_MODE = 0o600, 0o644


@dataclass(frozen=True)
class CopyReport:
    """What became of every file.

    Attributes:
        written: Files that have a copy.
        quarantined: Files that have none; `quarantine.jsonl` says why.
        kept: Copies (of `written`) that were there already, of a file whose size and time have not changed.
        reasons: Files in quarantine by reason.
    """

    written: int
    quarantined: int
    kept: int
    reasons: dict[str, int] = field(default_factory=dict)


def write_deidentified_copies(
    source: Path, out: Path, pseudonymizer: Pseudonymizer, *, allow_burned_in: bool = False, progress: bool = True
) -> CopyReport:
    """Writes a de-identified copy of every DICOM image below a folder; a stopped run goes on where it was.

    Args:
        source: A file, or a folder; hidden files and links are passed over.
        out: Folder of the copies; those of other files that are there already stay.
        pseudonymizer: Makes ids, UIDs and date shifts.
        allow_burned_in: Whether images are copied whose pixels may hold text.
        progress: Whether to show a progress bar.

    Raises:
        DeidentificationError: If there is no file, `out` lies inside `source` or was written by another version, no
            file could be copied, or the disk is full.
        ConfigError: If `out` was written with another key.
    """
    files = _files(source, out)
    with clear_disk_errors(DeidentificationError, out):
        out.mkdir(parents=True, exist_ok=True)
        _begin(out, pseudonymizer)
        paths = {row["path"]: row for row in _read_lines(out / PATHS_FILE)}
        audit = {row["image_id"]: row for row in _read_lines(out / AUDIT_FILE)}
        refused, num_kept = [], 0
        taken = {row["image_id"] for row in paths.values()}
        with progress_bar("de-identifying", len(files), progress) as advance, silent_pydicom():
            for path in files:
                state = _state(path)
                if (row := paths.get(str(path))) and _is_finished(row, state, out, allow_burned_in):
                    num_kept += 1
                    advance(1)
                    continue
                if (row := paths.pop(str(path), None)) is not None:
                    (out / f"{row['image_id']}.dcm").unlink(missing_ok=True)
                    taken.discard(row["image_id"])
                try:
                    found, instance, burned_in = deidentified_copy(path, pseudonymizer, allow_burned_in)
                    image_id = _image_id(instance, path, source, pseudonymizer, taken)
                    _write_copy(found, out / f"{image_id}.dcm")
                except ImageError as error:
                    refused.append({"reason": error.reason, "message": str(error), "path": str(path)})
                else:
                    taken.add(image_id)
                    audit[image_id] = _audit_row(image_id, found)
                    paths[str(path)] = {"image_id": image_id, "path": str(path), **state, "burned_in": burned_in}
                    # the path comes last: a copy counts as finished only once all of it is on the disk
                    _append(out / AUDIT_FILE, audit[image_id], _PUBLIC_MODE)
                    _append(out / PATHS_FILE, paths[str(path)], _PRIVATE_MODE)
                advance(1)
        _finish(out, paths, audit, refused)
    reasons = dict(sorted(Counter(row["reason"] for row in refused).items()))
    if len(refused) == len(files):
        raise DeidentificationError(
            f"{out}: no file could be copied ({len(files)} in quarantine); see why in {QUARANTINE_FILE}"
        )
    return CopyReport(len(files) - len(refused), len(refused), num_kept, reasons)


def deidentified_copy(
    path: Path, pseudonymizer: Pseudonymizer, allow_burned_in: bool
) -> tuple[Deidentified, str, bool]:
    """Returns the copy, the original's UID, and whether the copy is there only because text in pixels is allowed.

    Call it within `silent_pydicom`.

    Raises:
        ImageError: If the file cannot be read as a DICOM image, or may hold text in its pixels.
    """
    data = read_bytes(path)
    if not looks_like_dicom(data):
        raise refusal("not_an_image", "the content is not DICOM; only DICOM files are copied")
    try:
        header = parse_dicom(data)
        if "PixelData" not in header:
            raise refusal("no_pixels", "the DICOM file holds no image; other objects are not copied")
        burned_in = False
        try:
            check_burned_in(header)
        except ImageError:
            if not allow_burned_in:
                raise
            burned_in = True
        return deidentify(header, pseudonymizer), str(header.get("SOPInstanceUID") or "").strip(), burned_in
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises many types on damaged data, and their words quote values
        raise _damaged(error) from None


def _files(source: Path, out: Path) -> list[Path]:
    if not source.exists():
        raise DeidentificationError(f"{source}: there is no such file or folder; give DICOM files to copy")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise DeidentificationError(f"{out}: --out must not lie inside the folder that is copied; choose another")
    files = [path.absolute() for path in (visible_files(source) if source.is_dir() else [source])]
    if not files:
        raise DeidentificationError(f"{source}: holds no file; give a folder of DICOM files")
    return files


def _begin(out: Path, pseudonymizer: Pseudonymizer) -> None:
    """Says with which profile and key the copies are made, or refuses to mix them with others."""
    path = out / DESCRIPTION_FILE
    methods = [{"code": code, "meaning": meaning} for code, meaning in METHODS]
    described = {"format_version": FORMAT_VERSION, "methods": methods, "key_id": pseudonymizer.key_id}
    if not path.exists():
        write_json(path, described)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        recorded = str(found.pop("key_id"))
    except (ValueError, KeyError, AttributeError, TypeError):
        found, recorded = None, pseudonymizer.key_id
    require_key_id(pseudonymizer, recorded, out)
    if found != {name: value for name, value in described.items() if name != "key_id"}:
        raise DeidentificationError(f"{path}: is damaged or of another version; choose another --out")


def _state(path: Path) -> dict[str, int]:
    try:
        state = path.stat()
    except OSError:
        return {"size": -1, "mtime_ns": -1}
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _is_finished(row: Mapping[str, Any], state: Mapping[str, int], out: Path, allow_burned_in: bool) -> bool:
    unchanged = all(row.get(name) == value for name, value in state.items())
    return unchanged and (allow_burned_in or not row["burned_in"]) and (out / f"{row['image_id']}.dcm").is_file()


def _image_id(instance: str, path: Path, source: Path, pseudonymizer: Pseudonymizer, taken: set[str]) -> str:
    """Names the copy by the original's UID; a second file of the same UID by its place as well."""
    place = path.relative_to(source.absolute()).as_posix() if source.is_dir() else path.name
    image_id = pseudonymizer.of(instance or place)
    return pseudonymizer.of(f"{instance} {place}") if image_id in taken else image_id


def _write_copy(found: Deidentified, target: Path) -> None:
    try:
        with atomic_file(target) as partial:
            found.dataset.save_as(partial, enforce_file_format=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - as when reading
        raise _damaged(error) from None


def _damaged(error: Exception) -> ImageError:
    return refusal(
        "decode_failed", f"the DICOM data is damaged ({type(error).__name__}); export the image again from its source"
    )


def _audit_row(image_id: str, found: Deidentified) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    for entry in found.audit:
        totals[entry.action] += entry.times
    return {"image_id": image_id, "totals": dict(sorted(totals.items())), "actions": [e._asdict() for e in found.audit]}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; a stopped run may have left half a line at the end, which is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        rows = [None]
    if not all(isinstance(row, dict) and "image_id" in row for row in rows):
        raise DeidentificationError(f"{path}: is damaged; remove it and start again")
    return rows


def _append(path: Path, row: Mapping[str, Any], mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "w", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def _finish(
    out: Path,
    paths: Mapping[str, Mapping[str, Any]],
    audit: Mapping[str, Mapping[str, Any]],
    refused: Iterable[Mapping[str, Any]],
) -> None:
    """Writes the lists anew, sorted: the same files give the same lists, however often the run was stopped."""
    rows = sorted(paths.values(), key=lambda row: str(row["image_id"]))
    told = [audit[row["image_id"]] for row in rows if row["image_id"] in audit]
    for name, lines, mode in (
        (AUDIT_FILE, told, _PUBLIC_MODE),
        (PATHS_FILE, rows, _PRIVATE_MODE),
        (QUARANTINE_FILE, list(refused), _PRIVATE_MODE),
    ):
        with atomic_file(out / name, mode) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
