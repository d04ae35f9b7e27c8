"""Where the retina is in a fundus photograph: the camera's circular field of view, found and cut out as a square.

Cameras differ in how much black they leave around the circle and many photographs cut it at the top and bottom, so
the circle is fitted to the visible arcs of the field's edge rather than taken from its bounding box. Nothing is ever
stretched: where the circle leaves the photograph, black is added.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DETECTION_SIDE_PX = 256
"""The field is searched in a copy whose longer side is at most this: the edge is found to about half a percent."""

_SMALLEST_THRESHOLD, _LARGEST_THRESHOLD = 0.03, 0.10  # brightness above the black that counts as lit
_SMALLEST_FIELD = 0.05  # fraction of the photograph
_WHOLE_FRAME = 0.97  # a field that covers more than this fraction fills the photograph
_MARK_CONTRAST, _LARGEST_MARK = 0.15, 0.01  # brightness; fraction of the field's area
_WHITE = 0.97  # of a printed page around the photograph
_BAR_BRIGHTNESS, _BAR_RANGE, _LARGEST_BAR = 0.12, 0.03, 0.15  # range within a line; fraction of the photograph's side
_NUM_TRIALS, _MAX_VOTERS = 300, 250  # RANSAC
_LEAST_POINTS = 24
_EDGE_TOLERANCE = 0.012  # of the field's longer side: how far an edge point may lie from the circle
_LEAST_INLIERS, _LEAST_INLIERS_OF_HALF = 0.5, 0.35  # fraction of the edge points, of those left or right of the centre
_SMALLEST_RADIUS, _LARGEST_RADIUS = 0.25, 0.66  # of the field's longer side
_LEAST_COVERAGE = 0.96  # fraction of the field that must lie within the circle
_MARGIN = 1.02  # of the radius: what lies beyond is made black


class FieldOfView(NamedTuple):
    """The circle which holds the retina, in pixels of the photograph (x to the right, y down, pixel edges at integers).

    Attributes:
        cx: Centre, horizontally; may lie off the middle.
        cy: Centre, vertically.
        radius_px: Radius; the circle may leave the photograph.
        circular: Whether an edge of a circle was seen. If not, the circle only says which square holds the picture.
    """

    cx: float
    cy: float
    radius_px: float
    circular: bool


def find_field_of_view(rgb: NDArray[np.float32]) -> FieldOfView:
    """Finds the camera's field of view.

    The field is what is brighter than the black around it (its largest connected part, so that letters in a corner do
    not count); a circle is fitted to its edge by seeded RANSAC, leaving out where the photograph's own border cuts it.
    A field with no circular edge (an already cropped or squeezed picture) gives the square that bounds it, and a
    picture without any black around it gives the largest centred square.

    Args:
        rgb: (H, W, 3), range [0, 1].
    """
    return _locate(_without_frame(rgb))[0]


def crop_field_of_view(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cuts out the square around the field of view, without stretching.

    Args:
        rgb: (H, W, 3), range [0, 1].

    Returns:
        (S, S, 3) float32, range [0, 1], S about twice the radius. Black where the square leaves the photograph and
        outside the circle (where none was found, only over small marks apart from the field): dates and names that
        cameras print in the corners are no part of the retina.
    """
    rgb = _without_frame(rgb)
    field, marks = _locate(rgb)
    height, width = rgb.shape[:2]
    side = max(1, round(2 * field.radius_px))
    left, top = round(field.cx - side / 2), round(field.cy - side / 2)
    square = np.zeros((side, side, 3), dtype=np.float32)
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = rgb[y0:y1, x0:x1]
    if field.circular:
        y, x = np.ogrid[0:side, 0:side]
        distance = np.hypot(x + 0.5 + left - field.cx, y + 0.5 + top - field.cy)
        square[distance > field.radius_px * _MARGIN] = 0.0
    elif marks is not None:
        y, x = np.arange(y0, y1) * marks.shape[0] // height, np.arange(x0, x1) * marks.shape[1] // width
        square[y0 - top : y1 - top, x0 - left : x1 - left][marks[np.ix_(y, x)]] = 0.0
    return square


def brightest_channel(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) -> (H, W): the retina is bright in red where it is dark in blue; ten times as fast as a reduction."""
    return np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])


def _without_frame(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """The photograph with what frames it on a page or a screen made black."""
    return _without_bars(_without_white_frame(rgb))


def _without_bars(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """The photograph with bars at its border made black: rows or columns of one brightness from end to end."""
    mended = rgb
    for axis in (0, 1):
        lines = np.moveaxis(rgb, axis, 0)
        largest = int(_LARGEST_BAR * len(lines))
        for end in (lines, lines[::-1]):
            thickness = next((n for n in range(largest) if not _is_bar(end[n])), largest)
            if 0 < thickness < largest:  # one which does not end is no bar
                mended = mended.copy() if mended is rgb else mended
                sides = np.moveaxis(mended, axis, 0)
                (sides if end is lines else sides[::-1])[:thickness] = 0
    return mended


def _is_bar(line: NDArray[np.float32]) -> bool:
    return bool(line.max() > _BAR_BRIGHTNESS and np.ptp(line, axis=0).max() < _BAR_RANGE)


def _without_white_frame(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """The photograph with a white surround, recognised by four white corners, made black."""
    if min(rgb[y, x].min() for y in (0, -1) for x in (0, -1)) < _WHITE:
        return rgb
    labelled, _ = ndimage.label(rgb.min(axis=2) >= _WHITE - 0.04)
    surround = np.isin(labelled, [labelled[y, x] for y in (0, -1) for x in (0, -1)])
    return np.where(ndimage.binary_dilation(surround, iterations=2)[..., None], np.float32(0), rgb)


def _locate(rgb: NDArray[np.float32]) -> tuple[FieldOfView, NDArray[np.bool_] | None]:
    """The field of view and, when no circle was found, where camera marks lie in a shrunken copy of the photograph."""
    height, width = rgb.shape[:2]
    block = max(1, math.ceil(max(height, width) / DETECTION_SIDE_PX))
    brightness = _shrunk(brightest_channel(rgb), block)
    scale_y, scale_x = height / brightness.shape[0], width / brightness.shape[1]
    mask = _field_mask(brightness)
    whole_frame = FieldOfView(width / 2, height / 2, min(height, width) / 2, circular=False)
    if mask is None:
        return whole_frame, None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    longer_side = max(bottom - top, right - left)
    circle = _fit_circle(_edge_points(mask), mask, longer_side)
    scale = (scale_x + scale_y) / 2
    if circle is not None:
        cx, cy, radius = circle
        return FieldOfView(cx * scale_x, cy * scale_y, radius * scale, circular=True), None
    if mask.mean() > _WHOLE_FRAME:
        return whole_frame, None
    cx, cy = (left + right) / 2, (top + bottom) / 2
    return FieldOfView(cx * scale_x, cy * scale_y, longer_side / 2 * scale, circular=False), _marks(brightness, mask)


def _shrunk(brightness: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """(H, W) averaged over blocks of `block` x `block` pixels (the last ones repeat the border)."""
    if block == 1:
        return brightness
    rows, columns = (-size % block for size in brightness.shape)
    padded = np.pad(brightness, ((0, rows), (0, columns)), mode="edge")
    tiles = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block)
    return np.asarray(tiles.mean(axis=(1, 3)), dtype=np.float32)


def _field_mask(brightness: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The lit part of the photograph, holes filled; None when there is none to speak of."""
    smooth = ndimage.median_filter(brightness, size=3, mode="nearest")
    bright, dark = float(np.percentile(smooth, 90)), float(np.percentile(smooth, 0.5))
    threshold = dark + float(np.clip(0.15 * (bright - dark), _SMALLEST_THRESHOLD, _LARGEST_THRESHOLD))
    lit = ndimage.binary_opening(smooth > threshold, structure=np.ones((3, 3), dtype=bool))
    labelled, num_parts = ndimage.label(lit)
    if num_parts == 0:
        return None
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    if sizes.max() < _SMALLEST_FIELD * lit.size:
        return None
    return np.asarray(ndimage.binary_fill_holes(labelled == sizes.argmax()), dtype=bool)


def _marks(brightness: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Small lit things clearly apart from the field: dates and names which cameras print in the corners."""
    apart = (brightness > brightness.min() + _MARK_CONTRAST) & ~ndimage.binary_dilation(mask, iterations=3)
    labelled, _ = ndimage.label(apart, structure=np.ones((3, 3), dtype=bool))
    small = np.bincount(labelled.ravel()) < _LARGEST_MARK * mask.sum()
    small[0] = False
    return np.asarray(ndimage.binary_dilation(small[labelled], iterations=2) & ~mask, dtype=bool)


def _edge_points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 2) points (x, y) on the outer edge of the mask, without those on the photograph's own border."""
    height, width = mask.shape
    points = []
    for y in np.flatnonzero(mask.any(axis=1)):
        inside = np.flatnonzero(mask[y])
        points += [(x, y + 0.5) for x in (inside[0], inside[-1] + 1) if 1 < x < width - 1 and 1 < y < height - 2]
    for x in np.flatnonzero(mask.any(axis=0)):
        inside = np.flatnonzero(mask[:, x])
        points += [(x + 0.5, y) for y in (inside[0], inside[-1] + 1) if 1 < y < height - 1 and 1 < x < width - 2]
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)


def _fit_circle(
    points: NDArray[np.float64], mask: NDArray[np.bool_], longer_side: int
) -> tuple[float, float, float] | None:
    """The circle most edge points lie on, if it is one that a camera's field of view could be."""
    if len(points) < _LEAST_POINTS:
        return None
    rng = np.random.default_rng(0)
    tolerance = _EDGE_TOLERANCE * longer_side
    triples = points[rng.integers(0, len(points), size=(_NUM_TRIALS, 3))]
    voters = points[:: math.ceil(len(points) / _MAX_VOTERS)]
    circles = _circles_through(triples)
    plausible = np.nan_to_num(circles[:, 2] / longer_side)
    circles = circles[(plausible > _SMALLEST_RADIUS) & (plausible < _LARGEST_RADIUS)]
    if len(circles) == 0:
        return None
    distance = np.hypot(voters[None, :, 0] - circles[:, :1], voters[None, :, 1] - circles[:, 1:2])
    near = np.abs(distance - circles[:, 2:3]) < tolerance
    cx, cy, radius = circles[int(near.sum(axis=1).argmax())]
    for _ in range(3):
        inliers = np.abs(np.hypot(points[:, 0] - cx, points[:, 1] - cy) - radius) < tolerance
        if inliers.sum() < _LEAST_POINTS:
            return None
        cx, cy, radius = _least_squares_circle(points[inliers])
    halves = points[:, 0] < cx, points[:, 0] >= cx  # a squeezed circle fits a circle on one side only
    if any(half.sum() >= _LEAST_POINTS and inliers[half].mean() < _LEAST_INLIERS_OF_HALF for half in halves):
        return None
    if inliers.mean() < _LEAST_INLIERS or not _SMALLEST_RADIUS * longer_side < radius < _LARGEST_RADIUS * longer_side:
        return None
    height, width = mask.shape
    y, x = np.ogrid[0:height, 0:width]
    disc = np.hypot(x + 0.5 - cx, y + 0.5 - cy) <= radius + tolerance
    if mask[disc].sum() < _LEAST_COVERAGE * mask.sum():
        return None
    return float(cx), float(cy), float(radius)


def _circles_through(triples: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 3) cx, cy, radius of the circles through (T, 3, 2) point triples; NaN for points on a line."""
    a, b, c = triples[:, 0], triples[:, 1], triples[:, 2]
    twice_area = 2 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))
    twice_area = np.where(np.abs(twice_area) < 1e-6, np.nan, twice_area)
    ab, ac = ((b - a) ** 2).sum(axis=1), ((c - a) ** 2).sum(axis=1)
    dx = ((c[:, 1] - a[:, 1]) * ab - (b[:, 1] - a[:, 1]) * ac) / twice_area
    dy = ((b[:, 0] - a[:, 0]) * ac - (c[:, 0] - a[:, 0]) * ab) / twice_area
    return np.stack([a[:, 0] + dx, a[:, 1] + dy, np.hypot(dx, dy)], axis=1)


def _least_squares_circle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """The algebraic least-squares circle (Kasa): x^2 + y^2 = 2 cx x + 2 cy y + (r^2 - cx^2 - cy^2)."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    (cx, cy, rest), *_ = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)
    return float(cx), float(cy), float(math.sqrt(max(rest + cx**2 + cy**2, 0.0)))
