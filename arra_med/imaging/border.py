"""The frame that collimation, shutters and scanning leave around a radiograph, found by its near-constant rows.

Only the window of an image that names none rests on this: what lies in such a frame must not become the black or the
white of the picture. Nothing is cut off.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLED_PX = 256  # lines and places in a line that are looked at, along each side
_MARKS = 0.05  # of a line, at either end of its values: what letters and markers in the frame may fill
_NEAR_CONSTANT = 0.03  # of the spread of the whole image
_SMALLEST_INSIDE = 0.25  # of each side; with less left, what was found is no frame


def inside_border(pixels: NDArray[Any], values: NDArray[np.int64] | None = None) -> tuple[slice, slice]:
    """Finds the part of an image within its near-constant outer rows and columns.

    From each side in turn, lines are left out whose values (but for the outer 5% at either end) spread less than 3% of
    what the image's do, until each side begins with a line that varies. Every n-th line is looked at.

    Args:
        pixels: (H, W) integers.
        values: What each of these integers stands for, if not for itself.

    Returns:
        The rows and the columns; all of them if there is no such frame or too little would be left.
    """
    row_step, column_step = (max(1, side // _SAMPLED_PX) for side in pixels.shape)
    sampled = pixels[::row_step, ::column_step].astype(np.int64)
    sampled = sampled if values is None else values[sampled]
    least = _NEAR_CONSTANT * _spread(sampled.reshape(1, -1), axis=1)[0]
    top, bottom, left, right = 0, sampled.shape[0], 0, sampled.shape[1]
    found = None
    while found != (top, bottom, left, right) and top < bottom and left < right:
        found = top, bottom, left, right
        rows = np.flatnonzero(_spread(sampled[top:bottom, left:right], axis=1) > least)
        top, bottom = (top + rows[0], top + rows[-1] + 1) if rows.size else (top, top)
        columns = np.flatnonzero(_spread(sampled[top:bottom, left:right], axis=0) > least) if rows.size else rows
        left, right = (left + columns[0], left + columns[-1] + 1) if columns.size else (left, left)
    kept = (bottom - top) / sampled.shape[0], (right - left) / sampled.shape[1]
    if min(kept) < _SMALLEST_INSIDE:
        return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    return _span(top, bottom, sampled.shape[0], pixels.shape[0]), _span(left, right, sampled.shape[1], pixels.shape[1])


def _span(first: int, stop: int, num_sampled: int, num_lines: int) -> slice:
    """The lines from the first to the last sampled one inside; those between it and a sampled one outside are out."""
    step = max(1, num_lines // _SAMPLED_PX)
    return slice(int(first) * step, num_lines if stop == num_sampled else int(stop - 1) * step + 1)


def _spread(lines: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """What the values of each line span without the outermost ones at either end."""
    ordered = np.sort(lines, axis=axis)
    last = ordered.shape[axis] - 1
    cut = int(_MARKS * (last + 1))
    return np.asarray(ordered.take(last - cut, axis=axis) - ordered.take(cut, axis=axis))
