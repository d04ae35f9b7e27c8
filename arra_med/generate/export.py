"""Writing images so that nobody, person or machine, can take them for real ones.

Each image is written in the formats asked for (PNG, DICOM Secondary Capture), with a JSON record of what made it beside
it. The files say in their metadata that they are synthetic (`export_png`, `export_dicom`), and so do the pixels
(`marks`).
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from arra_med.errors import GenerationError
from arra_med.generate.content_credentials import ContentSigner
from arra_med.generate.export_dicom import NewSeries, secondary_capture, write_secondary_capture
from arra_med.generate.export_png import read_provenance, write_png
from arra_med.generate.marks import EDITED_SOURCE_TYPE, Marks
from arra_med.generate.session import GenerationResult
from arra_med.runs import atomic_file, write_json

__all__ = [
    "ExportChoice",
    "ImageFormat",
    "SeriesPart",
    "image_formats",
    "image_provenance",
    "read_provenance",
    "save_images",
]

ImageFormat = Literal["png", "dicom"]

_SUFFIXES: dict[ImageFormat, str] = {"png": ".png", "dicom": ".dcm"}
_RECORD_KEYS: dict[ImageFormat, str] = {"png": "file", "dicom": "dicom_file"}
_ALL_MARKS = Marks()


class ExportChoice(NamedTuple):
    """How the images of a table are written; as `save_images` takes it.

    Attributes:
        format: `png`, or `png,dicom`.
        include_report: Also store report and prompt in the JSON records; a real report is sensitive.
        marks: What to draw into the pixels.
    """

    format: str = "png"
    include_report: bool = False
    marks: Marks = _ALL_MARKS


class SeriesPart(NamedTuple):
    """Where images stand that are written in several calls, as if it were one.

    Attributes:
        series: Of all their DICOM files.
        num_before: Images written before.
        total: Images of all calls.
    """

    series: NewSeries
    num_before: int
    total: int


def save_images(
    result: GenerationResult,
    folder: Path,
    format: str = "png",  # noqa: A002 (the command line's word)
    *,
    name: str | None = None,
    replace: bool = True,
    include_report: bool = False,
    marks: Marks = _ALL_MARKS,
    signer: ContentSigner | None = None,
    part: SeriesPart | None = None,
) -> list[Path]:
    """Writes each image and its provenance, whole or not at all.

    Files are named by modality and seed, never by the prompt; beside a name that was given stands the seed that was asked
    for, so that whoever plans a file knows where it will lie, whatever a check replaces. A file of the same image is written anew; beside another
    one of that name the new one gets a number. All DICOM files of a call, or of the calls that share a series, form one
    series of one study, whose patient and UIDs are new.

    Args:
        result: The images.
        folder: Where to; made if missing.
        format: `png`, `dicom`, or both with a comma between them.
        name: What stands between modality and seed in the files' names.
        replace: Whether files of a name that was given are replaced; else they count as without one.
        include_report: Also store report and prompt in the JSON file; a real report is sensitive.
        marks: What to draw into the pixels. Draw nothing for images that are to be judged or read blind.
        signer: Gives each PNG its content credentials.
        part: What these images are a part of; none: they are the whole.

    Returns:
        For each image its files in the order png, dicom, JSON record.

    Raises:
        GenerationError: If a format is unknown or says too much of an edited file, the folder cannot be written, or the signer's certificate fails.
    """
    formats = image_formats(format)
    is_edited_file = result.provenance["digital_source_type"] == EDITED_SOURCE_TYPE
    if is_edited_file and "dicom" in formats:
        raise GenerationError(
            "an edit of a file is written as PNG alone: a DICOM file of ours says that nothing in it is of a patient"
        )
    mode = 0o600 if is_edited_file else 0o644  # what was edited may show a patient
    series, num_complete, total = part or SeriesPart(NewSeries.fresh(), 0, len(result.images))
    written: list[Path] = []
    try:
        for index in range(len(result.images)):
            picture, drawn = marks.draw(result.images[index])
            provenance = {**image_provenance(result, index, picture), "marks": drawn}
            seed = result.asked_seed(index) if name else result.seed(index)
            words = image_stem(result.request.modality, seed, name)
            stem = folder / words if name and replace else _free_stem(folder, words, provenance)
            for kind in formats:
                with atomic_file(_file(stem, kind), mode) as partial:
                    if kind == "png":
                        write_png(partial, picture, provenance)
                        if signer is not None:
                            signer.sign(partial, provenance)
                    else:
                        write_secondary_capture(
                            partial, secondary_capture(picture, provenance, series, num_complete + 1)
                        )
            files = {_RECORD_KEYS[kind]: _file(stem, kind).name for kind in formats}
            report = {"report": result.request.report, "prompt": result.prompt.text} if include_report else {}
            write_json(_record(stem), {**files, **provenance, **report}, mode)
            written += [*(_file(stem, kind) for kind in formats), _record(stem)]
            num_complete += 1
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise GenerationError(
            f"{folder}: an image cannot be written there ({reason}); {num_complete} of {total} are "
            "complete: free some space or choose another folder"
        ) from error
    return written


def image_formats(words: str) -> tuple[ImageFormat, ...]:
    """Reads formats such as `png,dicom`, each once and in the order of the files.

    Raises:
        GenerationError: If one is unknown.
    """
    asked = [word.strip().lower() for word in words.split(",")]
    for word in asked:
        if word not in _SUFFIXES:
            raise GenerationError(f"image format {word!r} is unknown: use png, dicom or png,dicom")
    return tuple(name for name in _SUFFIXES if name in asked)


def image_stem(modality: str, seed: int, name: str | None = None) -> str:
    """Returns the name of an image's files, without suffix."""
    return "_".join(["arra-med", modality, *([name] if name else []), f"seed{seed:04d}"])


def image_provenance(result: GenerationResult, index: int, picture: np.ndarray) -> dict[str, Any]:
    """Returns what made one image: the result's provenance, its seed, the SHA-256 of its pixels (C order), its details and check."""
    pixels = hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()
    check = {"check": {**result.checked[index].record(), **result.check}} if result.checked else {}
    details = result.details[index] if result.details else {}
    return {**result.provenance, "seed": result.seed(index), "pixels_sha256": pixels, **details, **check}


def _file(stem: Path, name: ImageFormat) -> Path:
    return stem.with_name(stem.name + _SUFFIXES[name])


def _record(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.json")


def _free_stem(folder: Path, name: str, provenance: dict[str, Any]) -> Path:
    """Returns the first path, without suffix, where nothing lies but files of the same image."""
    for stem in _candidates(folder, name):
        png, record = _file(stem, "png"), _record(stem)
        if png.exists():
            if read_provenance(png) == provenance:
                return stem
        elif record.exists():
            if _holds(record, provenance):
                return stem
        elif not _file(stem, "dicom").exists():
            return stem
    raise AssertionError("candidates never end")


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    number = 2
    while True:
        yield folder / f"{name}_{number}"
        number += 1


def _holds(record: Path, provenance: dict[str, Any]) -> bool:
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and {key: told.get(key) for key in provenance} == provenance
