"""FID, KID, precision and recall through torch-fidelity, with any frozen encoder in the place of Inception.

What torch-fidelity would fetch (Inception, VGG) is never asked for, nothing is cached on disk, and the encoder stays on the
device it is on: move it to a GPU, and the judge runs there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.distances import PRECISION_RECALL_NEIGHBOURS
from arra_med.evaluate.features import judge_id

_BATCH_SIZE = 32


@dataclass(frozen=True)
class TorchFidelityScores:
    """What torch-fidelity says of two sets of images, by one judge; at the features' full width and in float32.

    Attributes:
        judge: Name of the encoder.
        judge_id: Name it was registered by: weights, preprocessing and feature; equal ids mean equal judges.
        num_images: On each side.
        frechet_distance: FID with the judge's features.
        kernel_distance: KID, one subset of all images: the unbiased estimate.
        precision: Share of generated images near real ones.
        recall: Share of real images near generated ones.
    """

    judge: str
    judge_id: str
    num_images: int
    frechet_distance: float
    kernel_distance: float
    precision: float
    recall: float


@contextmanager
def registered_encoder(encoder: FrozenEncoder, feature: Feature = "mean") -> Iterator[str]:
    """Registers an encoder with torch-fidelity, under a name made of its weights, preprocessing and feature.

    Args:
        encoder: On any device, where it stays; torch-fidelity is to be called with `cuda=False`.
        feature: A global feature of it.

    Yields:
        The name for `torch_fidelity.calculate_metrics(feature_extractor=...)`. It is forgotten at the end, so that the
        registry, which lives as long as the process, does not keep the encoder in memory.

    Raises:
        EvaluationError: If the feature is "patch", which is not one vector for each image.
        EncoderError: If the encoder has no such feature.
    """
    if feature == "patch":
        raise EvaluationError("feature 'patch' is many vectors for each image: judge by cls, mean or trunk-cls")
    encoder.width(feature)
    name = judge_id(encoder, feature)

    class RegisteredEncoder(FeatureExtractorBase):
        """The encoder as torch-fidelity wants it: uint8 (B, C, H, W) in, a tuple of (B, D) float32 out."""

        def __init__(self, name: str, features_list: Sequence[str], **settings: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (feature,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return feature

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor]:
            # The encoder is no submodule: what torch-fidelity moves or casts leaves it alone.
            return (encoder(images.to(encoder.mean.device).float() / 255).get(feature),)

    already_there = name in FEATURE_EXTRACTORS_REGISTRY
    if not already_there:
        torch_fidelity.register_feature_extractor(name, RegisteredEncoder)
    try:
        yield name
    finally:
        if not already_there:
            del FEATURE_EXTRACTORS_REGISTRY[name]


def torch_fidelity_scores(
    encoder: FrozenEncoder,
    real: Sequence[np.ndarray],
    generated: Sequence[np.ndarray],
    *,
    feature: Feature = "mean",
    num_neighbours: int = PRECISION_RECALL_NEIGHBOURS,
) -> TorchFidelityScores:
    """Judges generated images by torch-fidelity's own FID, KID, precision and recall.

    Args:
        encoder: The judge, on the device to use.
        real: Images uint8 (C, S, S), C of 1 or 3.
        generated: As many, of the same shape.
        feature: The encoder's global feature.
        num_neighbours: k of precision and recall.

    Raises:
        EvaluationError: If there are not more than k images on a side, not as many on both, images of several sizes or of
            another type, or a feature is not finite.
        EncoderError: If the encoder has no such feature.
    """
    _check_images(real, generated, num_neighbours + 1)
    with registered_encoder(encoder, feature) as name:
        try:
            scores = torch_fidelity.calculate_metrics(
                input1=_ImageSet(generated),  # torch-fidelity's precision takes the first input as the generated one
                input2=_ImageSet(real),
                feature_extractor=name,
                fid=True,
                kid=True,
                prc=True,
                kid_subsets=1,
                kid_subset_size=len(real),
                prc_neighborhood=num_neighbours,
                batch_size=_BATCH_SIZE,
                cuda=False,  # for its own tensors; the encoder is where it is
                cache=False,
                save_cpu_ram=True,  # no worker processes
                verbose=False,
            )
        except np.linalg.LinAlgError as error:
            raise EvaluationError(
                f"torch-fidelity met NaN or infinity in the features of {encoder.name}: look for corrupt pixels or "
                "half-precision overflow"
            ) from error
    return TorchFidelityScores(
        judge=encoder.name,
        judge_id=name,
        num_images=len(real),
        frechet_distance=scores[torch_fidelity.KEY_METRIC_FID],
        kernel_distance=scores[torch_fidelity.KEY_METRIC_KID_MEAN],
        precision=scores[torch_fidelity.KEY_METRIC_PRECISION],
        recall=scores[torch_fidelity.KEY_METRIC_RECALL],
    )


class _ImageSet(Dataset[Tensor]):
    """Images as torch-fidelity reads them, uint8 (C, H, W) tensors."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._images[index]))


def _check_images(real: Sequence[np.ndarray], generated: Sequence[np.ndarray], at_least: int) -> None:
    sets = {"real": real, "generated": generated}
    for side, images in sets.items():
        if len(images) < at_least:
            raise EvaluationError(
                f"the {side} set has {len(images)} images and the judge needs at least {at_least}: give more images"
            )
        types = sorted({str(image.dtype) for image in images})
        if types != ["uint8"]:
            raise EvaluationError(f"the {side} images are of type {', '.join(types)}: give uint8 (C, S, S)")
    if len(real) != len(generated):
        raise EvaluationError(
            f"there are {len(real)} real and {len(generated)} generated images, and FID depends on their number: give as "
            "many on both sides"
        )
    shapes = {side: sorted({image.shape for image in images}) for side, images in sets.items()}
    found = sorted({shape for side in shapes.values() for shape in side})
    if len(found) != 1 or len(found[0]) != 3:
        raise EvaluationError(
            f"images have shapes {_words(shapes['real'])} (real) and {_words(shapes['generated'])} (generated), and a judge "
            "sees what resizing does as a difference: give all of them as canonical views (C, S, S) of one size"
        )


def _words(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes[:3]) + (", ..." if len(shapes) > 3 else "")
