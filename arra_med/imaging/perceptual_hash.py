"""Views that show the same picture: a 64-bit hash which survives recompression and rescaling, and its near neighbours.

Source: the DCT hash of C. Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), in the
variant of the `imagehash` package (Lanczos to 32 x 32, median of the 8 x 8 lowest frequencies), to the bit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

HASH_BITS = 64
DEFAULT_MAX_DISTANCE = 2
"""Bits of 64, good for a list to look at. Radiographs resemble one another: what is dropped unseen should be at 0.

Half of the bits of every hash are set, so that distances are even. `docs/quality.md` holds how often different patients meet.
"""

_SIDE_PX = 32
_LOWEST = 8  # frequencies in each direction
_BLOCK = 512  # hashes compared at a time: the table of distances stays in the cache


class Duplicate(NamedTuple):
    """A view that repeats an earlier one; both indices count from 0 in the order of adding."""

    index: int  # type: ignore[assignment] # hides tuple.index, which a pair has no use for
    index_of_first: int


def perceptual_hash(view: NDArray[np.uint8]) -> int:
    """Hashes what a view shows.

    Args:
        view: uint8 (C, S, S), C 1 or 3; colour is hashed by its luma (ITU-R BT.601).

    Returns:
        64 bits: whether each of the 8 x 8 lowest DCT coefficients, the constant one included, lies above their median.
        The first coefficient is the highest bit.
    """
    image = Image.fromarray(view[0] if view.shape[0] == 1 else np.ascontiguousarray(view.transpose(1, 2, 0)))
    small = np.asarray(image.convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS), dtype=np.float64)
    lowest = fft.dctn(small, type=2)[:_LOWEST, :_LOWEST]
    bits = np.packbits((lowest > np.median(lowest)).ravel())
    return int.from_bytes(bits.tobytes(), "big")


class NearDuplicates:
    """Finds views whose hashes differ in at most `max_distance` bits from those of an earlier view.

    The first of a group is kept; a view is compared with kept views alone. So every duplicate is near a kept view, no
    two kept views are near each other, and the outcome depends on the order of adding but not on how it is portioned.

    Args:
        max_distance: Bits, 0 to 64.
    """

    def __init__(self, max_distance: int = DEFAULT_MAX_DISTANCE) -> None:
        if not 0 <= max_distance <= HASH_BITS:
            raise ValueError(f"max_distance must lie between 0 and {HASH_BITS} bits, found {max_distance}")
        self.max_distance = max_distance
        self._kept = np.empty(0, dtype=np.uint64)
        self._indices_of_kept = np.empty(0, dtype=np.int64)
        self._num_added = 0

    def add(self, hashes: Sequence[int]) -> list[Duplicate]:
        """Adds views; returns those of them that repeat an earlier one, in order.

        Args:
            hashes: Of `perceptual_hash`.
        """
        values = np.asarray(hashes, dtype=np.uint64)
        found: list[Duplicate] = []
        for start in range(0, len(values), _BLOCK):
            found += self._add_block(values[start : start + _BLOCK])
        return found

    def _add_block(self, block: NDArray[np.uint64]) -> list[Duplicate]:
        start = self._num_added
        firsts = _first_near(block, self._kept, self.max_distance)
        found = {i: int(self._indices_of_kept[first]) for i, first in enumerate(firsts) if first >= 0}
        within = np.bitwise_count(block[:, None] ^ block) <= self.max_distance
        kept = [i for i in range(len(block)) if i not in found]
        if within[np.ix_(kept, kept)].sum() > len(kept):  # more than each with itself
            candidates, kept = kept, []
            for i in candidates:
                first = next((j for j in kept if within[i, j]), None)
                if first is None:
                    kept.append(i)
                else:
                    found[i] = start + first
        self._kept = np.append(self._kept, block[kept])
        self._indices_of_kept = np.append(self._indices_of_kept, np.asarray(kept, dtype=np.int64) + start)
        self._num_added += len(block)
        return [Duplicate(start + i, found[i]) for i in sorted(found)]


def _first_near(block: NDArray[np.uint64], kept: NDArray[np.uint64], max_distance: int) -> NDArray[np.int64]:
    """For each hash of `block` the position of the first in `kept` that is near, or -1."""
    firsts = np.full(len(block), -1, dtype=np.int64)
    for start in range(0, len(kept), _BLOCK):
        near = np.bitwise_count(block[:, None] ^ kept[None, start : start + _BLOCK]) <= max_distance
        new = near.any(axis=1) & (firsts < 0)
        firsts[new] = near[new].argmax(axis=1) + start
    return firsts
