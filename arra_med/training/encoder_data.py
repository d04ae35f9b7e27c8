"""The images that a stand-in teacher or judge learns from and is measured on: folds of patients, labels, batches."""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.corpus.study_set import StudySet
from arra_med.errors import StudySetError
from arra_med.imaging.view import augmented_view, from_uint8
from arra_med.records.study import StudyRecord
from arra_med.records.wording import NORMAL, READ_AS_NORMAL, canonical_labels
from arra_med.training.encoder_settings import EncoderTrainConfig

LabelSet = tuple[str, ...]


@dataclass(frozen=True)
class EncoderImages:
    """Some rows of a study set.

    Attributes:
        rows: Their places in the study set.
        records: What is known about them.
        views: uint8 (N, C, S, S).
        label_sets: Harmonised labels, sorted; `None` where they are unknown.
    """

    rows: tuple[int, ...]
    records: tuple[StudyRecord, ...]
    views: np.ndarray
    label_sets: tuple[LabelSet | None, ...]

    def __len__(self) -> int:
        return len(self.rows)


def training_images(studies: StudySet, config: EncoderTrainConfig) -> EncoderImages:
    """Returns the train split's images of the sources and the fold.

    Images that repeat an earlier one, and those whose repetition stands in another split, are left out: the same
    picture must not be in two folds, or in training and test.

    Raises:
        StudySetError: If there is none.
    """
    records = studies.records()
    chosen = [row for row in _train_rows(studies, records, config) if config.fold.holds(records[row].patient_id)]
    if not chosen:
        raise StudySetError(
            f"the study set has no train rows of sources {', '.join(config.sources) or '(any)'} in fold "
            f"{config.fold.index} of {config.fold.count}; change sources or fold, or ingest more"
        )
    return _images(studies, records, chosen)


def held_out_images(studies: StudySet, config: EncoderTrainConfig) -> dict[str, EncoderImages]:
    """Returns what measures the encoder: the validation split, and the train split's patients of the other folds.

    Raises:
        StudySetError: If the validation split is empty.
    """
    records = studies.records()
    wanted = [row for row, record in enumerate(records) if record.split == "validation"]
    if not wanted:
        raise StudySetError("the study set has no validation rows; ingest a source that has them")
    held_out = {"validation": _images(studies, records, wanted)}
    others = [row for row in _train_rows(studies, records, config) if not config.fold.holds(records[row].patient_id)]
    if others:
        held_out["other_folds"] = _images(studies, records, others)
    return held_out


def finding_targets(
    images: EncoderImages,
    findings: Sequence[str],
    vocabulary: Mapping[str, frozenset[str]],
    absent_if_unlisted: Sequence[str],
) -> np.ndarray:
    """Returns which image has which finding.

    A finding is present if it is listed. It is absent if the image was read as normal as a whole, or if its source is
    in `absent_if_unlisted`, lists some label for the image and lists the finding elsewhere. Else it is unknown.

    Args:
        images: The images.
        findings: Harmonised names.
        vocabulary: The labels that each source lists anywhere.
        absent_if_unlisted: Sources.

    Returns:
        float32 (N, F): 1 present, 0 absent, NaN unknown.
    """
    targets = np.full((len(images), len(findings)), np.nan, dtype=np.float32)
    for row, (record, labels) in enumerate(zip(images.records, images.label_sets, strict=True)):
        if labels is None:
            continue
        normal = NORMAL in labels and record.source in READ_AS_NORMAL
        lists = vocabulary.get(record.source, frozenset()) if record.source in absent_if_unlisted else frozenset()
        for column, finding in enumerate(findings):
            if finding in labels:
                targets[row, column] = 1
            elif normal or finding in lists:
                targets[row, column] = 0
    return targets


def source_vocabulary(studies: StudySet) -> dict[str, frozenset[str]]:
    """Returns the harmonised labels that each source lists anywhere in the study set."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for record in studies.records():
        found[record.source].update(canonical_labels(record))
    return {source: frozenset(labels) for source, labels in found.items()}


class BatchDraw:
    """Draws batches from (seed, step) alone, so that a resumed run sees what an uninterrupted one would.

    Args:
        images: What to draw from.
        label_balance: 0 as they come, 1 every set of labels equally often.
        batch_size: Images of a batch.
        seed: Of order and augmentation.
    """

    def __init__(self, images: EncoderImages, label_balance: float, batch_size: int, seed: int) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        counts = Counter(images.label_sets)
        self._cumulative = list(itertools.accumulate(counts[key] ** -label_balance for key in images.label_sets))

    def indices(self, step: int) -> list[int]:
        """Returns the places in `images` that a step learns from."""
        draw = random.Random(f"{self.seed}:{step}")
        return draw.choices(range(len(self.images)), cum_weights=self._cumulative, k=self.batch_size)

    def views(self, indices: Sequence[int], step: int) -> np.ndarray:
        """Returns the augmented views at `indices`, float32 (B, C, S, S) in [0, 1]."""
        images = self.images
        drawn = [augmented_view(images.views[i], images.records[i].image_id, 1 + step, self.seed) for i in indices]
        return from_uint8(np.stack(drawn))


def _train_rows(studies: StudySet, records: Sequence[StudyRecord], config: EncoderTrainConfig) -> list[int]:
    split_of = {record.image_id: record.split for record in records}
    left_out: set[str] = set()
    for repeated, first in studies.duplicates.items():
        left_out.add(repeated)
        if split_of.get(repeated) != split_of.get(first):
            left_out.add(first)
    return [
        row
        for row, record in enumerate(records)
        if record.split == "train"
        and record.image_id not in left_out
        and (not config.sources or record.source in config.sources)
    ]


def _images(studies: StudySet, records: Sequence[StudyRecord], rows: Sequence[int]) -> EncoderImages:
    chosen = tuple(records[row] for row in rows)
    return EncoderImages(
        tuple(rows),
        chosen,
        np.stack([studies.view(row) for row in rows]),
        tuple(tuple(sorted(canonical_labels(record))) or None for record in chosen),
    )


__all__ = [
    "BatchDraw",
    "EncoderImages",
    "LabelSet",
    "finding_targets",
    "held_out_images",
    "source_vocabulary",
    "training_images",
]
