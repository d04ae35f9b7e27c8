"""The one canonical view: what the image tokenizer and every frozen encoder see of a study.

The same function serves ingestion, the app and the evaluation, so that no two parts of a study ever look at different
pixels. A chest X-ray is never flipped left to right: a mirrored one shows dextrocardia.
"""

import hashlib
import random
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose, MapTransform
from pydantic import model_validator

from arra_med.config import StrictModel
from arra_med.imaging.fundus import crop_field_of_view

Modality = Literal["cxr", "fundus", "photo"]
NUM_CHANNELS: Mapping[Modality, int] = {"cxr": 1, "fundus": 3, "photo": 3}

_MAX_SHIFT = 0.04  # fraction of the side
_MAX_ZOOM = 0.06
_MAX_GAMMA = 0.15


class CanonicalView(StrictModel):
    """What the canonical view of a study looks like.

    Attributes:
        modality: `cxr` views have one channel, `fundus` and `photo` views three (RGB).
        size_px: Side of the square view.
        version: Raised whenever the pixels of a view change for the same file. 2: DICOM images without a window leave a
            collimation border out of their percentiles, and pixels that are not square are made so; PNG and JPEG files
            look as in 1.
    """

    modality: Modality
    size_px: int = 128
    version: int = 2

    @model_validator(mode="after")
    def _check_size(self) -> "CanonicalView":
        if not 16 <= self.size_px <= 2048:
            raise ValueError("size_px must lie between 16 and 2048")
        return self

    @property
    def channels(self) -> int:
        """Number of channels of the view."""
        return NUM_CHANNELS[self.modality]


class FieldOfViewCropd(MapTransform):
    """Cuts a fundus photograph (3, H, W) to the square around its field of view."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the mapping with each of `keys` cropped."""
        out = dict(data)
        for key in self.key_iterator(out):
            pixels = np.asarray(out[key]).transpose(1, 2, 0)
            out[key] = torch.from_numpy(np.ascontiguousarray(crop_field_of_view(pixels).transpose(2, 0, 1)))
        return out


class CentreSquared(MapTransform):
    """Cuts an image (C, H, W) to its central square, as the paper does; odd remainders go to the right and bottom."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the mapping with each of `keys` cropped."""
        out = dict(data)
        for key in self.key_iterator(out):
            height, width = out[key].shape[-2:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            out[key] = out[key][..., top : top + side, left : left + side]
        return out


class ResizeAntialiasedd(MapTransform):
    """Resizes an image (C, S, S) to `size_px` with an antialiased bicubic kernel, clamped to [0, 1]."""

    def __init__(self, keys: list[str], size_px: int) -> None:
        super().__init__(keys)
        self.size_px = size_px

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Returns the mapping with each of `keys` resized."""
        out = dict(data)
        for key in self.key_iterator(out):
            size = (self.size_px, self.size_px)
            out[key] = F.interpolate(out[key][None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        return out


def canonical_transforms(spec: CanonicalView, key: str = "image") -> Compose:
    """Returns the MONAI pipeline (C, H, W) float32 [0, 1] -> canonical view (C, size_px, size_px)."""
    field_of_view = [FieldOfViewCropd([key])] if spec.modality == "fundus" else []
    return Compose([*field_of_view, CentreSquared([key]), ResizeAntialiasedd([key], spec.size_px)])


def canonical_view(pixels: np.ndarray, spec: CanonicalView) -> np.ndarray:
    """Turns decoded pixels into the canonical view.

    Args:
        pixels: float32 in [0, 1], (H, W) for a chest X-ray, (H, W, 3) RGB for a fundus photograph.
        spec: The view wanted.

    Returns:
        float32 (C, size_px, size_px) in [0, 1].

    Raises:
        ValueError: If the number of channels is not the modality's.
    """
    channels_last = pixels[..., None] if pixels.ndim == 2 else pixels
    if channels_last.ndim != 3 or channels_last.shape[-1] != spec.channels:
        raise ValueError(f"a {spec.modality} image must have {spec.channels} channel(s), found shape {pixels.shape}")
    image = torch.from_numpy(np.ascontiguousarray(channels_last.transpose(2, 0, 1), dtype=np.float32))
    return np.asarray(canonical_transforms(spec)({"image": image})["image"], dtype=np.float32)


def to_uint8(view: np.ndarray) -> np.ndarray:
    """Rounds a view in [0, 1] to 8 bits."""
    return np.rint(np.clip(view, 0, 1) * 255).astype(np.uint8)


def from_uint8(view: np.ndarray) -> np.ndarray:
    """Returns an 8-bit view as float32 in [0, 1]."""
    return view.astype(np.float32) / 255


def as_picture(view: np.ndarray) -> np.ndarray:
    """Returns a view (C, S, S) as people's programs want it: (S, S), or (S, S, 3)."""
    return view[0] if len(view) == 1 else np.ascontiguousarray(view.transpose(1, 2, 0))


def augmented_view(view: np.ndarray, image_id: str, k: int, seed: int) -> np.ndarray:
    """Returns the k-th seeded variant of a view: a small shift, zoom and gamma change, never a flip or rotation.

    Args:
        view: uint8 (C, S, S).
        image_id: With `seed` and `k` the only source of randomness, so that codes and features of a variant agree.
        k: 0 is the view itself, unchanged.
        seed: Seed of the whole set.

    Returns:
        uint8 (C, S, S).
    """
    if k == 0:
        return view
    draw = random.Random(hashlib.sha256(f"{seed}:{image_id}#{k}".encode()).digest())
    zoom = 1 + draw.uniform(-_MAX_ZOOM, _MAX_ZOOM)
    shift_x, shift_y = draw.uniform(-2 * _MAX_SHIFT, 2 * _MAX_SHIFT), draw.uniform(-2 * _MAX_SHIFT, 2 * _MAX_SHIFT)
    gamma = 1 + draw.uniform(-_MAX_GAMMA, _MAX_GAMMA)
    image = torch.from_numpy(from_uint8(view))[None]
    matrix = torch.tensor([[[1 / zoom, 0, shift_x], [0, 1 / zoom, shift_y]]])
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    border: Literal["zeros", "border"] = "zeros" if view.shape[0] == 3 else "border"  # a fundus lies on black
    moved = F.grid_sample(image, grid, mode="bicubic", padding_mode=border, align_corners=False)
    return to_uint8(moved.clamp(0, 1).pow(gamma)[0].numpy())
