"""How much a picture looks like an upright frontal chest X-ray, or like the negative of one: 64 numbers and no network.

The numbers come from the 4,151 training images of NIH ChestX-ray14 and its RSNA subset without findings (NIH Clinical
Center; free to use, attribution asked for). `benchmarks/quality.py --fit` makes them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8
"""Rows and columns of the thumbnail that is judged."""

_BLACK, _WHITE = 0.06, 0.97
_BORDER_SHARE = 0.9  # of a row or column that is black or white all along
_LEAST_SIDE_PX = 8

# The left half of symmetric arrays, so that a mirrored image, or a mirrored heart, changes no score.
MEAN_CHEST = np.array(
    [
        [-2.06, -1.76, -1.21, 0.16],
        [-0.15, -0.01, -0.71, -0.20],
        [0.51, 0.14, -1.27, -0.26],
        [0.26, -0.02, -1.13, 0.23],
        [-0.18, -0.11, -0.53, 0.81],
        [-0.59, 0.05, 0.39, 1.29],
        [-1.01, 0.58, 1.34, 1.78],
        [-1.16, 0.93, 1.80, 2.08],
    ]
)
"""The mean thumbnail, of mean 0 and standard deviation 1."""

WEIGHTS = np.array(
    [
        [0.017, -0.052, -0.072, 0.047],
        [0.009, 0.036, -0.083, -0.030],
        [0.063, 0.007, 0.013, 0.064],
        [-0.039, 0.001, -0.041, -0.080],
        [-0.069, -0.037, 0.019, -0.125],
        [0.008, 0.023, -0.004, 0.189],
        [-0.001, -0.059, -0.028, 0.089],
        [0.002, 0.072, 0.068, -0.007],
    ]
)
"""Ridge regression from thumbnails to 1 for upright images, -1 for the same ones turned, upside down or inverted."""

BIAS = -0.074


class ContentBox(NamedTuple):
    """The part of a picture within its black or white borders, in its own pixels (ends excluded)."""

    top: int
    bottom: int
    left: int
    right: int


def content_box(gray: NDArray[np.float32]) -> ContentBox:
    """Takes away rows and columns at the edges that are black or white nearly all along: collimation, film, bars.

    Args:
        gray: (H, W), range [0, 1].

    Returns:
        The whole picture where less than 8 rows or columns would be left.
    """
    extreme = (gray < _BLACK) | (gray > _WHITE)
    height, width = gray.shape
    box, previous = ContentBox(0, height, 0, width), None
    while box != previous:
        previous = box
        rows = np.flatnonzero(extreme[:, box.left : box.right].mean(axis=1) <= _BORDER_SHARE)
        rows = rows[(rows >= box.top) & (rows < box.bottom)]
        if rows.size == 0 or rows[-1] + 1 - rows[0] < _LEAST_SIDE_PX:
            return ContentBox(0, height, 0, width)
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(extreme[top:bottom].mean(axis=0) <= _BORDER_SHARE)
        columns = columns[(columns >= box.left) & (columns < box.right)]
        if columns.size == 0 or columns[-1] + 1 - columns[0] < _LEAST_SIDE_PX:
            return ContentBox(0, height, 0, width)
        box = ContentBox(top, bottom, int(columns[0]), int(columns[-1]) + 1)
    return box


def thumbnail(gray: NDArray[np.float32], box: ContentBox | None = None) -> NDArray[np.float64]:
    """(8, 8) means over the content of a picture, shifted and scaled to mean 0 and standard deviation 1; 0 if flat.

    Args:
        gray: (H, W), range [0, 1].
        box: Its `content_box`, where that is known already.
    """
    box = box or content_box(gray)
    content = Image.fromarray(np.ascontiguousarray(gray[box.top : box.bottom, box.left : box.right]))
    small = np.asarray(content.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    deviation = float(small.std())
    return (small - small.mean()) / deviation if deviation > 1e-6 else np.zeros_like(small)


def folded(thumbnails: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 8, 8) -> (..., 8, 4): the sum of each thumbnail's left half and its mirrored right half."""
    return (thumbnails + thumbnails[..., ::-1])[..., : SIDE // 2]


def chest_likeness(small: NDArray[np.float64]) -> float:
    """About 1 for an upright frontal chest, about -1 for one that is turned, upside down or inverted.

    Args:
        small: (8, 8), of `thumbnail`.
    """
    return float((folded(small) * WEIGHTS).sum() + BIAS)


def chest_correlation(small: NDArray[np.float64]) -> float:
    """The correlation with the mean chest, range [-1, 1]; clearly negative for an inverted image.

    Args:
        small: (8, 8), of `thumbnail`.
    """
    return float((folded(small) * MEAN_CHEST).sum() / SIDE**2)
