"""Colour DICOM images as RGB in [0, 1]: three channels, or one channel and a palette.

Source: DICOM PS3.3 C.7.6.3.1.2 (photometric interpretation), C.7.6.3.1.5 and C.7.6.3.1.6 (palette), C.7.9.2 (segmented
palette); PS3.5 8.2 (colour spaces of the codecs).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from arra_med.imaging.dicom_pixels import StoredPixels
from arra_med.imaging.lut import unpacked
from arra_med.imaging.reasons import refusal

_CHANNELS = ("Red", "Green", "Blue")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's conversion to grayscale
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2  # the opcodes of a segment


def scaled_colour(rgb: NDArray[np.unsignedinteger], bits_stored: int) -> NDArray[np.float32]:
    """Divides (H, W, 3) RGB values by the largest that so many bits hold; float32 in [0, 1]."""
    unit = np.divide(rgb, np.float32(2**bits_stored - 1), dtype=np.float32)
    return unit if bits_stored == 8 * rgb.dtype.itemsize else np.minimum(unit, np.float32(1), out=unit)


def palette_colour(stored: StoredPixels, header: Dataset) -> NDArray[np.float32]:
    """Gives each stored value its colour: (H, W, 3) float32 RGB in [0, 1].

    Values below the first one mapped get the first colour, those beyond the last entry the last one (C.7.6.3.1.5).

    Raises:
        ImageError: `decode_failed` if there is no palette, or one shorter than its descriptor says.
    """
    channels = [_channel(stored.values, header, colour) for colour in _CHANNELS]
    return stored.look_up(np.stack(channels, axis=1).astype(np.float32))


def luma(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the brightness (H, W) of an RGB image (H, W, 3), both float32 in [0, 1]."""
    return np.clip(rgb @ _LUMA, 0, 1)


def _channel(values: NDArray[np.int64], header: Dataset, colour: str) -> NDArray[np.float64]:
    descriptor = header.get(f"{colour}PaletteColorLookupTableDescriptor")
    if descriptor is None:
        raise _without_palette()
    size, first, bits = (int(number) for number in descriptor)
    size = size & 0xFFFF or 1 << 16
    if header.PixelRepresentation and first > 0x7FFF:
        first -= 1 << 16
    entries = _entries(header, colour, size, bits)
    if len(entries) < size or bits not in (8, 16):
        raise refusal(
            "decode_failed", f"found a palette of {len(entries)} entries, {size} of 8 or 16 bits are required"
        )
    # Some files keep 8-bit colours in the high byte of 16-bit entries, whatever their descriptor says.
    largest = 255 if bits == 8 and entries.max() <= 255 else 65_535
    return entries[np.clip(values - first, 0, size - 1)] / largest


def _entries(header: Dataset, colour: str, size: int, bits: int) -> NDArray[np.int64]:
    plain = header.get(f"{colour}PaletteColorLookupTableData")
    if plain is not None:
        return unpacked(plain, 1 if bits == 8 and len(plain) < 2 * size else 2, header)[:size]
    segments = header.get(f"Segmented{colour}PaletteColorLookupTableData")
    if segments is None:
        raise _without_palette()
    numbers = unpacked(segments, 1 if bits == 8 else 2, header)
    return np.asarray(_expanded(numbers.tolist(), bits, size)[:size], dtype=np.int64)


def _without_palette() -> Exception:
    return refusal("decode_failed", "the palette of a PALETTE COLOR image is missing; export the image again")


def _expanded(numbers: Sequence[int], bits: int, size: int) -> list[int]:
    """Writes out a segmented palette (C.7.9.2): runs, ramps from the last colour, and copies of earlier segments."""
    entries: list[int] = []
    position = 0
    while position + 1 < len(numbers) and len(entries) < size:
        opcode, length = numbers[position], numbers[position + 1]
        if opcode != _INDIRECT:
            position = _append_segment(numbers, position, entries)
            continue
        # So many segments are written again; their offset in bytes is given least significant part first.
        parts = numbers[position + 2 : position + 2 + (4 if bits == 8 else 2)]
        copied = sum(part << (bits * place) for place, part in enumerate(parts)) * 8 // bits
        for _ in range(length):
            if copied + 1 >= len(numbers) or numbers[copied] not in (_DISCRETE, _LINEAR):
                raise refusal("decode_failed", "a segmented palette refers to what is no segment; export it again")
            copied = _append_segment(numbers, copied, entries)
            if len(entries) >= size:
                break
        position += 2 + len(parts)
    return entries


def _append_segment(numbers: Sequence[int], position: int, entries: list[int]) -> int:
    """Writes out the run or ramp at a position; returns the position of the next segment."""
    opcode, length = numbers[position], numbers[position + 1]
    if opcode == _DISCRETE:
        entries += numbers[position + 2 : position + 2 + length]
        return position + 2 + length
    if opcode != _LINEAR or not entries or position + 2 >= len(numbers):
        raise refusal("decode_failed", "a segmented palette is damaged; export the image again from its source")
    start, end = entries[-1], numbers[position + 2]
    entries += [round(start + (end - start) * step / length) for step in range(1, length + 1)]
    return position + 3
