"""Shards of a study set: the unit of work of every engine, each written once and never changed.

A shard's file is named by its fingerprint, a keyed hash of its records, the state of their files and the settings. What
its decoding refused stands in its footer, without paths, so that a finished shard never lacks its reasons.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow.dataset as pads

from arra_med.config import StrictModel
from arra_med.corpus.decoding import DecodedView, DecodingPool, DecodingSettings, Outcome, ReadView, RefusedFile
from arra_med.corpus.parquet import iter_rows, read_metadata, write_table
from arra_med.corpus.study_rows import DECODED_FIELDS, STUDY_SCHEMA, record_row
from arra_med.corpus.study_set import FORMAT_VERSION, study_shard_path
from arra_med.errors import EngineError
from arra_med.imaging.read import read_study_view
from arra_med.records.scrubbing import scrub_text
from arra_med.records.study import StudyRecord


class StudyEntry(StrictModel):
    """One image to read.

    Attributes:
        record: What is known about it, under pseudonyms.
        state_hash: Keyed hash of the file's path, size and time of change and the settings it is read with.
        is_there: Whether there was a file when it was looked at.
    """

    record: StudyRecord
    state_hash: str
    is_there: bool


class StudyShard(StrictModel):
    """Images whose rows stand in one file.

    Attributes:
        fingerprint: Names the file.
        entries: The images, in the order of the input.
        reuse_from: Fingerprints of shards on the disk that hold some of the images already, in the same state.
    """

    fingerprint: str
    entries: tuple[StudyEntry, ...]
    reuse_from: tuple[str, ...] = ()

    def packed(self) -> bytes:
        """Returns the shard in a compact form, for keeping many in memory and for sending to other machines."""
        return zlib.compress(self.model_dump_json().encode(), level=1)

    @classmethod
    def unpacked(cls, packed: bytes) -> "StudyShard":
        """Returns the shard that was `packed`."""
        return cls.model_validate_json(zlib.decompress(packed))


class Refusal(StrictModel):
    """An image that was refused, as the footer of its shard keeps it.

    Attributes:
        image_id: The image.
        reason: Why, from a closed vocabulary.
        message: Why, in words without path or identifier.
        state_hash: As in `StudyEntry`.
        file_hash: Keyed hash of the file's content.
    """

    image_id: str
    reason: str
    message: str
    state_hash: str
    file_hash: str


def read_refusals(path: Path) -> list[Refusal]:
    """Returns what a shard's decoding refused, in the order of the input; nothing for files of another format."""
    found = read_metadata(path) or {}
    return [Refusal.model_validate(row) for row in found.get("refused", [])]


def read_file_hashes(path: Path) -> dict[str, str]:
    """Returns the hashes of the contents of a shard's files by `state_hash`; nothing for files of another format."""
    if (read_metadata(path) or {}).get("format_version") != FORMAT_VERSION:
        return {}
    rows = iter_rows([path], ["state_hash", "file_hash"])
    refused = {refusal.state_hash: refusal.file_hash for refusal in read_refusals(path)}
    return {**refused, **{row["state_hash"]: row["file_hash"] for row in rows}}


class ShardDecoder:
    """Reads the files of shards and writes the shards; the same for every engine.

    Args:
        folder: Where the shards lie.
        settings: What the files are read as, and the limits.
        num_workers: Decoding processes; 0 decodes in this process.
        file_key: Keys the hashes of contents.
        changed: State hashes of files whose content is another although size and time are the same.
        read: Turns a file into a view.
        on_cluster: Whether another machine looked at the files before.
    """

    def __init__(
        self,
        folder: Path,
        settings: DecodingSettings,
        num_workers: int,
        file_key: bytes,
        changed: frozenset[str] = frozenset(),
        read: ReadView = read_study_view,
        on_cluster: bool = False,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.changed = changed
        self.on_cluster = on_cluster
        self._pool = DecodingPool(settings, num_workers, file_key, read)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def work(self, tasks: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Writes shards; yields for each its `fingerprint` and how many of its images were `reused`.

        A shard waits in memory only while one of its files is being decoded.

        Args:
            tasks: Packed `StudyShard`s.
            advance: Is told of every image done.
        """
        asked: deque[tuple[_OpenShard, int]] = deque()
        places: dict[int, tuple[_OpenShard, int]] = {}
        finished: deque[_OpenShard] = deque()

        def paths() -> Iterator[str]:
            for task in tasks:
                shard = self._open(StudyShard.unpacked(task))
                advance(shard.num_reused)
                if not shard.missing:
                    finished.append(shard)
                for position in shard.missing:
                    asked.append((shard, position))
                    yield shard.task.entries[position].record.path

        taken = 0
        for number, outcome in self._pool.decode(paths()):
            while asked:
                places[taken] = asked.popleft()
                taken += 1
            shard, position = places.pop(number)
            shard.outcomes[position] = _decoded(outcome)
            advance(1)
            if shard.is_complete:
                finished.append(shard)
            while finished:
                yield self._write(finished.popleft())
        while finished:
            yield self._write(finished.popleft())

    def _open(self, task: StudyShard) -> "_OpenShard":
        wanted = {entry.state_hash for entry in task.entries} - self.changed
        known: dict[str, dict[str, Any]] = {}
        for fingerprint in task.reuse_from:
            path = study_shard_path(self.folder, fingerprint)
            if (read_metadata(path) or {}).get("limits") == self._limits:
                known |= {r.state_hash: {"refusal": r} for r in read_refusals(path) if r.state_hash in wanted}
            rows = pads.dataset(path).to_table(
                columns=[name for name, _ in DECODED_FIELDS], filter=pads.field("state_hash").isin(list(wanted))
            )
            known |= {row["state_hash"]: row for row in rows.to_pylist()}
        outcomes: dict[int, Mapping[str, Any]] = {
            i: known[e.state_hash] for i, e in enumerate(task.entries) if e.state_hash in known
        }
        return _OpenShard(task, outcomes, num_reused=len(outcomes))

    def _write(self, shard: "_OpenShard") -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        for position, entry in enumerate(shard.task.entries):
            outcome = shard.outcomes[position]
            if refusal := outcome.get("refusal"):
                if self.on_cluster and entry.is_there and not os.path.exists(entry.record.path):
                    raise EngineError(
                        "a machine of the cluster does not see a file of the source; put the source on storage that "
                        "all machines share under the same path (nothing was written for it)"
                    )
                told = {"image_id": entry.record.image_id, "state_hash": entry.state_hash}
                refused.append({**refusal.model_dump(), **told})
            else:
                rows.append({**_scrubbed_row(entry), **outcome, "state_hash": entry.state_hash})
        metadata = {
            "format_version": FORMAT_VERSION,
            "fingerprint": shard.task.fingerprint,
            "limits": self._limits,
            "refused": refused,
        }
        write_table(study_shard_path(self.folder, shard.task.fingerprint), rows, STUDY_SCHEMA, metadata)
        return {"fingerprint": shard.task.fingerprint, "reused": shard.num_reused}

    @property
    def _limits(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"time_limit_s", "memory_limit_gib"})


@dataclass
class _OpenShard:
    """A shard whose images are being read."""

    task: StudyShard
    outcomes: dict[int, Mapping[str, Any]]
    num_reused: int
    missing: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.missing = [i for i in range(len(self.task.entries)) if i not in self.outcomes]

    @property
    def is_complete(self) -> bool:
        return len(self.outcomes) == len(self.task.entries)


def _decoded(outcome: Outcome) -> dict[str, Any]:
    """Returns what decoding fills of a row, or the refusal."""
    if isinstance(outcome, RefusedFile):
        told = {"reason": outcome.reason, "message": outcome.message, "file_hash": outcome.file_hash}
        return {"refusal": Refusal(image_id="", state_hash="", **told)}
    return _decoded_columns(outcome)


def _decoded_columns(view: DecodedView) -> dict[str, Any]:
    return {
        "view_png": view.png,
        "view_sha256": view.sha256,
        "perceptual_hash": view.perceptual_hash,
        "flags": list(view.flags),
        "quality": [{"name": name, "score": score} for name, score in sorted(view.scores.items())],
        "file_hash": view.file_hash,
    }


def _scrubbed_row(entry: StudyEntry) -> dict[str, Any]:
    """Returns a record's columns; identifiers are taken out of what a person wrote."""
    record = entry.record
    if record.report_kind != "from_labels":
        record = record.model_copy(update={"report": scrub_text(record.report)})
    return record_row(record)
