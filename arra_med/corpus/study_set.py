"""The study set: records and their canonical views, losslessly encoded, in Parquet shards.

A folder of shards and `study_set.json`, which is written last: a folder without it is unfinished. No file path and no
patient identifier stands in it; `patient_hash` is a keyed hash. `image_id` is the key of everything that follows, so
it must not identify anyone: the readers in `arra_med.sources` make one up where a source has none.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from arra_med.config import StrictModel
from arra_med.corpus.description import read_description, write_description
from arra_med.corpus.duplicates import read_duplicates, write_duplicates
from arra_med.corpus.folds import PatientFold, takes
from arra_med.corpus.parquet import is_finished, iter_rows, open_dataset, shard_path, shard_paths
from arra_med.corpus.study_rows import RECORD_FIELDS, STUDY_SCHEMA, decode_png, record_of, row_digest
from arra_med.errors import StudySetError
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import LicenceClass, require_card, row_licence_class, strictest_licence_class
from arra_med.records.study import Split, StudyRecord
from arra_med.runs import versions

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 names its shards by number, and its rows tell nothing of flags, quality or the files they come from."""

DESCRIPTION_FILE = "study_set.json"


class StudySetInfo(StrictModel):
    """What `study_set.json` says.

    Attributes:
        format_version: Of this file and the shards.
        spec: The canonical view all images share.
        num_studies: Rows of the set.
        num_quarantined: Files that could not be read; `quarantine.jsonl` holds their reasons.
        skipped: Rows of the input that a rule left out, by rule.
        redistributable_only: Whether only redistributable rows were taken.
        rules: What the run allowed when it read files.
        key_id: Names the key of the hashes without giving it away.
        flags: Number of rows by what was noticed about their images.
        duplicate_distance: Bits in which the perceptual hashes of duplicates may differ; `None` if nobody looked.
        num_duplicates: Images that show the same as an earlier one; `duplicates.jsonl` lists them.
        drops_duplicates: Whether they do not belong to the set, although their rows stand in the shards.
        counts: Number of rows by split, source, view, report kind and label.
        sources: Data cards that stand behind the rows.
        licence_class: The strictest class of any row.
        attributions: Words to show beside the images, by source.
        shards: Fingerprint of every shard: a keyed hash of its input files and settings.
        content_sha256: Identifies records and pixels, whoever ingested them and whichever key hashed the patients.
        versions: Of Python and the libraries that decoded the files.
    """

    format_version: int
    spec: CanonicalView
    num_studies: int
    num_quarantined: int
    skipped: dict[str, int]
    redistributable_only: bool
    rules: ReadingRules = ReadingRules()
    key_id: str | None = None
    flags: dict[str, int] = Field(default_factory=dict)
    duplicate_distance: int | None = None
    num_duplicates: int = 0
    drops_duplicates: bool = False
    counts: dict[str, dict[str, int]]
    sources: tuple[str, ...]
    licence_class: LicenceClass
    attributions: dict[str, tuple[str, ...]]
    shards: tuple[str, ...]
    content_sha256: str
    versions: dict[str, str]


_COUNTED = ("split", "source", "view", "laterality", "age_group", "report_kind")


def study_shard_path(folder: Path, fingerprint: str) -> Path:
    """Returns the path of the shard with a fingerprint."""
    return folder / f"shard-{fingerprint}.parquet"


def finish_study_set(
    folder: Path,
    fingerprints: Sequence[str],
    *,
    spec: CanonicalView,
    num_quarantined: int,
    skipped: dict[str, int],
    redistributable_only: bool = False,
    rules: ReadingRules | None = None,
    key_id: str | None = None,
    duplicates: Mapping[str, str] | None = None,
    duplicate_distance: int | None = None,
    drop_duplicates: bool = False,
) -> StudySetInfo:
    """Counts the rows, writes `study_set.json`, which makes the set complete, and removes shards of an earlier set.

    Rows are streamed: memory does not grow with their number.

    Args:
        folder: Where the shards lie.
        fingerprints: The shards of the set, in order.
        spec: The canonical view of all rows.
        num_quarantined: Files that could not be read, and duplicates that are dropped.
        skipped: Rows of the input that a rule left out, by rule.
        redistributable_only: Whether only redistributable rows were taken.
        rules: What the run allowed when it read files.
        key_id: Of the key of the hashes.
        duplicates: Images that show the same as an earlier one, each with that one.
        duplicate_distance: How they were found.
        drop_duplicates: Whether they do not belong to the set.

    Raises:
        StudySetError: If no row is left.
    """
    files = [study_shard_path(folder, fingerprint) for fingerprint in fingerprints]
    duplicates = duplicates or {}
    dropped = duplicates if drop_duplicates else {}
    tally = _Tally()
    for row in iter_rows(files, [name for name in STUDY_SCHEMA.names if name != "view_png"]):
        if row["image_id"] not in dropped:
            tally.add(row)
    if not tally.num_rows:
        raise StudySetError(f"{folder}: no image could be read ({num_quarantined} in quarantine); see why there")
    info = StudySetInfo(
        format_version=FORMAT_VERSION,
        spec=spec,
        num_studies=tally.num_rows,
        num_quarantined=num_quarantined,
        skipped=skipped,
        redistributable_only=redistributable_only,
        rules=rules or ReadingRules(),
        key_id=key_id,
        flags=dict(sorted(tally.flags.items())),
        duplicate_distance=duplicate_distance,
        num_duplicates=len(duplicates),
        drops_duplicates=drop_duplicates,
        counts={column: dict(sorted(counter.items())) for column, counter in tally.counts.items()},
        sources=tuple(sorted(tally.attributions)),
        licence_class=strictest_licence_class(row_licence_class(require_card(s), free) for s, free in tally.terms),
        attributions={source: tuple(sorted(words - {""})) for source, words in sorted(tally.attributions.items())},
        shards=tuple(fingerprints),
        content_sha256=tally.content_sha256,
        versions=versions(),
    )
    write_duplicates(folder, duplicates)
    write_description(folder / DESCRIPTION_FILE, info)
    for stale in set(shard_paths(folder)) - set(files):
        stale.unlink()
    return info


class _Tally:
    """What one pass over the rows of a set counts."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.counts: dict[str, Counter[str]] = {column: Counter() for column in (*_COUNTED, "label")}
        self.flags: Counter[str] = Counter()
        self.terms: set[tuple[str, bool]] = set()
        self.attributions: dict[str, set[str]] = {}
        self._digest = hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        for column in _COUNTED:
            self.counts[column][row[column] or "unknown"] += 1
        self.counts["label"].update(row["labels"] or ["unknown"])
        self.flags.update(row["flags"])
        self.terms.add((row["source"], row["redistributable"]))
        self.attributions.setdefault(row["source"], set()).add(row["attribution"])
        self._digest.update(f'{"," if self.num_rows else "["}"{row_digest(row)}"'.encode())
        self.num_rows += 1

    @property
    def content_sha256(self) -> str:
        """The SHA-256 of the JSON list of all rows' digests."""
        whole = self._digest.copy()
        whole.update(b"]")
        return whole.hexdigest()


def read_study_set_info(folder: Path) -> StudySetInfo:
    """Reads `study_set.json`.

    Raises:
        StudySetError: If it is missing, damaged or of a format version that this program does not read.
    """
    return read_description(
        folder / DESCRIPTION_FILE,
        StudySetInfo,
        format_versions=READABLE_VERSIONS,
        what="study set",
        command="arra-med ingest SOURCE --out FOLDER",
        error=StudySetError,
    )


def finished_shards(folder: Path, info: StudySetInfo) -> list[Path]:
    """Returns the shards of a finished set, in order.

    Raises:
        StudySetError: If one is missing, damaged, or comes from another ingestion.
    """
    files = []
    for index, fingerprint in enumerate(info.shards):
        by_number = info.format_version == 1
        file = shard_path(folder, index) if by_number else study_shard_path(folder, fingerprint)
        if not is_finished(file, fingerprint):
            raise StudySetError(
                f"{folder}: {file.name} is missing, damaged or from another ingestion; run arra-med ingest into this "
                "folder again"
            )
        files.append(file)
    return files


class StudySet:
    """A finished study set, or a selection of it.

    Attributes:
        info: What `study_set.json` says of the whole set.
        dataset: The rows, memory-mapped, with the columns of `STUDY_SCHEMA`.
    """

    def __init__(self, folder: Path, info: StudySetInfo, dataset: "Dataset") -> None:
        self.folder = folder
        self.info = info
        self.dataset = dataset

    @classmethod
    def open(cls, folder: Path) -> "StudySet":
        """Opens the set in `folder`.

        Raises:
            StudySetError: If the folder holds no finished set, or one whose shards are missing, damaged or mixed.
        """
        info = read_study_set_info(folder)
        files = finished_shards(folder, info)
        try:
            dataset = open_dataset(files, folder)
        except OSError as error:
            raise StudySetError(f"{folder}: cannot be read ({error.strerror or 'damaged'}); ingest again") from None
        if info.drops_duplicates:
            dropped = read_duplicates(folder, info.num_duplicates)
            dataset = dataset.select([i for i, name in enumerate(dataset["image_id"]) if name not in dropped])
        return cls(folder, info, dataset)

    @property
    def spec(self) -> CanonicalView:
        """The canonical view of every image."""
        return self.info.spec

    @property
    def content_sha256(self) -> str:
        """Identifies the whole set (not the selection); corpora and features record it."""
        return self.info.content_sha256

    @property
    def duplicates(self) -> dict[str, str]:
        """Images that show the same picture as an earlier one, each with that one; see `info.drops_duplicates`."""
        return read_duplicates(self.folder, self.info.num_duplicates)

    @property
    def image_ids(self) -> list[str]:
        """The keys of the rows, in order."""
        return list(self.dataset["image_id"])

    def __len__(self) -> int:
        return len(self.dataset)

    def records(self) -> list[StudyRecord]:
        """Returns the rows' records, in order; `path` is empty and `patient_id` is the patient's hash."""
        rows = self.dataset.select_columns([name for name, _ in RECORD_FIELDS])
        return [record_of(row) for row in rows]

    def view(self, index: int) -> np.ndarray:
        """Returns the view of a row as uint8 (C, S, S)."""
        return decode_png(self.dataset[index]["view_png"])

    def select(
        self,
        *,
        split: Split | None = None,
        redistributable_only: bool = False,
        sources: Sequence[str] = (),
        fold: PatientFold | None = None,
    ) -> "StudySet":
        """Returns the rows of one split, of some sources and of one fold of patients, in the same order.

        Args:
            split: `None` takes all.
            redistributable_only: Only rows that may be passed on.
            sources: Empty takes all.
            fold: `None` takes every patient.
        """
        wanted = [
            index
            for index, record in enumerate(self.records())
            if split in (None, record.split)
            and (record.redistributable or not redistributable_only)
            and takes(record, sources, fold)
        ]
        return StudySet(self.folder, self.info, self.dataset.select(wanted))
