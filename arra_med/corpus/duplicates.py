"""Images of a study set that show the same picture as an earlier one: found by perceptual hash, listed beside the shards.

The list is the set's, not a shard's: another image can make a duplicate of one that was read long ago.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arra_med.corpus.parquet import iter_rows
from arra_med.errors import StudySetError
from arra_med.imaging.perceptual_hash import NearDuplicates
from arra_med.runs import atomic_file

DUPLICATES_FILE = "duplicates.jsonl"


def find_duplicates(shards: Sequence[Path], max_distance: int) -> dict[str, str]:
    """Returns for each image that repeats an earlier one that image, in the order of the rows.

    Args:
        shards: Of the set, in order.
        max_distance: Bits of 64 in which the perceptual hashes may differ.
    """
    near = NearDuplicates(max_distance)
    found = [pair for shard in shards for pair in near.add([row["perceptual_hash"] for row in _rows(shard)])]
    indices = {index for pair in found for index in pair}
    names: dict[int, str] = {}
    position = 0
    for shard in shards:
        for row in _rows(shard) if indices else ():
            if position in indices:
                names[position] = row["image_id"]
            position += 1
    return {names[pair.index]: names[pair.index_of_first] for pair in found}


def write_duplicates(folder: Path, duplicates: Mapping[str, str]) -> None:
    """Writes the list, one JSON object a line, atomically; no duplicates, no file."""
    path = folder / DUPLICATES_FILE
    if not duplicates:
        path.unlink(missing_ok=True)
        return
    rows = ({"image_id": image_id, "duplicate_of": first} for image_id, first in duplicates.items())
    with atomic_file(path) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_duplicates(folder: Path, num_duplicates: int) -> dict[str, str]:
    """Reads the list.

    Args:
        folder: Of the study set.
        num_duplicates: As `study_set.json` says.

    Raises:
        StudySetError: If the list is missing, damaged or has another length.
    """
    path = folder / DUPLICATES_FILE
    try:
        rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines())) if num_duplicates else []
        found = {str(row["image_id"]): str(row["duplicate_of"]) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        found = {}
    if len(found) != num_duplicates:
        raise StudySetError(
            f"{path}: does not list the {num_duplicates} duplicates of the set; run arra-med ingest again"
        )
    return found


def _rows(shard: Path) -> list[dict[str, Any]]:
    return list(iter_rows([shard], ["image_id", "perceptual_hash"]))
