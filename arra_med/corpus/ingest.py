"""Ingestion: records and image files become a study set; what cannot be read goes to quarantine with its reason."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arra_med.corpus.decoding import DecodingSettings, default_num_workers
from arra_med.corpus.duplicates import find_duplicates
from arra_med.corpus.engine import LOCAL, EngineChoice, require_visible, run_shards
from arra_med.corpus.ingest_plan import PlannedShard, changed_files, plan_shards, unfinished_shards
from arra_med.corpus.parquet import clear_disk_errors, clear_leftovers, progress_bar
from arra_med.corpus.selection import pseudonymous_records, select_records
from arra_med.corpus.study_set import DESCRIPTION_FILE, finish_study_set, read_study_set_info, study_shard_path
from arra_med.corpus.study_shards import ShardDecoder, StudyShard, read_refusals
from arra_med.errors import StudySetError
from arra_med.imaging.perceptual_hash import DEFAULT_MAX_DISTANCE
from arra_med.imaging.view import CanonicalView
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key, require_key_id
from arra_med.records.splits import assign_splits
from arra_med.runs import atomic_file
from arra_med.sources import Layout, read_layout

QUARANTINE_FILE = "quarantine.jsonl"
SOURCE_NOTES_FILE = "source_notes.jsonl"
DUPLICATE = "duplicate"
_LOCAL_MODE = 0o600  # real paths


@dataclass(frozen=True)
class IngestReport:
    """What became of every row of the input.

    Attributes:
        written: Rows of the study set.
        quarantined: Rows whose file could not be read, or repeats another one; `quarantine.jsonl` says why.
        skipped: Rows that a rule left out.
        kept: Rows (of `written` and `quarantined`) that were there already and whose file was not read again.
        reasons: Quarantined rows by reason.
        skip_reasons: Skipped rows by rule.
        notes: What the source holds that its records do not tell, by kind; `source_notes.jsonl` lists it.
        num_duplicates: Images that show the same as an earlier one; `duplicates.jsonl` lists them.
    """

    written: int
    quarantined: int
    skipped: int
    kept: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    skip_reasons: dict[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    num_duplicates: int = 0

    @property
    def total(self) -> int:
        """Rows of the input: nothing vanishes."""
        return self.written + self.quarantined + self.skipped


def ingest(
    source: Path,
    out: Path,
    settings: CanonicalView | DecodingSettings,
    *,
    layout: Layout | None = None,
    redistributable_only: bool = False,
    duplicate_distance: int | None = DEFAULT_MAX_DISTANCE,
    drop_duplicates: bool = False,
    verify: bool = False,
    engine: EngineChoice = LOCAL,
    workers: int | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> IngestReport:
    """Reads studies and writes their canonical views and records as a study set.

    An image that is there already, whose file has the same size and time of change and is to be read the same way, is
    not read again: a stopped run goes on where it was, and a grown folder costs only its new files.

    Args:
        source: A manifest, a folder of a known layout, or any folder of DICOM files or images.
        out: Folder of the study set; under Ray it and the source lie where every machine sees them.
        settings: What the files are read as (rows of another modality are skipped), and the limits of their decoders.
        layout: Of the folder; by default what its files tell.
        redistributable_only: Whether to skip rows from which no open weights may be trained.
        duplicate_distance: Bits in which the perceptual hashes of duplicates may differ; `None` does not look for them.
        drop_duplicates: Whether duplicates go to quarantine; by default they are only listed.
        verify: Whether to compare the content of every file with what was read, not its size and time alone.
        engine: Where files are decoded.
        workers: Decoding processes (of a cluster: actors); `None` is one for each processor, 0 decodes in this process
            (trusted files only).
        limit: Takes only the first rows that no other rule leaves out.
        progress: Whether to show progress bars.

    Raises:
        ManifestError: If the table is not valid or a patient stands in two splits.
        CardError: If a source has no data card.
        ConfigError: If `out` was made with another pseudonym key.
        EngineError: If there is no such cluster, or its machines do not see the same files.
        StudySetError: If no row is left, no image can be read, or `out` cannot be written.
    """
    if isinstance(settings, CanonicalView):
        settings = DecodingSettings(spec=settings)
    pseudonymizer = Pseudonymizer(load_or_create_key())
    if (out / DESCRIPTION_FILE).exists() and (key_id := read_study_set_info(out).key_id):
        require_key_id(pseudonymizer, key_id, out)
    reading = read_layout(source, layout=layout, modality=settings.spec.modality, pseudonymizer=pseudonymizer)
    notes = [{"kind": str(note.kind), "path": note.path} for note in reading.notes]
    num_notes = {str(kind): count for kind, count in reading.counts.items()}
    records = assign_splits(reading.records)
    del reading
    selection = select_records(records, settings.spec, redistributable_only=redistributable_only, limit=limit)
    skip_reasons = selection.rules
    planned = plan_shards(pseudonymous_records(selection.chosen, pseudonymizer), settings, pseudonymizer)
    del records, selection  # what is planned holds all that is needed, in little memory
    with clear_disk_errors(StudySetError, out):
        out.mkdir(parents=True, exist_ok=True)
        _write_local_list(out / SOURCE_NOTES_FILE, notes)
        file_key = pseudonymizer.of("file contents").encode()
        changed = _changed(out, planned, file_key, progress) if verify else frozenset()
        unfinished = unfinished_shards(out, planned, changed)
        num_kept = sum(shard.num_images for shard in planned)
        if unfinished:
            (out / DESCRIPTION_FILE).unlink(missing_ok=True)
            clear_leftovers(out)
            num_workers = default_num_workers() if workers is None else workers
            num_workers = 1 if engine.kind == "ray" else min(num_workers, num_kept)
            decoder = ShardDecoder(out, settings, num_workers, file_key, changed, on_cluster=engine.kind == "ray")
            num_kept -= _decode(decoder, out, planned, unfinished, engine, workers, progress)
        files = [study_shard_path(out, shard.fingerprint) for shard in planned]
        duplicates = {} if duplicate_distance is None else find_duplicates(files, duplicate_distance)
        reasons: Counter[str] = Counter()
        _write_local_list(
            out / QUARANTINE_FILE, _quarantine(out, planned, duplicates if drop_duplicates else {}, reasons)
        )
        info = finish_study_set(
            out,
            [shard.fingerprint for shard in planned],
            spec=settings.spec,
            num_quarantined=reasons.total(),
            skipped=skip_reasons,
            redistributable_only=redistributable_only,
            rules=settings.rules,
            key_id=pseudonymizer.key_id,
            duplicates=duplicates,
            duplicate_distance=duplicate_distance,
            drop_duplicates=drop_duplicates,
        )
    return IngestReport(
        written=info.num_studies,
        quarantined=info.num_quarantined,
        skipped=sum(skip_reasons.values()),
        kept=num_kept,
        reasons=dict(sorted(reasons.items())),
        skip_reasons=skip_reasons,
        notes=num_notes,
        num_duplicates=info.num_duplicates,
    )


def _changed(out: Path, planned: Sequence[PlannedShard], file_key: bytes, progress: bool) -> frozenset[str]:
    changed: set[str] = set()
    with progress_bar("comparing files", sum(shard.num_images for shard in planned), progress) as advance:
        for num_compared, others in changed_files(out, planned, file_key):
            changed |= others
            advance(num_compared)
    return frozenset(changed)


def _decode(
    decoder: ShardDecoder,
    out: Path,
    planned: Sequence[PlannedShard],
    unfinished: Sequence[PlannedShard],
    engine: EngineChoice,
    max_actors: int | None,
    progress: bool,
) -> int:
    """Writes the unfinished shards; returns the number of files that were read."""
    sizes = {shard.fingerprint: shard.num_images for shard in unfinished}
    num_images = sum(shard.num_images for shard in planned)
    num_read = 0
    with progress_bar("reading studies", num_images, progress) as advance:
        advance(num_images - sum(sizes.values()))
        tasks = [shard.packed for shard in unfinished]
        for done in run_shards(decoder, tasks, list(sizes.values()), advance, engine, max_actors=max_actors):
            require_visible(study_shard_path(out, done["fingerprint"]), done["fingerprint"])
            num_read += sizes[done["fingerprint"]] - done["reused"]
    return num_read


def _quarantine(
    out: Path, planned: Sequence[PlannedShard], dropped: Mapping[str, str], reasons: Counter[str]
) -> Iterator[dict[str, str]]:
    """Yields the rows of the quarantine file in the order of the input, and counts their reasons."""
    for shard in planned:
        told = {refusal.image_id: refusal for refusal in read_refusals(study_shard_path(out, shard.fingerprint))}
        if not told and not dropped:
            continue
        for entry in StudyShard.unpacked(shard.packed).entries:
            image_id = entry.record.image_id
            if image_id in told:
                reason, message = told[image_id].reason, told[image_id].message
            elif image_id in dropped:
                reason, message = DUPLICATE, f"shows the same picture as {dropped[image_id]}, an earlier image"
            else:
                continue
            reasons[reason] += 1
            yield {"image_id": image_id, "reason": reason, "message": message, "path": entry.record.path}


def _write_local_list(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Writes one JSON object a line, readable by its owner alone, because it holds real paths; no rows, no file."""
    empty = True
    with atomic_file(path, _LOCAL_MODE) as partial, partial.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row) + "\n")
            empty = False
    if empty:
        path.unlink()
