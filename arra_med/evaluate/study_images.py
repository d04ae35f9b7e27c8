"""The real images of a study: the held-out stratum, the judge's own patients, and what no arm may have seen of them."""

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.evaluate.held_out import RealImages, order_by_hash, real_images
from arra_med.evaluate.resampling import MIN_PATIENTS
from arra_med.evaluate.study_settings import StudyConfig
from arra_med.records.study import Split, StudyRecord

_MAX_PROJECTION_IMAGES = 1500


def held_out_stratum(studies: StudySet, config: StudyConfig, split: Split) -> RealImages:
    """Returns the stratum's images of a held-out split.

    Raises:
        EvaluationError: If they are too few for the primary distance; of the split that the arms are judged on also on
            halves of its patients, which floors and intervals are made of.
    """
    left_out = repeated_images(studies, config)
    rows = [
        row
        for row, record in enumerate(studies.records())
        if record.split == split and config.held_out.holds(record) and record.image_id not in left_out
    ]
    images = real_images(studies, _first_by_hash(studies, rows, config.held_out.max_images))
    needed, source = config.num_dims + 1, config.held_out.source
    if len(images.records) < needed:
        raise EvaluationError(
            f"the {split} split has {len(images.records)} images of source {source} in this stratum, a distance of "
            f"{config.num_dims} dimensions needs {needed}: ingest more, widen held_out, or lower num_dims"
        )
    if split == config.judged_split:
        _require_halves(images, split, needed, source, has_intervals=len(config.seeds) > 1)
    return images


def _require_halves(images: RealImages, split: Split, needed: int, source: str, *, has_intervals: bool) -> None:
    """Whichever half of the patients is drawn, a distance can be taken of its images."""
    counts = sorted(Counter(images.patients).values())
    if has_intervals and len(counts) < MIN_PATIENTS:
        raise EvaluationError(
            f"the {split} images of source {source} come from {len(counts)} patients, an interval over patients needs "
            f"{MIN_PATIENTS}: ingest more, or widen held_out"
        )
    fewest = min(sum(counts[: len(counts) // 2]), (sum(counts) - counts[-1]) // 2)
    if fewest < needed:
        raise EvaluationError(
            f"the {split} split has {sum(counts)} images of {len(counts)} patients of source {source}; half of the patients "
            f"can have as few as {fewest}, and floors and intervals need {needed} there: ingest more, widen held_out, "
            f"or set num_dims to {max(fewest - 1, 1)}"
        )


def judge_patients(studies: StudySet, config: StudyConfig) -> RealImages:
    """Returns the stratum's train images of the judge's fold: no generator and no teacher learned from them.

    Raises:
        EvaluationError: If there are none.
    """
    left_out = repeated_images(studies, config)
    rows = [
        row
        for row, record in enumerate(studies.records())
        if _role(record, config) == "judge" and record.image_id not in left_out
    ]
    if not rows:
        raise EvaluationError("no train image of the stratum is in judge_fold: choose another fold or stratum")
    return real_images(studies, rows)


def training_reals(studies: StudySet, config: StudyConfig, limit: int | None = _MAX_PROJECTION_IMAGES) -> RealImages:
    """Returns real images that the arms trained on, at most `limit` by hash: the projection is fitted to 1,500."""
    training = config.training
    chosen = studies.select(split="train", sources=training.sources, fold=training.fold)
    return real_images(chosen, _first_by_hash(chosen, range(len(chosen)), limit))


def repeated_images(studies: StudySet, config: StudyConfig) -> set[str]:
    """Returns the images that neither judge nor are judged, since ingestion found the same picture elsewhere.

    The later one of a pair always: a copy biases every distance. The earlier one, too, where the two have different parts:
    one trains and the other is held out, or one fits the classifiers that read the other.
    """
    records = {record.image_id: record for record in studies.records()}
    left_out = set()
    for later, first in studies.duplicates.items():
        left_out.add(later)
        roles = {_role(records[name], config) for name in (later, first) if name in records}
        if len(roles) > 1 and None not in roles:
            left_out.add(first)
    return left_out


class UnknownPatients(TypedDict):
    """Training images whose patient nobody knows.

    Attributes:
        training: How many.
        num_training: Of how many.
        sentence: What a reader must know of them.
    """

    training: int
    num_training: int
    sentence: str


def unknown_patients(studies: StudySet, config: StudyConfig) -> UnknownPatients:
    """Counts the training images without a known patient, any of whom may be a held-out one."""
    training = config.training
    records = studies.select(split="train", sources=training.sources, fold=training.fold).records()
    unknown = sum(not record.patient_known for record in records)
    return UnknownPatients(
        training=unknown,
        num_training=len(records),
        sentence=f"{unknown:,} of {len(records):,} training images name no patient: a held-out patient may be among them, "
        "in all arms alike",
    )


def _role(record: StudyRecord, config: StudyConfig) -> str | None:
    """What an image is to a study: `training` (of arms or teachers), `judge`, a held-out split, or nothing."""
    if record.split != "train":
        return record.split
    if config.training.fold.holds(record.patient_id):
        return "training"
    return "judge" if config.held_out.holds(record) and config.judge_fold.holds(record.patient_id) else None


def _first_by_hash(studies: StudySet, rows: Sequence[int], limit: int | None) -> list[int]:
    """At most `limit` rows, drawn by the image ids, in the study set's order."""
    names = studies.image_ids
    return sorted(rows[at] for at in order_by_hash([names[row] for row in rows])[:limit])
