"""Fitting the reference of the quality gate to a study set: its training images, and thresholds from held-out ones."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from arra_med.corpus.features import read_features
from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_rows import view_sha256
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import view_key
from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.calibration import held_out_rows
from arra_med.evaluate.check_reference import PARTS, CheckReference, CheckReferenceInfo, CopyThreshold, Part
from arra_med.evaluate.copies import FALSE_ALARM_RATE, calibrated_threshold, num_calibration_images
from arra_med.evaluate.feature_sets import checked_features
from arra_med.evaluate.features import judge_id, judged_features
from arra_med.evaluate.held_out import RealImages, held_out_studies, order_by_hash, real_images
from arra_med.evaluate.novelty import PrincipalGaussian, layout_features, passing_threshold
from arra_med.evaluate.quality_gate import training_copies
from arra_med.evaluate.site_export import fewest_images
from arra_med.imaging.quality import QualityThresholds
from arra_med.imaging.view import Modality
from arra_med.records.study import Split
from arra_med.runs import versions

PASS_RATE = 0.99
NUM_TRAINING = 2000
NUM_DIMS: dict[Part, int] = {"encoder": 16, "layout": 32}
QUALITY_CHECKS = ("blank", "clipped", "inverted", "wrong_body_part")
WRONG_BODY_PART: Mapping[Modality, float | None] = {"cxr": 0.2, "fundus": 0.4, "photo": None}
"""What `docs/quality.md` advises for archives of frontal images and colour photographs; off by default in ingestion."""

DUPLICATE_CORRELATION = 0.99
"""Of 32 x 32 thumbnails: what `docs/quality.md` counts as the same picture among real images."""


def fit_check_reference(
    studies: StudySet,
    encoder: FrozenEncoder,
    *,
    feature: Feature = "mean",
    features: Path | None = None,
    pass_rate: float = PASS_RATE,
    num_training: int = NUM_TRAINING,
    num_dims: dict[Part, int] | None = None,
    with_test: bool = False,
    copies: bool = False,
    progress: bool = False,
) -> CheckReference:
    """Fits the Gaussians to the train split and reads the thresholds off the validation split.

    Pictures that stand in the set twice are left out of the held-out ones. The test split is not looked at by default,
    so that the share of its images that pass can be reported; but a 99% quantile of a few hundred images is rough.

    Args:
        studies: The whole study set.
        encoder: On the device to use; no judge of a study.
        feature: A global feature of it.
        features: A file of `arra-med features` for this set and encoder, instead of encoding again.
        pass_rate: Share of real images that shall pass.
        num_training: Training images used at most.
        num_dims: Directions kept, by part.
        with_test: Read the thresholds off the test split as well.
        copies: Also calibrate near copies, which needs 299 held-out images of one source and takes longer.
        progress: Show progress bars on stderr.

    Raises:
        EvaluationError: If images are too few, a feature is not finite, or the feature file is another encoder's.
        OverlapError: If a held-out patient is in the train split.
    """
    dims = num_dims or NUM_DIMS
    training = studies.select(split="train")
    rows = order_by_hash(training.image_ids)[:num_training]
    if len(rows) < (needed := max(map(fewest_images, dims.values()))):
        raise EvaluationError(
            f"the study set has {len(rows)} training images and a reference needs {needed}, so that it tells of no "
            "single one: ingest more"
        )
    splits: tuple[Split, ...] = ("validation", "test") if with_test else ("validation",)
    chosen = [held_out_studies(studies, split) for split in splits]
    held_out = RealImages(
        tuple(record for images in chosen for record in images.records),
        np.concatenate([images.views for images in chosen]),
    )
    described = real_images(training, rows)
    parts: list[dict[Part, np.ndarray]] = [
        {
            "encoder": _encoded(studies, images, encoder, feature, features, name if progress else ""),
            "layout": layout_features(images.views),
        }
        for images, name in ((described, "training images"), (held_out, "held-out images"))
    ]
    gaussians = {part: PrincipalGaussian.fit(parts[0][part], dims[part]) for part in PARTS}
    distances = {part: gaussians[part].distances(parts[1][part]) for part in PARTS}
    scales = {part: passing_threshold(distances[part], pass_rate) for part in PARTS}
    novelty = np.max([distances[part] / scales[part] for part in PARTS], axis=0)
    threshold = passing_threshold(novelty, pass_rate)
    info = CheckReferenceInfo(
        spec=studies.spec,
        encoder=encoder.name,
        judge_id=judge_id(encoder, feature),
        encoder_sha256=encoder.fingerprint,
        feature=feature,
        study_set_sha256=studies.content_sha256,
        sources=studies.info.sources,
        licence_class=studies.info.licence_class,
        num_training=len(rows),
        held_out_splits=splits,
        num_held_out=len(novelty),
        num_held_out_above=int((novelty > threshold).sum()),
        pass_rate=pass_rate,
        scales=scales,
        novelty=threshold,
        quality=_quality_thresholds(studies.spec.modality),
        duplicate=DUPLICATE_CORRELATION,
        copies=_copy_threshold(studies, encoder, feature, progress) if copies else None,
        versions=versions(),
    )
    return CheckReference(info, gaussians)


def _quality_thresholds(modality: Modality) -> dict[str, float]:
    """Those of ingestion, and the likeness to the body part, which it leaves off."""
    accepted = QualityThresholds(wrong_body_part=WRONG_BODY_PART[modality])
    limits = {name: getattr(accepted, name) for name in QUALITY_CHECKS}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _encoded(
    studies: StudySet,
    images: RealImages,
    encoder: FrozenEncoder,
    feature: Feature,
    features: Path | None,
    name: str,
) -> np.ndarray:
    """Features (n, D) of plain views, read from a feature file where one was given."""
    if features is None:
        return judged_features(encoder, images.views, feature=feature, name=name)
    file = read_features(features)
    if file.info.encoder_sha256 != encoder.fingerprint or file.name != encoder.name:
        raise EvaluationError(
            f"{features}: holds features of {file.name} (weights {file.info.encoder_sha256[:12]}), the reference is fitted "
            f"with {encoder.name} ({encoder.fingerprint[:12]}): extract them with this encoder"
        )
    keys = [view_key(record.image_id, 0) for record in images.records]
    shown = [view_sha256(view) for view in images.views]
    file.require(studies.content_sha256, dict(zip(keys, shown, strict=True)))
    return checked_features(file.get(keys, feature).numpy(), name)


def _copy_threshold(studies: StudySet, encoder: FrozenEncoder, feature: Feature, progress: bool) -> CopyThreshold:
    """Reads off held-out images of one source what a near copy is; the train split is what may be copied."""
    records = studies.records()
    rows = held_out_rows(
        records,
        lambda record: record.split == "train",
        studies.duplicates,
        num_calibration_images(FALSE_ALARM_RATE),
    )
    finder = training_copies(studies, rows.train, encoder, feature, progress)
    with progress_bar("matching held-out images", len(rows.calibration), progress) as advance:
        found = finder.matches([studies.view(row) for row in rows.calibration], advance)
    return CopyThreshold(**asdict(calibrated_threshold([match.similarity for match in found], FALSE_ALARM_RATE)))
