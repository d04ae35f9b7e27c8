"""The study set: records and their canonical views, losslessly encoded, in Parquet shards.

A folder of `shard-*.parquet` and `study_set.json`, which is written last: a folder without it is unfinished. No file
path and no patient identifier stands in it; `patient_hash` is a keyed hash. `image_id` is the key of everything that
follows, so it must not identify anyone: the readers in `arra_med.sources` make one up where a source has none.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
from PIL import Image

from arra_med.config import StrictModel
from arra_med.corpus.parquet import clear_cache, open_dataset, read_metadata, shard_path, shard_paths, write_table
from arra_med.errors import StudySetError
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import LicenceClass, require_card, row_licence_class, strictest_licence_class
from arra_med.records.study import Split, StudyRecord
from arra_med.runs import sha256_json, versions, write_json

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT_VERSION = 1
DESCRIPTION_FILE = "study_set.json"

RECORD_FIELDS = [
    ("image_id", pa.string()),
    ("patient_hash", pa.string()),
    ("source", pa.string()),
    ("modality", pa.string()),
    ("view", pa.string()),
    ("laterality", pa.string()),
    ("sex", pa.string()),
    ("age", pa.float64()),
    ("age_group", pa.string()),
    ("labels", pa.list_(pa.string())),
    ("report", pa.string()),
    ("report_kind", pa.string()),
    ("licence", pa.string()),
    ("redistributable", pa.bool_()),
    ("attribution", pa.string()),
    ("patient_known", pa.bool_()),
    ("split", pa.string()),
]
"""Columns of a record, the same in a study set and in a corpus."""

STUDY_SCHEMA = pa.schema([*RECORD_FIELDS, ("view_png", pa.binary()), ("view_sha256", pa.string())])


class StudySetInfo(StrictModel):
    """What `study_set.json` says.

    Attributes:
        format_version: Of this file and the shards.
        spec: The canonical view all images share.
        num_studies: Rows of the set.
        num_quarantined: Files that could not be read; `quarantine.jsonl` holds their reasons.
        skipped: Rows of the input that a rule left out, by rule.
        redistributable_only: Whether only redistributable rows were taken.
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
    counts: dict[str, dict[str, int]]
    sources: tuple[str, ...]
    licence_class: LicenceClass
    attributions: dict[str, tuple[str, ...]]
    shards: tuple[str, ...]
    content_sha256: str
    versions: dict[str, str]


def encode_png(view: np.ndarray) -> bytes:
    """Encodes a uint8 view (C, S, S), C = 1 or 3, as PNG: lossless."""
    stream = io.BytesIO()
    Image.fromarray(view[0] if view.shape[0] == 1 else view.transpose(1, 2, 0)).save(stream, format="PNG")
    return stream.getvalue()


def decode_png(png: bytes) -> np.ndarray:
    """Returns the uint8 view (C, S, S) that `encode_png` encoded."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def view_sha256(view: np.ndarray) -> str:
    """Returns the SHA-256 of a view's pixels (uint8, C order) and shape."""
    return hashlib.sha256(str(view.shape).encode() + np.ascontiguousarray(view).tobytes()).hexdigest()


def record_row(record: StudyRecord, patient_hash: str) -> dict[str, Any]:
    """Returns a record's columns: no path, and `patient_hash` in place of the patient's identifier."""
    values = record.model_dump(exclude={"path", "patient_id"})
    return {**values, "labels": list(record.labels), "patient_hash": patient_hash}


def record_of(row: Mapping[str, Any]) -> StudyRecord:
    """Returns the record of a row: `path` is empty and `patient_id` is the patient's hash."""
    values = {name: row[name] for name, _ in RECORD_FIELDS if name != "patient_hash"}
    return StudyRecord(**{**values, "labels": tuple(row["labels"])}, patient_id=row["patient_hash"])


def count_records(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Counts rows by split, source, view, laterality, age group, report kind and label; `unknown` where empty."""
    columns = ("split", "source", "view", "laterality", "age_group", "report_kind")
    counters: dict[str, Counter[str]] = {column: Counter() for column in (*columns, "label")}
    for row in rows:
        for column in columns:
            counters[column][row[column] or "unknown"] += 1
        counters["label"].update(row["labels"] or ["unknown"])
    return {column: dict(sorted(counter.items())) for column, counter in counters.items()}


def row_digest(row: Mapping[str, Any]) -> str:
    """Returns a hash of what a row says and shows, without the patient's hash, whose key is local."""
    told = {name: row[name] for name, _ in RECORD_FIELDS if name != "patient_hash"}
    return sha256_json({**told, "labels": list(row["labels"]), "view_sha256": row["view_sha256"]})


class StudySetWriter:
    """Writes a study set shard by shard; the set exists once `finish` has returned."""

    def __init__(self, folder: Path, spec: CanonicalView) -> None:
        self.folder = folder
        self.spec = spec

    def write_shard(
        self, index: int, rows: Sequence[Mapping[str, Any]], fingerprint: str, num_quarantined: int
    ) -> None:
        """Writes one shard, atomically.

        Args:
            index: Number of the shard, from 0.
            rows: Columns of `STUDY_SCHEMA`.
            fingerprint: Keyed hash of the shard's input and settings; the shard is kept while it stays the same.
            num_quarantined: Files of this shard that could not be read.
        """
        metadata = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "num_quarantined": num_quarantined}
        write_table(shard_path(self.folder, index), rows, STUDY_SCHEMA, metadata)

    def finished_quarantined(self, index: int, fingerprint: str) -> int | None:
        """Returns how many files a shard put into quarantine, or `None` if it has to be written (again)."""
        found = read_metadata(shard_path(self.folder, index))
        return int(found["num_quarantined"]) if found and found["fingerprint"] == fingerprint else None

    def begin(self) -> None:
        """Marks the set as unfinished before a shard of it changes."""
        (self.folder / DESCRIPTION_FILE).unlink(missing_ok=True)
        clear_cache(self.folder)

    def finish(
        self, fingerprints: Sequence[str], *, num_quarantined: int, skipped: dict[str, int], redistributable_only: bool
    ) -> StudySetInfo:
        """Removes shards of an earlier, longer set and writes `study_set.json`, which makes the set complete.

        Raises:
            StudySetError: If no row is left.
        """
        files = [shard_path(self.folder, index) for index in range(len(fingerprints))]
        for stale in set(shard_paths(self.folder)) - set(files):
            stale.unlink()
        told = [name for name in STUDY_SCHEMA.names if name != "view_png"]
        rows = [row for file in files for row in pq.read_table(file, columns=told).to_pylist()]
        if not rows:
            raise StudySetError(
                f"{self.folder}: no image could be read ({num_quarantined} in quarantine); see why there"
            )
        terms = {(row["source"], row["redistributable"]) for row in rows}
        attributions: dict[str, set[str]] = {source: set() for source, _ in sorted(terms)}
        for row in rows:
            attributions[row["source"]].add(row["attribution"])
        info = StudySetInfo(
            format_version=FORMAT_VERSION,
            spec=self.spec,
            num_studies=len(rows),
            num_quarantined=num_quarantined,
            skipped=skipped,
            redistributable_only=redistributable_only,
            counts=count_records(rows),
            sources=tuple(attributions),
            licence_class=strictest_licence_class(row_licence_class(require_card(s), free) for s, free in terms),
            attributions={source: tuple(sorted(words - {""})) for source, words in attributions.items()},
            shards=tuple(fingerprints),
            content_sha256=sha256_json([row_digest(row) for row in rows]),
            versions=versions(),
        )
        write_json(self.folder / DESCRIPTION_FILE, info.model_dump(mode="json"))
        return info


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
        info = read_description(folder)
        files = [shard_path(folder, index) for index in range(len(info.shards))]
        for file, fingerprint in zip(files, info.shards, strict=True):
            found = read_metadata(file)
            if found is None or found.get("fingerprint") != fingerprint:
                state = "is missing or damaged" if found is None else "comes from another ingestion"
                raise StudySetError(f"{folder}: {file.name} {state}; run arra-med ingest into this folder again")
        try:
            dataset = open_dataset(files, folder)
        except OSError as error:
            raise StudySetError(f"{folder}: cannot be read ({error.strerror or 'damaged'}); ingest again") from None
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

    def select(self, *, split: Split | None = None, redistributable_only: bool = False) -> "StudySet":
        """Returns the rows of one split and, if asked for, only the redistributable ones, in the same order."""
        splits, redistributable = self.dataset["split"], self.dataset["redistributable"]
        wanted = [
            index
            for index, (its_split, free) in enumerate(zip(splits, redistributable, strict=True))
            if split in (None, its_split) and (free or not redistributable_only)
        ]
        return StudySet(self.folder, self.info, self.dataset.select(wanted))


def read_description(folder: Path) -> StudySetInfo:
    """Reads `study_set.json`.

    Raises:
        StudySetError: If it is missing, damaged or of another format version.
    """
    path = folder / DESCRIPTION_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudySetError(
            f"{folder}: no finished study set ({DESCRIPTION_FILE} is missing); run arra-med ingest SOURCE --out FOLDER"
        ) from None
    except (OSError, ValueError) as error:
        raise StudySetError(f"{path}: cannot be read ({type(error).__name__}); run arra-med ingest again") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise StudySetError(f"{path}: has format version {version}, this program reads {FORMAT_VERSION}; ingest again")
    try:
        return StudySetInfo.model_validate(values)
    except pydantic.ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise StudySetError(f"{path}: is not valid at {keys}; run arra-med ingest again") from None
