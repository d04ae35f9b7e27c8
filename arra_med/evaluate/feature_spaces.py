"""Two ways to describe images so that copies lie near each other: a frozen encoder, and directions of edges.

They share no blind spot: an encoder's mean feature hardly changes when an image is shifted, but does when an image
tokenizer blurs it; edges are the other way round, which is why a picture is looked up in several positions there.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.features import judge_id, judged_features, kept_features
from arra_med.evaluate.registration import inside, luminance, resized, sampled
from arra_med.runs import sha256_json

_BATCH_SIZE = 32

_PICTURE_PX = 64
_ORIENTATIONS = 8
_CELLS = 8
_BORDER_PX = 2  # a shifted copy has a made-up strip there
_FLAT_GRADIENT = 0.02  # a cell's gradients below this are noise, and stay small
_ZOOMS = (0.9, 1.0, 1.07)
_SHIFTS = (-0.11, 0.0, 0.11)  # of 2, the whole side
_MIN_CELL = 0.5  # share of a cell that must lie inside the picture


class Views(Protocol):
    """Images by number, such as a `StudySet`."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def view(self, index: int) -> np.ndarray:
        """An image as uint8 (C, S, S)."""
        ...


@dataclass(frozen=True)
class ArrayViews:
    """Images in memory.

    Attributes:
        views: uint8 (n, C, S, S).
    """

    views: np.ndarray

    def __post_init__(self) -> None:
        """Refuses what is not a stack of views."""
        if self.views.dtype != np.uint8 or self.views.ndim != 4 or self.views.shape[1] not in (1, 3):
            raise EvaluationError(
                f"images came as {self.views.dtype} of shape {self.views.shape}: give uint8 views (n, C, S, S), C 1 or 3"
            )

    def __len__(self) -> int:
        return len(self.views)

    def view(self, index: int) -> np.ndarray:
        """An image as uint8 (C, S, S)."""
        picture: np.ndarray = self.views[index]
        return picture


class Query(NamedTuple):
    """Descriptions of an image that is looked up, one for each of the V positions it is tried in.

    Attributes:
        values: float32 (V, D).
        known: bool (V, D), what may be compared; the rest lies outside the image.
    """

    values: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class FeatureSpace:
    """A way to describe images.

    Attributes:
        name: What tables call it.
        fingerprint: Equal fingerprints give equal features.
        describe: uint8 (B, C, S, S) -> float32 (B, D), of images that are searched.
        describe_query: uint8 (C, S, S) -> `Query`, of an image that is looked up.
    """

    name: str
    fingerprint: str
    describe: Callable[[np.ndarray], np.ndarray]
    describe_query: Callable[[np.ndarray], Query]

    def features(self, images: Views, advance: Callable[[int], None] | None = None) -> np.ndarray:
        """Describes images, a batch at a time.

        Args:
            images: The images.
            advance: Told of every batch's size.

        Returns:
            float32 (n, D).

        Raises:
            EvaluationError: If there is no image, or a feature is not finite.
        """
        if not len(images):
            raise EvaluationError(f"{self.name}: there is no image to describe; give at least one")
        parts = []
        for start in range(0, len(images), _BATCH_SIZE):
            batch = range(start, min(start + _BATCH_SIZE, len(images)))
            parts.append(self.describe(np.stack([images.view(row) for row in batch])))
            if advance is not None:
                advance(len(batch))
        features = np.concatenate(parts).astype(np.float32, copy=False)
        if not np.isfinite(features).all():
            raise EvaluationError(f"{self.name}: a feature is not finite; look for damaged images or weights")
        return features

    def kept_features(
        self, images: Views, folder: Path, images_sha256: str, advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Describes images like `features`, and keeps the result in a folder for the next time; see `kept_features`.

        Args:
            images: The images.
            folder: Where to; a file for each space and images, of mode 0600: features tell much of an image.
            images_sha256: Identifies the images and their order.
            advance: Told of every batch's size.

        Raises:
            EvaluationError: As `features`, or if the file is damaged.
        """
        path = folder / f"features-{sha256_json([self.fingerprint, images_sha256])[:16]}.safetensors"
        if path.exists() and advance is not None:
            advance(len(images))
        made_by = {"judge": self.name, "judge_id": self.fingerprint}
        return kept_features(path, made_by, images_sha256, lambda: self.features(images, advance), mode=0o600)


def encoder_space(encoder: FrozenEncoder, feature: Feature = "mean") -> FeatureSpace:
    """The space of a frozen encoder's global feature.

    Args:
        encoder: On any device.
        feature: `mean` hardly changes when an image is shifted.
    """

    def describe(views: np.ndarray) -> np.ndarray:
        return judged_features(encoder, views, feature=feature, batch_size=len(views))

    def describe_query(view: np.ndarray) -> Query:
        features = describe(view[None])
        return Query(features, np.ones(features.shape, dtype=bool))

    return FeatureSpace(encoder.name, judge_id(encoder, feature), describe, describe_query)


def gradient_space() -> FeatureSpace:
    """The space of `gradient_descriptor`, which needs no weights; pictures are looked up in 27 positions."""
    told = [_PICTURE_PX, _ORIENTATIONS, _CELLS, _BORDER_PX, _FLAT_GRADIENT, *_ZOOMS, *_SHIFTS, _MIN_CELL]
    return FeatureSpace("gradients", " ".join(map(str, ["gradients", *told])), gradient_descriptor, gradient_queries)


def gradient_descriptor(views: np.ndarray) -> np.ndarray:
    """Describes images by the directions of their edges in overlapping cells.

    Cells are an eighth of the side apart and twice as wide, so that a shift of a few pixels changes little; each cell
    is normalised, so that brightness and contrast change little too.

    Source: Dalal and Triggs, "Histograms of oriented gradients", CVPR 2005, with directions over the full circle.

    Args:
        views: uint8 (B, C, S, S), C 1 or 3.

    Returns:
        float32 (B, 512).
    """
    return _cells(resized(luminance(views), _PICTURE_PX)).flatten(1).numpy()


def gradient_queries(view: np.ndarray) -> Query:
    """Describes an image as it would be if it were a shifted or cropped copy, for 27 shifts and crops.

    Args:
        view: uint8 (C, S, S), C 1 or 3.

    Returns:
        Values (27, 512); cells that lie outside the image are not known.
    """
    picture = resized(luminance(view[None]), _PICTURE_PX)
    positions = list(itertools.product(_ZOOMS, _SHIFTS, _SHIFTS))
    zoom = torch.tensor([[1 / zoom, 1 / zoom] for zoom, _, _ in positions])
    shift = torch.tensor([[across, down] for _, across, down in positions])
    moved = sampled(picture.expand(len(positions), -1, -1, -1), zoom, shift, padding_mode="border")
    known = _pooled(inside(zoom, shift, _PICTURE_PX)[:, None]) >= _MIN_CELL
    return Query(_cells(moved).flatten(1).numpy(), known.expand(-1, _ORIENTATIONS, -1, -1).flatten(1).numpy())


def _cells(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 1, 64, 64) in [0, 1] -> histograms of directions (B, 8, 8, 8)."""
    down, across = torch.gradient(pictures, dim=(-2, -1))
    strength = torch.hypot(down, across)
    strength[..., :_BORDER_PX, :] = strength[..., -_BORDER_PX:, :] = 0
    strength[..., :_BORDER_PX] = strength[..., -_BORDER_PX:] = 0
    place = torch.atan2(down, across) * (_ORIENTATIONS / (2 * torch.pi))
    bins = torch.arange(_ORIENTATIONS).view(1, -1, 1, 1)
    away = (place - bins + _ORIENTATIONS / 2) % _ORIENTATIONS - _ORIENTATIONS / 2
    cells = _pooled(strength * (1 - away.abs()).clamp_min(0))  # shared between the two nearest directions
    return cells / (cells.norm(dim=1, keepdim=True) + _FLAT_GRADIENT)


def _pooled(values: torch.Tensor) -> torch.Tensor:
    stride = _PICTURE_PX // _CELLS
    return F.avg_pool2d(values, 2 * stride, stride, padding=stride // 2, count_include_pad=False)
