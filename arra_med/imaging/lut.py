"""Lookup tables and windows of DICOM: from a header to functions of values.

pydicom has functions for both, but its tables hold neither 10 to 15 bit entries of a modality LUT nor more than 256
entries of 8 bits, so reading a table is done here; where pydicom can, the tests compare with it.

Source: DICOM PS3.3 C.11.1.1 (modality LUT), C.11.2.1.1 (VOI LUT), C.11.2.1.2 (window), C.11.2.1.3 (VOI LUT function).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from arra_med.imaging.reasons import refusal

_WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_BITS_OF_ENTRIES = range(8, 17)


class LookupTable(NamedTuple):
    """A table of the modality or VOI LUT sequence.

    Attributes:
        first: The value that the first entry stands for; smaller ones get the first entry, larger ones the last.
        entries: (N,) int64.
        bits: Bits of an entry, 8 to 16; the output range is 0 to 2^bits - 1 whatever the entries reach.
    """

    first: int
    entries: NDArray[np.int64]
    bits: int

    def look_up(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the entries of values, which are rounded to integers first."""
        positions = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[positions.astype(np.int64)]


class Window(NamedTuple):
    """A window and its function, which is LINEAR, LINEAR_EXACT or SIGMOID."""

    centre: float
    width: float
    function: str

    def displayed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps values to [0, 1], the output range of the window."""
        if self.function == "SIGMOID":  # C.11.2.1.3.1
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-4 * (values - self.centre) / self.width))
        centre, width = self.centre, self.width  # C.11.2.1.3.2
        if self.function == "LINEAR":  # C.11.2.1.2.1
            centre, width = centre - 0.5, width - 1
        if width == 0:
            return (values > centre).astype(np.float64)
        return np.clip((values - centre) / width + 0.5, 0, 1)


def read_lookup_table(header: Dataset, keyword: str, *, signed_input: bool) -> LookupTable | None:
    """Reads the first table of a sequence.

    Args:
        header: The data set.
        keyword: `ModalityLUTSequence` or `VOILUTSequence`.
        signed_input: Whether the values it is applied to may be negative: then so may be the first one mapped, even
            where the file writes it as an unsigned number.

    Returns:
        The table, or None where there is none or it has no entries.

    Raises:
        ImageError: `decode_failed` if the table contradicts its descriptor.
    """
    item = next(iter(header.get(keyword) or ()), None)
    if item is None or item.get("LUTDescriptor") is None or item.get("LUTData") is None:
        return None
    size, first, bits = (int(number) for number in item.LUTDescriptor)
    size = size & 0xFFFF or 1 << 16
    if signed_input and first > 0x7FFF:
        first -= 1 << 16
    entries = _entries(item.LUTData, size, bits, header)
    if bits not in _BITS_OF_ENTRIES or len(entries) < size:
        raise refusal(
            "decode_failed",
            f"found a lookup table of {len(entries)} entries of {bits} bits, {size} of 8 to 16 bits are required; "
            "export the image again from its source",
        )
    return LookupTable(first, entries[:size], bits)


def read_window(header: Dataset) -> Window | None:
    """Reads the first window, or None where there is none that can be applied."""
    centre, width = (first_number(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in _WINDOW_FUNCTIONS else "LINEAR"
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    return Window(centre, width, function)


def num_alternatives(header: Dataset, keyword: str) -> int:
    """Number of windows (`WindowCenter`) or tables (`VOILUTSequence`), of which a viewer may show any (C.11.2.1)."""
    value = header.get(keyword)
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else int(value is not None)


def first_number(value: Any) -> float | None:
    """Returns the first finite number of a header value, or None where there is none."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def unpacked(data: bytes, entry_bytes: int, header: Dataset) -> NDArray[np.int64]:
    """Reads the entries of a table that is written as words in the byte order of its file.

    Args:
        data: The words; entries of one byte stand two in a word, the first in its low byte (C.11.1.1.1).
        entry_bytes: 1 or 2.
        header: The data set as read; one made in memory counts as little endian.
    """
    byte_order = "<>"[header.original_encoding[1] is False]
    words = np.frombuffer(data[: len(data) // 2 * 2], dtype=f"{byte_order}u2").astype("<u2")
    return words.view(f"<u{entry_bytes}").astype(np.int64)


def _entries(data: Any, size: int, bits: int, header: Dataset) -> NDArray[np.int64]:
    """The entries of a table: of 16 bits each, or of 8 where the data is too short for that."""
    if isinstance(data, bytes):
        return unpacked(data, 1 if bits == 8 and len(data) < 2 * size else 2, header)
    words = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if bits == 8 and len(words) < size:
        return words.astype("<u2").view(np.uint8).astype(np.int64)
    return words
