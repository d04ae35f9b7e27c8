"""Whether images of a table repeat images of other rows: told at the end, and nothing is rejected for it.

Within a row the check rejects repeats and draws anew. Across rows that would let a row's images depend on what else
stands in the table, on the machine that draws it and on where a run was stopped. So the finished files are compared
once all of them are there, which comes to the same whatever made them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from arra_med.generate.batch_plan import PlannedImage

_BLOCK = 256  # images compared with all earlier ones at once


class RepeatTest(NamedTuple):
    """When two images show the same picture.

    Attributes:
        thumbnail: uint8 (S, S) or (S, S, 3) -> (d,), whose product with another one is their correlation.
        correlation: Above it they do.
    """

    thumbnail: Callable[[np.ndarray], np.ndarray]
    correlation: float


def repeats_across_rows(images: Sequence[PlannedImage], folder: Path, test: RepeatTest) -> dict[str, str]:
    """Finds the images that repeat an earlier one of another row, in the order of the table.

    Files are compared as they were written, marks included. Held in memory is a thumbnail of each, 4 kB for 1,024
    numbers; the time grows with the square of the table.

    Args:
        images: Of the table.
        folder: Where their files lie; those that are missing are left out.
        test: When two are the same.

    Returns:
        The name of each such file, with that of the first one which it repeats.

    Raises:
        OSError: If a file cannot be read.
    """
    files = [(image.row, image.record_path(folder).with_suffix(".png")) for image in images]
    files = [(row, path) for row, path in files if path.is_file()]
    rows, names = np.array([row for row, _ in files]), [path.name for _, path in files]
    thumbnails = np.empty((0, 0), np.float32)
    found: dict[str, str] = {}
    for start in range(0, len(files), _BLOCK):
        block = np.stack([_thumbnail(path, test) for _, path in files[start : start + _BLOCK]])
        if not start:
            thumbnails = np.empty((len(files), block.shape[1]), np.float32)
        end = start + len(block)
        thumbnails[start:end] = block
        same = block @ thumbnails[:end].T > test.correlation
        same &= rows[start:end, None] != rows[:end]
        same &= np.arange(start, end)[:, None] > np.arange(end)
        for at in np.flatnonzero(same.any(axis=1)):
            found[names[start + at]] = names[int(same[at].argmax())]
    return found


def _thumbnail(path: Path, test: RepeatTest) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(test.thumbnail(np.asarray(opened)), np.float32)
