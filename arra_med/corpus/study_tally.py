"""What a report tells of a study set: counts over all rows, and a seeded sample of the views.

The rows are streamed. What stays in memory are counts, the hashes of patients, the quality scores (8 bytes each) and
the places of the sampled rows; pixels are read in a second pass, and kept for the sample alone.
"""

import hashlib
import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from arra_med.corpus.parquet import iter_rows
from arra_med.corpus.study_rows import decode_png

UNKNOWN = "unknown"
COUNTED = ("modality", "split", "view", "laterality", "age_group", "sex", "source", "report_kind")
"""Columns with a value from a short list each."""

_NEEDED = (*COUNTED, "image_id", "patient_hash", "patient_known", "labels", "flags", "quality")


@dataclass(frozen=True, order=True)
class SampledRow:
    """A row that the seed chose.

    Attributes:
        rank: Minus its place in the seeded order, so that the heap gives up the last one first.
        shard: Number of its file.
        row: Number of its row there.
        caption: What it shows, in words without any identifier.
    """

    rank: int
    shard: int
    row: int
    caption: str = field(compare=False)


@dataclass
class StudyTally:
    """What one pass over the rows counts.

    Attributes:
        counts: Rows by column of `COUNTED` (and `label`) and value.
        labels_by_source: Rows by label and source.
        patients: Hashes of the known patients by split.
        without_patient: Rows whose patient is unknown, by split.
        flags: Rows by flag.
        scores: Quality scores by name.
        samples: By source, its sampled rows in the seeded order.
    """

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    labels_by_source: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    patients: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    without_patient: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    scores: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    samples: dict[str, list[SampledRow]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a row."""
        for column in COUNTED:
            self.counts[column][row[column] or UNKNOWN] += 1
        for label in row["labels"] or [UNKNOWN]:
            self.counts["label"][label] += 1
            self.labels_by_source[label][row["source"]] += 1
        split = row["split"] or UNKNOWN
        if row["patient_known"]:
            self.patients[split].add(row["patient_hash"])
        else:
            self.without_patient[split] += 1
        self.flags.update(row.get("flags") or ())
        for quality in row.get("quality") or ():
            self.scores[quality["name"]].append(quality["score"])


def tally_studies(files: Sequence[Path], dropped: Container[str], *, views_per_source: int, seed: int) -> StudyTally:
    """Counts the rows of a study set.

    Args:
        files: Its shards, in order; those of an earlier format tell nothing of flags and quality.
        dropped: Image ids of rows that do not belong to the set.
        views_per_source: The most rows of a source that are sampled.
        seed: Chooses them.
    """
    tally = StudyTally()
    for shard, file in enumerate(files):
        columns = sorted({*_NEEDED} & {*pq.read_schema(file).names})
        for number, row in enumerate(iter_rows([file], columns)):
            if row["image_id"] in dropped:
                continue
            tally.add(row)
            order = int.from_bytes(hashlib.sha256(f"{seed}:{row['image_id']}".encode()).digest()[:8])
            sample, chosen = tally.samples[row["source"]], SampledRow(-order, shard, number, _caption(row))
            if len(sample) < views_per_source:
                heapq.heappush(sample, chosen)
            else:
                heapq.heappushpop(sample, chosen)
    tally.samples = {source: sorted(sample, reverse=True) for source, sample in sorted(tally.samples.items())}
    return tally


def sampled_views(files: Sequence[Path], samples: Mapping[str, Sequence[SampledRow]]) -> dict[SampledRow, np.ndarray]:
    """Returns the views of the sampled rows, uint8 (C, S, S); those of other rows are not decoded."""
    by_shard: dict[int, dict[int, SampledRow]] = defaultdict(dict)
    for chosen in chain.from_iterable(samples.values()):
        by_shard[chosen.shard][chosen.row] = chosen
    views = {}
    for shard, rows in sorted(by_shard.items()):
        for number, row in enumerate(iter_rows([files[shard]], ["view_png"])):
            if number in rows:
                views[rows[number]] = decode_png(row["view_png"])
    return views


def _caption(row: Mapping[str, Any]) -> str:
    told = (row["source"], row["view"] or row["laterality"], row["age_group"], ", ".join(row["labels"] or ()))
    return " · ".join(part for part in told if part)
