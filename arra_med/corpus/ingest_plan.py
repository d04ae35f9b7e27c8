"""What ingestion has to do: images become shards, and shards that are there already are told from those that are not.

A new shard begins where the hash of an image id says so, not after a fixed count. An image that is added or taken away
therefore changes the shard it stands in and no other, and the rows keep the order of the input.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from arra_med.corpus.decoding import DecodingSettings, hash_file
from arra_med.corpus.parquet import is_finished, shard_paths
from arra_med.corpus.study_set import FORMAT_VERSION, study_shard_path
from arra_med.corpus.study_shards import StudyEntry, StudyShard, read_file_hashes
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord
from arra_med.runs import sha256_json

SHARD_STUDIES = 256
"""Images of a shard, on average; the largest has twice as many."""


class PlannedShard(NamedTuple):
    """A shard of the set.

    Attributes:
        fingerprint: Names its file.
        num_images: How many images it has.
        packed: The `StudyShard`.
    """

    fingerprint: str
    num_images: int
    packed: bytes


def plan_shards(
    records: Iterable[StudyRecord], settings: DecodingSettings, pseudonymizer: Pseudonymizer
) -> list[PlannedShard]:
    """Divides records, whose ids are pseudonyms already, into shards, in their order.

    The state of each file is looked at here: its size and time of change.
    """
    reading = settings.model_dump_json(include={"spec", "rules"})
    told = sha256_json([settings.model_dump(mode="json"), FORMAT_VERSION])
    planned = []
    for group in _groups(records):
        entries = tuple(_entry(record, reading, pseudonymizer) for record in group)
        fingerprint = pseudonymizer.of(told + "".join(entry.model_dump_json() for entry in entries))
        planned.append(
            PlannedShard(fingerprint, len(entries), StudyShard(fingerprint=fingerprint, entries=entries).packed())
        )
    return planned


def unfinished_shards(
    folder: Path, planned: Sequence[PlannedShard], changed: frozenset[str] = frozenset()
) -> list[PlannedShard]:
    """Returns the shards that have to be written, each with the shards on the disk that hold some of its images.

    Args:
        folder: Of the study set.
        planned: The whole set.
        changed: State hashes of files whose content is another although size and time are the same.
    """
    unfinished = []
    for shard in planned:
        finished = is_finished(study_shard_path(folder, shard.fingerprint), shard.fingerprint)
        if not finished or (changed and changed & {e.state_hash for e in StudyShard.unpacked(shard.packed).entries}):
            unfinished.append(shard)
    if not unfinished:
        return []
    kept = {shard.fingerprint for shard in planned} - {shard.fingerprint for shard in unfinished}
    holders = {
        state_hash: path.stem.removeprefix("shard-")
        for path in shard_paths(folder)
        if path.stem.removeprefix("shard-") not in kept
        for state_hash in read_file_hashes(path)
    }
    return [_with_holders(shard, holders) for shard in unfinished]


def changed_files(folder: Path, planned: Sequence[PlannedShard], file_key: bytes) -> Iterator[tuple[int, set[str]]]:
    """Compares the contents of files with what the study set was made from; yields after each shard.

    Args:
        folder: Of the study set.
        planned: The whole set.
        file_key: Keys the hashes of contents.

    Yields:
        The number of images compared, and the state hashes of those whose content is another.
    """
    known = {state: file_hash for path in shard_paths(folder) for state, file_hash in read_file_hashes(path).items()}
    for shard in planned:
        entries = StudyShard.unpacked(shard.packed).entries
        yield (
            len(entries),
            {
                entry.state_hash
                for entry in entries
                if entry.state_hash in known and known[entry.state_hash] != hash_file(entry.record.path, file_key)
            },
        )


def _groups(records: Iterable[StudyRecord]) -> Iterator[list[StudyRecord]]:
    group: list[StudyRecord] = []
    for record in records:
        begins = zlib.crc32(record.image_id.encode()) % SHARD_STUDIES == 0
        if group and (begins or len(group) == 2 * SHARD_STUDIES):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _entry(record: StudyRecord, reading: str, pseudonymizer: Pseudonymizer) -> StudyEntry:
    size, changed_ns = _file_state(record.path)
    return StudyEntry(
        record=record,
        state_hash=pseudonymizer.of(f"{record.path}\0{size}\0{changed_ns}\0{FORMAT_VERSION}\0{reading}"),
        is_there=size >= 0,
    )


def _file_state(path: str) -> tuple[int, int]:
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _with_holders(shard: PlannedShard, holders: dict[str, str]) -> PlannedShard:
    task = StudyShard.unpacked(shard.packed)
    found = sorted({holders[entry.state_hash] for entry in task.entries if entry.state_hash in holders})
    return shard._replace(packed=task.model_copy(update={"reuse_from": tuple(found)}).packed()) if found else shard
