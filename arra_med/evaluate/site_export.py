"""From images to moments that may leave a site: views, judge, and how many images it takes.

Moments are not anonymous by themselves: who holds an image and the judge can ask whether the image is among them. With
no more images than dimensions the answer is certain (an image lies in the covariance's span, or it does not); at the
fewest images that are accepted here it was right in 72% of pairs, at twice as many in 61%
(`docs/sites_and_reading.md`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.features import judged_features, preprocessing_sha256
from arra_med.evaluate.frechet import MAX_PROJECTED_DIMS
from arra_med.evaluate.held_out import one_source
from arra_med.evaluate.moments import Moments
from arra_med.evaluate.site_moments import (
    ProjectionInfo,
    SiteMoments,
    SiteMomentsInfo,
    require_same_judge,
    site_projection,
)
from arra_med.imaging.view import CanonicalView
from arra_med.records.study import Split
from arra_med.runs import versions

MIN_IMAGES = 100
MIN_IMAGES_PER_DIMENSION = 5

_CHUNK_IMAGES = 256


def study_views(studies: StudySet, split: Split | None = None, source: str | None = None) -> Sequence[np.ndarray]:
    """Returns the views of one split and source, read when they are asked for.

    Raises:
        StudySetError: If there are none.
    """
    return _StudyViews(one_source(studies, split, source))


class _StudyViews(Sequence[np.ndarray]):
    def __init__(self, studies: StudySet) -> None:
        self._studies = studies

    def __len__(self) -> int:
        return len(self._studies)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._studies.view(index)


def fewest_images(num_dims: int) -> int:
    """Returns how many images moments of this width need before they may leave a site."""
    return max(MIN_IMAGES, MIN_IMAGES_PER_DIMENSION * num_dims)


def site_moments(
    views: Sequence[np.ndarray],
    spec: CanonicalView,
    encoder: FrozenEncoder,
    *,
    feature: Feature = "mean",
    generated: bool = False,
    training: SiteMoments | None = None,
    num_dims: int = MAX_PROJECTED_DIMS,
    public: bool = False,
    progress: bool = False,
) -> SiteMoments:
    """Takes the moments of a judge's features.

    Args:
        views: uint8 (C, S, S) each.
        spec: What they are.
        encoder: The judge, on the device to use.
        feature: A global feature of it.
        generated: Whether the images are synthetic.
        training: Full-width moments of real training images; features are then projected onto their directions, which
            smaller sets can bear.
        num_dims: Directions of the projection.
        public: Whether anyone may have these images, so that recognising them harms nobody: any number will do.
        progress: Whether to show a progress bar.

    Raises:
        EvaluationError: If there are too few different images for the width, the training moments do not fit, or a
            feature is not finite.
        EncoderError: If the encoder has no such feature.
    """
    if feature == "patch":
        raise EvaluationError("feature 'patch' is many vectors for each image: judge by cls, mean or trunk-cls")
    info = SiteMomentsInfo(
        num_images=len(views),
        judge=encoder.name,
        judge_sha256=encoder.fingerprint,
        preprocessing_sha256=preprocessing_sha256(encoder),
        feature=feature,
        spec=spec,
        generated=generated,
        versions=versions(),
    )
    width, projection = encoder.width(feature), None
    if training is not None:
        projection = site_projection(training, num_dims)
        require_same_judge([training.info, info], ["the training moments", "this export"])
        width = projection.num_dims
        described = ProjectionInfo(training_sha256=training.content_sha256, num_dims=width)
        info = info.model_copy(update={"projection": described})
    needed = 2 if public else fewest_images(width)
    _require_enough(len(views), width, needed)
    parts: list[np.ndarray] = []
    seen: set[bytes] = set()
    with progress_bar("judging", len(views), progress) as advance:
        for chunk in _chunks(views[index] for index in range(len(views))):
            seen.update(hashlib.sha256(view.tobytes()).digest() for view in chunk)
            parts.append(judged_features(encoder, np.stack(chunk), feature=feature))
            advance(len(chunk))
    _require_enough(len(seen), width, needed)
    features = np.concatenate(parts)
    return SiteMoments(info, Moments.of(features if projection is None else projection.apply(features)))


def _require_enough(found: int, width: int, needed: int) -> None:
    if found < needed:
        raise EvaluationError(
            f"the set has {found} different images and moments of {width} dimensions need {needed} before they may leave a "
            "site, since few images can be recognised in them: give more images, or project with --projection onto "
            f"--dims (64 need {fewest_images(64)}, 20 need {fewest_images(20)})"
        )


def _chunks(views: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while chunk := list(islice(views, _CHUNK_IMAGES)):
        yield chunk
