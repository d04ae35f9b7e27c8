"""Square pixels: an image whose pixels are higher than wide, or wider than high, is resampled to its true proportions.

Source: DICOM PS3.3 C.7.6.3.1.7 (pixel aspect ratio), 10.7.1.1 and 10.7.1.3 (pixel spacing), C.8.11.7.1.1 (imager pixel
spacing), C.8.6.2 (nominal scanned pixel spacing).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from arra_med.imaging.photograph import check_size

EQUAL = 0.01
"""Sides that differ by less are taken for equal: rounding of the spacing, not the shape of the pixel."""

MOST_UNEQUAL = 4.0
"""The longest pixel believed, as a multiple of its other side."""

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


def pixel_aspect(header: Dataset) -> float:
    """Returns the height of a pixel over its width; 1 where nothing usable is said.

    Each of the attributes has two values, the first one vertical. A calibrated spacing counts before that of the
    detector, any spacing before the ratio.
    """
    for keyword in _SPACINGS:
        value = header.get(keyword)
        if isinstance(value, MultiValue | list | tuple) and len(value) == 2:
            try:
                vertical, horizontal = (float(side) for side in value)
            except (TypeError, ValueError):
                continue
            if 0 < vertical < math.inf and 0 < horizontal < math.inf:
                return vertical / horizontal
    return 1.0


def with_square_pixels(pixels: NDArray[np.float32], aspect: float) -> NDArray[np.float32]:
    """Enlarges the coarser direction until pixels are square, by the bicubic kernel of the canonical view.

    Args:
        pixels: (H, W) or (H, W, C) float32 in [0, 1].
        aspect: Height of a pixel over its width.

    Returns:
        The same number of dimensions and range, H or W larger.

    Raises:
        ImageError: `too_large` if the result would be.
    """
    height, width = pixels.shape[:2]
    height, width = (round(height * aspect), width) if aspect > 1 else (height, round(width / aspect))
    check_size(height, width)
    channels_first = np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    image = torch.from_numpy(channels_first)[None]
    resized = F.interpolate(image, (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)
    return resized.numpy().transpose(1, 2, 0).reshape(height, width, *pixels.shape[2:])
