"""The quality gate: whether a generated image may pass for what it should be, and for a new one.

Rejected is what is further from real images than nearly all held-out real ones, what ingestion would refuse (blank,
clipped, a negative, another body part or one on its head), a repeat of another image of the request, or a near copy of
a training image. An image that passes is plausible as a picture of its kind:
whether it shows what the report says, nobody has looked (`arra-med evaluate agreement` does).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.check_reference import CheckReference, read_check_reference
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.feature_spaces import encoder_space, gradient_space
from arra_med.evaluate.features import judge_id, judged_features
from arra_med.evaluate.held_out import trained_on
from arra_med.evaluate.novelty import layout_features
from arra_med.evaluate.registration import luminance, resized
from arra_med.generate.checking import ImageVerdict
from arra_med.generate.request import GenerationRequest
from arra_med.imaging.quality import quality_scores
from arra_med.imaging.view import from_uint8
from arra_med.models.bundle import BundleInfo
from arra_med.runs import sha256_json

FEATURES_FOLDER = ".check"
"""In the study set's folder: features of its training images, of mode 0600, which never leave it."""

_THUMBNAIL_PX = 32


class QualityGate:
    """Scores generated images against a reference; an `ImageCheck` of `arra_med.generate`.

    Args:
        reference: What real images look like, and the thresholds.
        encoder: The one that the reference was fitted with, on the device to use.
        copies: Finds near copies of training images; none: nobody looks for them, and the provenance says so.

    Raises:
        EvaluationError: If the encoder is another one, or the reference has no threshold for near copies.
    """

    def __init__(self, reference: CheckReference, encoder: FrozenEncoder, copies: CopyFinder | None = None) -> None:
        reference.require_encoder(judge_id(encoder, reference.info.feature), encoder.name)
        if copies is not None and reference.info.copies is None:
            raise EvaluationError(
                "training images were given, but the check's reference has no threshold for near copies: fit one with "
                "arra-med check fit --copies, or leave the training images out"
            )
        self.reference = reference
        self._encoder, self._copies = encoder, copies

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its verdicts, as JSON values: reference, encoder, every threshold, what was looked for."""
        info = self.reference.info
        return {
            "reference_sha256": self.reference.sha256 or self.reference.content_sha256,
            "encoder": info.encoder,
            "encoder_sha256": info.encoder_sha256,
            "pass_rate": info.pass_rate,
            "thresholds": {
                "novelty": info.novelty,
                **info.quality,
                "duplicate": info.duplicate,
                "near_copy": info.copies.similarity if self._copies is not None and info.copies else None,
            },
        }

    def judge(
        self, images: np.ndarray, request: GenerationRequest | None = None, kept: Sequence[np.ndarray] = ()
    ) -> list[ImageVerdict]:
        """Judges images in their order; see `ImageCheck.judge`.

        Raises:
            EvaluationError: If the images are not of the reference's view, or a feature is not finite.
        """
        spec = self.reference.info.spec
        views = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        if images.dtype != np.uint8 or views.shape[1:] != (spec.channels, spec.size_px, spec.size_px):
            raise EvaluationError(
                f"images of type {images.dtype} and shape {images.shape} were to be checked against a reference of "
                f"{spec.modality} images of {spec.size_px} px: give uint8 images of that kind"
            )
        seen = [thumbnail(image) for image in kept]
        verdicts = []
        for image, view in zip(images, views, strict=True):
            small = thumbnail(image)
            repeats = max((float(small @ other) for other in seen), default=None)
            verdict = self._verdict(view, repeats, lateral=request is not None and request.view == "lateral")
            if verdict.passed:
                seen.append(small)
            verdicts.append(verdict)
        return verdicts

    def novelty(self, view: np.ndarray) -> dict[str, float]:
        """Returns how far a view uint8 (C, S, S) is from real images: the larger part, and both parts.

        Raises:
            EvaluationError: If a feature is not finite.
        """
        info, gaussians = self.reference.info, self.reference.gaussians
        described = {
            "encoder": judged_features(self._encoder, view[None], feature=info.feature),
            "layout": layout_features(view[None]),
        }
        parts = {part: float(gaussians[part].distances(described[part])[0]) / info.scales[part] for part in gaussians}
        return {"novelty": max(parts.values()), **{f"novelty_{part}": value for part, value in parts.items()}}

    def _verdict(self, view: np.ndarray, duplicate: float | None, *, lateral: bool) -> ImageVerdict:
        info = self.reference.info
        pixels = from_uint8(view[0] if len(view) == 1 else view.transpose(1, 2, 0))
        quality = quality_scores(pixels, info.spec.modality, "lateral" if lateral else None)
        scores = self.novelty(view) | {name: quality[name] for name in info.quality if name in quality}
        limits = {"novelty": info.novelty, **info.quality, "duplicate": info.duplicate}
        if duplicate is not None:
            scores["duplicate"] = duplicate
        if self._copies is not None and info.copies is not None:
            scores["near_copy"], limits["near_copy"] = self._copies.match(view).similarity, info.copies.similarity
        return ImageVerdict(scores, tuple(name for name, limit in limits.items() if scores.get(name, limit) > limit))


def open_quality_gate(
    reference: Path,
    bundle: BundleInfo,
    *,
    encoder: str | None = None,
    training: Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> QualityGate:
    """Opens the gate for a bundle's images.

    Args:
        reference: A file of `write_check_reference`.
        bundle: Whose images are judged.
        encoder: What `load_encoder` takes; by default the name in the reference.
        training: The bundle's study set, to look for near copies of its training images; their features are kept there.
        device: Where the encoder runs.
        progress: Show a progress bar while they are described for the first time.

    Raises:
        EvaluationError: If the reference is missing, damaged, of another view or encoder, or the encoder is not there.
        StudySetError: If the study set is missing or damaged.
    """
    opened = read_check_reference(reference)
    opened.require_view(bundle.canonical_view)
    try:
        loaded = load_encoder(encoder or opened.info.encoder).to(device)
    except EncoderError as error:
        raise EvaluationError(f"{error}; the check cannot be made without its encoder, leave out --check") from None
    opened.require_encoder(judge_id(loaded, opened.info.feature), loaded.name)
    if training is None:
        return QualityGate(opened, loaded)
    studies = StudySet.open(training)
    trained = trained_on(bundle)
    rows = [row for row, record in enumerate(studies.records()) if trained(record)]
    return QualityGate(opened, loaded, training_copies(studies, rows, loaded, opened.info.feature, progress))


def training_copies(
    studies: StudySet, rows: Sequence[int], encoder: FrozenEncoder, feature: Feature, progress: bool = False
) -> CopyFinder:
    """Opens the search for near copies of training images; their features are kept in the study set's folder.

    Args:
        studies: The whole study set.
        rows: Its rows that trained.
        encoder: Of the reference.
        feature: Of the reference.
        progress: Show a progress bar on stderr.

    Raises:
        EvaluationError: If there are fewer than two, or a feature is not finite.
    """
    training = StudySet(studies.folder, studies.info, studies.dataset.select(list(rows)))
    spaces = [encoder_space(encoder, feature), gradient_space()]
    shown = sha256_json([studies.content_sha256, training.image_ids])
    with progress_bar("describing training images", len(rows) * len(spaces), progress) as advance:
        kept = {
            space.name: space.kept_features(training, studies.folder / FEATURES_FOLDER, shown, advance)
            for space in spaces
        }
    return CopyFinder(training, spaces, kept)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns the luminance (1024,) of an image (S, S) or (S, S, 3), of mean 0 and length 1 or 0 if flat.

    Its product with that of another image is their correlation.
    """
    view = image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))
    small = resized(luminance(view[None]), _THUMBNAIL_PX).flatten().double().numpy()
    centred = small - small.mean()
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length > np.finfo(np.float32).eps else np.zeros_like(centred))
