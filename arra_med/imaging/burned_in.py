"""Text in the pixels: how many small bright letter-like things stand side by side in lines, and a way to cover them.

Only upright writing that is brighter than what surrounds it counts. It is not read: nothing that the pixels may tell
of a person leaves this module, only a count and pixels without it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from arra_med.imaging.fundus import brightest_channel

DETAIL_SIDE_PX = 1024
"""Writing is searched in a copy made of every n-th row and column, the longer side of which is at most this."""

LEAST_LINE = 5
"""Letters of a line that counts; L, R, PA and the like do not make one."""

_STROKES_PX = (2, 4, 8)  # how far from a stroke's pixel both sides must be darker
_CONTRAST = 56  # of 255, between a stroke and both of its sides
_HEIGHTS_PX = (5, 56)
_WIDTHS = (0.08, 1.7)  # of the height: from I to W, and two letters that touch
_LARGEST_FILL = 0.92  # of a letter's box; what is fuller is a dot or a bar
_STRIP_ROWS = 64  # worked on at a time: what is computed in between stays in the cache
_MAX_PARTS = 3000  # a picture with more fine parts than this is noise or a grid
_HEIGHT_RATIO = 1.7  # between letters of a line: capitals and small ones
_OFFSET = 0.4  # between the lower or upper ends of neighbours, of the height
_GAP = 1.3  # between neighbours, of the height: a space is part of a line
_BRIGHTNESS_SPREAD = 26  # of 255: writing has one brightness, bones and wires do not
_COVER_MARGIN = 0.35  # around a covered line, of its letters' height


class _Letter(NamedTuple):
    left: int
    right: int
    top: int
    bottom: int
    brightness: int

    @property
    def height(self) -> int:
        return self.bottom - self.top


def count_letters_in_lines(pixels: NDArray[np.float32]) -> int:
    """Counts the letter-like things in lines of at least `LEAST_LINE`.

    Letters are found from 5 to 56 px high in the copy (`DETAIL_SIDE_PX`), which is 0.5 to 5.5% of a large image's
    longer side. A word such as PORTABLE counts 8; letters that touch count as one.

    Args:
        pixels: (H, W) or (H, W, 3), range [0, 1]; of colours the brightest channel counts.
    """
    return sum(map(len, _lines(_letters(_detail(pixels)))))


def cover_letters_in_lines(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Covers the lines of letters with what surrounds them, without an edge that would tell where they were.

    Args:
        pixels: (H, W) or (H, W, 3), range [0, 1].

    Returns:
        The pixels, changed only in the lines' boxes, and the number of letters covered; the same array where there is
        none.
    """
    lines = _lines(_letters(_detail(pixels)))
    if not lines:
        return pixels, 0
    step = _step(pixels)
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    tallest = 1
    for line in lines:
        height = max(letter.height for letter in line)
        margin = max(2, round(_COVER_MARGIN * height))
        top, bottom = min(letter.top for letter in line) - margin, max(letter.bottom for letter in line) + margin
        left, right = line[0].left - margin, max(letter.right for letter in line) + margin
        covered[max(0, top * step) : bottom * step, max(0, left * step) : right * step] = True
        tallest = max(tallest, height * step)
    nearest = ndimage.distance_transform_edt(covered, return_distances=False, return_indices=True)
    filled = pixels[tuple(nearest)]
    sigma = (tallest / 3, tallest / 3) + (0,) * (pixels.ndim - 2)
    smooth = ndimage.gaussian_filter(filled, sigma)
    out = pixels.copy()
    out[covered] = smooth[covered]
    return out, sum(map(len, lines))


def _step(pixels: NDArray[np.float32]) -> int:
    return max(1, -(-max(pixels.shape[:2]) // DETAIL_SIDE_PX))


def _detail(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The brightness of every n-th row and column, in 8 bits."""
    step = _step(pixels)
    thinned = pixels[step // 2 :: step, step // 2 :: step]
    detail = np.empty(thinned.shape[:2], dtype=np.uint8)
    for start in range(0, len(detail), _STRIP_ROWS):
        strip = thinned[start : start + _STRIP_ROWS]
        brightness = strip if strip.ndim == 2 else brightest_channel(strip)
        detail[start : start + _STRIP_ROWS] = brightness * np.float32(255)
    return detail


def _strokes(detail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels that are clearly brighter than both of their sides, across or down, at some stroke width."""
    found = np.zeros(detail.shape, dtype=bool)
    margin = max(_STROKES_PX)
    for start in range(0, len(detail), _STRIP_ROWS):
        stop = min(start + _STRIP_ROWS, len(detail))
        above, below = max(0, start - margin), min(len(detail), stop + margin)
        found[start:stop] = _strokes_of_strip(detail[above:below])[start - above : stop - above]
    return found


def _strokes_of_strip(strip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found = np.zeros(strip.shape, dtype=bool)
    bright = np.maximum(strip, _CONTRAST) - _CONTRAST  # exceeds a side where the pixel exceeds it by the contrast
    for reach in _STROKES_PX:
        if min(strip.shape) <= 2 * reach:
            continue
        across = np.maximum(strip[:, : -2 * reach], strip[:, 2 * reach :])
        found[:, reach:-reach] |= bright[:, reach:-reach] > across
        down = np.maximum(strip[: -2 * reach], strip[2 * reach :])
        found[reach:-reach] |= bright[reach:-reach] > down
    return found


def _letters(detail: NDArray[np.uint8]) -> list[_Letter]:
    strokes = _strokes(detail)
    if not strokes.any():
        return []
    used = np.flatnonzero(strokes.any(axis=1))
    rows = np.union1d(used, np.minimum(used + 1, len(strokes) - 1))  # an empty row below each band keeps bands apart
    labelled, num_parts = ndimage.label(strokes[rows], structure=np.ones((3, 3), dtype=bool))
    if num_parts > _MAX_PARTS:
        return []
    letters = []
    for number, box in enumerate(ndimage.find_objects(labelled), start=1):
        height, width = (side.stop - side.start for side in box)
        if not _HEIGHTS_PX[0] <= height <= _HEIGHTS_PX[1]:
            continue
        if not _WIDTHS[0] * height <= width <= max(2, _WIDTHS[1] * height):
            continue
        part = labelled[box] == number
        if part.mean() <= _LARGEST_FILL or width <= max(2, height // 3):
            top, columns = int(rows[box[0].start]), box[1]
            values = np.sort(detail[top : top + height, columns][part])
            brightness = int(values[(4 * len(values)) // 5])  # the edges of a letter are blurred, its strokes are not
            letters.append(_Letter(columns.start, columns.stop, top, top + height, brightness))
    return letters


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """The chains of at least `LEAST_LINE` neighbours, from left to right."""
    lines: list[list[_Letter]] = []
    for letter in sorted(letters):
        line = next((line for line in lines if _continues(line[-1], letter)), None)
        if line is None:
            lines.append([letter])
        else:
            line.append(letter)
    return [line for line in lines if len(line) >= LEAST_LINE]


def _continues(last: _Letter, letter: _Letter) -> bool:
    height = max(last.height, letter.height)
    return (
        -1 <= letter.left - last.right <= _GAP * height
        and height <= _HEIGHT_RATIO * min(last.height, letter.height)
        and min(abs(letter.bottom - last.bottom), abs(letter.top - last.top)) <= max(1, _OFFSET * height / 2)
        and abs(letter.brightness - last.brightness) <= _BRIGHTNESS_SPREAD
    )
