"""What an ingestion would do with each file, and why, without writing a study set."""

import csv
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from arra_med.corpus.decoding import DecodedView, DecodingPool, DecodingSettings, default_num_workers
from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.selection import pseudonymous_records, select_records
from arra_med.errors import StudySetError
from arra_med.imaging.perceptual_hash import DEFAULT_MAX_DISTANCE, NearDuplicates
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key
from arra_med.records.splits import assign_splits
from arra_med.records.study import StudyRecord
from arra_med.runs import atomic_file, write_json
from arra_med.sources import Layout, read_layout

Outcome = Literal["written", "quarantined", "left_out"]

_LOCAL_MODE = 0o600  # one row for each file of an archive
_WORDS: dict[Outcome, str] = {
    "written": "would be written",
    "quarantined": "would go to quarantine",
    "left_out": "would be left out",
}


@dataclass(frozen=True)
class DryRunRow:
    """What would become of one image.

    Attributes:
        image_id: Its key in the study set; a keyed hash where the source has none of its own. Never a path.
        outcome: `written`, `quarantined` or `left_out`.
        reason: Of the quarantine, or the rule that leaves it out; empty for what would be written.
        message: The reason in words.
        view: Projection of a chest radiograph, as far as it is known.
        split: The part of the data it would be in.
        flags: What was decided or noticed when it was read.
    """

    image_id: str
    outcome: Outcome
    reason: str
    message: str
    view: str
    split: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class DryRunReport:
    """What would become of every row of the input.

    Attributes:
        rows: In the order of the input, those left out last.
        num_unread: Images that a rule would take but the sample did not; nothing is known of them.
    """

    rows: tuple[DryRunRow, ...]
    num_unread: int = 0

    def count(self, outcome: Outcome) -> dict[str, int]:
        """Returns the number of images with an outcome by reason, the most frequent first."""
        counts = Counter(row.reason for row in self.rows if row.outcome == outcome)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def lines(self) -> list[str]:
        """Returns a table of counts by outcome and reason, then one of flags, for a terminal."""
        told = []
        for outcome, words in _WORDS.items():
            counts = self.count(outcome)
            if counts or outcome == "written":
                told.append(f"{sum(counts.values()):>9,}  {words}")
            told += [f"{count:>9,}    {reason}" for reason, count in counts.items() if reason]
        if self.num_unread:
            told.append(f"{self.num_unread:>9,}  not in the sample")
        flags = Counter(flag for row in self.rows for flag in row.flags)
        told += ["flags of what would be written:"] if flags else []
        told += [
            f"{count:>9,}    {flag}" for flag, count in sorted(flags.items(), key=lambda item: (-item[1], item[0]))
        ]
        return told

    def write_json(self, path: Path) -> None:
        """Writes counts and rows as JSON, atomically, readable by the owner alone."""
        counts = {outcome: self.count(outcome) for outcome in _WORDS}
        write_json(
            path,
            {"counts": counts, "num_unread": self.num_unread, "files": [asdict(row) for row in self.rows]},
            _LOCAL_MODE,
        )

    def write_table(self, path: Path) -> None:
        """Writes the rows as CSV, atomically, readable by the owner alone; flags are separated by blanks."""
        with atomic_file(path, _LOCAL_MODE) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(field.name for field in fields(DryRunRow))
            for row in self.rows:
                table.writerow((asdict(row) | {"flags": " ".join(row.flags)}).values())


def dry_run(
    source: Path,
    settings: DecodingSettings,
    *,
    layout: Layout | None = None,
    redistributable_only: bool = False,
    duplicate_distance: int | None = DEFAULT_MAX_DISTANCE,
    drop_duplicates: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DryRunReport:
    """Reads and decodes what `ingest` would, the same way, and tells what would become of it.

    Args:
        source: As for `ingest`.
        settings: As for `ingest`.
        layout: As for `ingest`.
        redistributable_only: As for `ingest`.
        duplicate_distance: As for `ingest`.
        drop_duplicates: As for `ingest`; duplicates are looked for among the images that are read.
        workers: Decoding processes; `None` is one for each processor, 0 decodes in this process (trusted files only).
        limit: As for `ingest`.
        sample: Reads only that many images, drawn by seed from those that no rule leaves out.
        seed: Of the sample.
        progress: Whether to show a progress bar.

    Raises:
        ManifestError: If the table is not valid or a patient stands in two splits.
        CardError: If a source has no data card.
        StudySetError: If no row is left, or `sample` is not positive.
    """
    if sample is not None and sample < 1:
        raise StudySetError(f"sample is {sample}; a dry run reads at least 1 image")
    pseudonymizer = Pseudonymizer(load_or_create_key())
    reading = read_layout(source, layout=layout, modality=settings.spec.modality, pseudonymizer=pseudonymizer)
    selection = select_records(
        assign_splits(reading.records), settings.spec, redistributable_only=redistributable_only, limit=limit
    )
    read = _sampled(list(pseudonymous_records(selection.chosen, pseudonymizer)), sample, seed)
    num_workers = min(default_num_workers() if workers is None else workers, len(read))
    rows: dict[int, DryRunRow] = {}
    hashes: dict[int, int] = {}
    file_key = pseudonymizer.of("file contents").encode()
    with (
        progress_bar("reading studies", len(read), progress) as advance,
        DecodingPool(settings, num_workers, file_key) as pool,
    ):
        for position, outcome in pool.decode(record.path for record in read):
            if isinstance(outcome, DecodedView):
                rows[position] = _row(read[position], "written", flags=outcome.flags)
                hashes[position] = outcome.perceptual_hash
            else:
                rows[position] = _row(read[position], "quarantined", outcome.reason, outcome.message)
            advance(1)
    if drop_duplicates and duplicate_distance is not None:
        for position, first in _duplicates(hashes, duplicate_distance):
            message = f"shows the same picture as {read[first].image_id}, an earlier image"
            rows[position] = _row(read[position], "quarantined", "duplicate", message)
    left_out = [_row(record, "left_out", rule) for record, rule in selection.left_out]
    ordered = [rows[position] for position in range(len(read))]
    return DryRunReport((*ordered, *left_out), num_unread=len(selection.chosen) - len(read))


def _sampled(records: Sequence[StudyRecord], sample: int | None, seed: int) -> Sequence[StudyRecord]:
    if sample is None or sample >= len(records):
        return records
    return [records[index] for index in sorted(random.Random(seed).sample(range(len(records)), sample))]


def _duplicates(hashes: dict[int, int], max_distance: int) -> list[tuple[int, int]]:
    """Returns (position of an image, position of the first one with the same picture)."""
    positions = sorted(hashes)
    found = NearDuplicates(max_distance).add([hashes[position] for position in positions])
    return [(positions[pair.index], positions[pair.index_of_first]) for pair in found]


def _row(
    record: StudyRecord, outcome: Outcome, reason: str = "", message: str = "", flags: tuple[str, ...] = ()
) -> DryRunRow:
    return DryRunRow(record.image_id, outcome, reason, message, record.view or "", record.split or "", flags)
