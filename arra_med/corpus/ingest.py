"""Ingestion: records and image files become a study set; what cannot be read goes to quarantine with its reason."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arra_med.corpus.decoding import DecodedView, DecodingPool, RefusedFile, default_num_workers
from arra_med.corpus.parquet import clear_disk_errors, progress_bar
from arra_med.corpus.study_set import FORMAT_VERSION, StudySetWriter, record_row
from arra_med.errors import StudySetError
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import require_card
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key
from arra_med.records.splits import assign_splits
from arra_med.records.study import StudyRecord
from arra_med.runs import atomic_file, sha256_json
from arra_med.sources import read_source

SHARD_STUDIES = 256
QUARANTINE_FILE = "quarantine.jsonl"
_QUARANTINE_MODE = 0o600  # it holds real paths
_QUARANTINE_COLUMNS = ("image_id", "reason", "message", "path", "shard")


@dataclass(frozen=True)
class IngestReport:
    """What became of every row of the input.

    Attributes:
        written: Rows of the study set.
        quarantined: Rows whose file could not be read; `quarantine.jsonl` says why.
        skipped: Rows that a rule left out.
        kept: Rows (of `written` and `quarantined`) whose shard was already there and was kept.
        reasons: Quarantined rows by reason.
        skip_reasons: Skipped rows by rule.
    """

    written: int
    quarantined: int
    skipped: int
    kept: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    skip_reasons: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows of the input: nothing vanishes."""
        return self.written + self.quarantined + self.skipped


def ingest(
    source: Path,
    out: Path,
    spec: CanonicalView,
    *,
    redistributable_only: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> IngestReport:
    """Reads studies and writes their canonical views and records as a study set.

    Finished shards whose input files and settings are unchanged are kept, so that a stopped run goes on where it was.

    Args:
        source: A manifest, a folder with one, or a folder of DICOM files or images.
        out: Folder of the study set.
        spec: The canonical view; rows of another modality are skipped.
        redistributable_only: Whether to skip rows from which no open weights may be trained.
        workers: Decoding processes; `None` is one for each processor, 0 decodes in this process (trusted files only).
        limit: Takes only the first rows that no other rule leaves out.
        progress: Whether to show a progress bar.

    Raises:
        ManifestError: If the table is not valid or a patient stands in two splits.
        CardError: If a source has no data card.
        StudySetError: If no row is left, no image can be read, or `out` cannot be written.
    """
    pseudonymizer = Pseudonymizer(load_or_create_key())
    records = assign_splits(read_source(source, modality=spec.modality, pseudonymizer=pseudonymizer))
    chosen, skip_reasons = _choose(records, spec, redistributable_only, limit)
    for name in sorted({record.source for record in chosen}):
        require_card(name)
    shards = [chosen[start : start + SHARD_STUDIES] for start in range(0, len(chosen), SHARD_STUDIES)]
    fingerprints = [_fingerprint(shard, spec, pseudonymizer) for shard in shards]
    num_workers = default_num_workers() if workers is None else workers
    with clear_disk_errors(StudySetError, out):
        out.mkdir(parents=True, exist_ok=True)
        writer = StudySetWriter(out, spec)
        quarantine = _Quarantine(out / QUARANTINE_FILE)
        unfinished = []
        for index, fingerprint in enumerate(fingerprints):
            num_quarantined = writer.finished_quarantined(index, fingerprint)
            if num_quarantined is None or num_quarantined != quarantine.count(fingerprint):
                unfinished.append(index)
        quarantine.keep(set(fingerprints) - {fingerprints[index] for index in unfinished})
        num_kept = len(chosen) - sum(len(shards[index]) for index in unfinished)
        if unfinished:
            writer.begin()
            with (
                progress_bar("reading studies", len(chosen), progress) as advance,
                DecodingPool(spec, min(num_workers, len(chosen))) as pool,
            ):
                advance(num_kept)
                for index in unfinished:
                    rows, refused = _decode_shard(shards[index], pool, pseudonymizer, advance)
                    # quarantine first: a finished shard never lacks its reasons
                    quarantine.add([{**row, "shard": fingerprints[index]} for row in refused])
                    writer.write_shard(index, rows, fingerprints[index], len(refused))
        reasons = quarantine.reasons()
        info = writer.finish(
            fingerprints,
            num_quarantined=sum(reasons.values()),
            skipped=skip_reasons,
            redistributable_only=redistributable_only,
        )
    return IngestReport(
        written=info.num_studies,
        quarantined=info.num_quarantined,
        skipped=sum(skip_reasons.values()),
        kept=num_kept,
        reasons=reasons,
        skip_reasons=skip_reasons,
    )


class _Quarantine:
    """The file of refused images: one JSON object a line, readable by its owner alone, because it holds real paths."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.exists():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                self.rows = [{name: row[name] for name in _QUARANTINE_COLUMNS} for row in map(json.loads, lines)]
            except (ValueError, TypeError, KeyError):
                raise StudySetError(f"{path}: is damaged; remove it and ingest again") from None

    def count(self, fingerprint: str) -> int:
        return sum(row["shard"] == fingerprint for row in self.rows)

    def keep(self, fingerprints: set[str]) -> None:
        self._write([row for row in self.rows if row["shard"] in fingerprints])

    def add(self, rows: Iterable[dict[str, str]]) -> None:
        self._write([*self.rows, *rows])

    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(row["reason"] for row in self.rows).items()))

    def _write(self, rows: list[dict[str, str]]) -> None:
        if rows != self.rows:
            with atomic_file(self.path, _QUARANTINE_MODE) as partial:
                partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.rows = rows


def _choose(
    records: Sequence[StudyRecord], spec: CanonicalView, redistributable_only: bool, limit: int | None
) -> tuple[list[StudyRecord], dict[str, int]]:
    chosen: list[StudyRecord] = []
    skipped: Counter[str] = Counter()
    for record in records:
        if record.modality != spec.modality:
            skipped["other_modality"] += 1
        elif redistributable_only and not record.redistributable:
            skipped["not_redistributable"] += 1
        elif limit is not None and len(chosen) >= limit:
            skipped["over_limit"] += 1
        else:
            chosen.append(record)
    if not chosen:
        why = ", ".join(f"{rule}: {count}" for rule, count in sorted(skipped.items())) or "the input is empty"
        raise StudySetError(f"no {spec.modality} study is left to ingest ({why}); choose another source or modality")
    return chosen, dict(sorted(skipped.items()))


def _fingerprint(shard: Sequence[StudyRecord], spec: CanonicalView, pseudonymizer: Pseudonymizer) -> str:
    """Returns a keyed hash of all that decides a shard: records, the files' sizes and times, view, format, key."""
    rows = [[record.model_dump(mode="json"), *_file_state(Path(record.path))] for record in shard]
    told = {"rows": rows, "spec": spec.model_dump(mode="json"), "format_version": FORMAT_VERSION}
    return pseudonymizer.of(sha256_json(told))


def _file_state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _decode_shard(
    shard: Sequence[StudyRecord], pool: DecodingPool, pseudonymizer: Pseudonymizer, advance: Callable[[int], None]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Returns the study set's rows and the quarantine's rows of a shard, both in the order of the records."""
    outcomes: dict[int, DecodedView | RefusedFile] = {}
    for position, outcome in pool.decode([record.path for record in shard]):
        outcomes[position] = outcome
        advance(1)
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for position, record in enumerate(shard):
        outcome = outcomes[position]
        if isinstance(outcome, DecodedView):
            row = record_row(record, pseudonymizer.of(f"{record.source}/{record.patient_id}"))
            rows.append({**row, "view_png": outcome.png, "view_sha256": outcome.sha256})
        else:
            told = {"image_id": record.image_id, "reason": outcome.reason, "message": outcome.message}
            refused.append({**told, "path": record.path})
    return rows, refused
