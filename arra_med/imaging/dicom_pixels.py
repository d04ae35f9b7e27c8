"""The stored values of a DICOM image: what can be decoded, by which codec, and where in a cell the value lies.

Source: DICOM PS3.5 8.1.1 (bits allocated, stored and high bit), 8.2 and A.4 (transfer syntaxes), PS3.3 C.7.6.3 (image
pixel module).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from arra_med.imaging.jpeg_extended import decode_jpeg_extended
from arra_med.imaging.photograph import check_size
from arra_med.imaging.reasons import refusal

_ONE_CHANNEL = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_OTHER_COLOUR = frozenset({"ARGB", "CMYK", "HSV", "XYB", "YBR_PARTIAL_420", "YBR_PARTIAL_422"})
_MAX_BITS = 16
_CELLS_AT_ONCE = 1 << 18
_PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "gdcm")
_REQUIRED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


class StoredPixels(NamedTuple):
    """A one-channel image as its file holds it.

    Attributes:
        cells: (H, W) uint8 or uint16, the bit pattern of each pixel.
        values: (256,) or (65536,) int64, the stored value that each bit pattern means: sign and unused bits settled.
    """

    cells: NDArray[np.unsignedinteger]
    values: NDArray[np.int64]

    def look_up(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Gives every pixel the entry of its bit pattern.

        Args:
            table: (N,) or (N, C), N as many as `values`.

        Returns:
            (H, W) or (H, W, C) float32.
        """
        looked_up = np.empty((*self.cells.shape, *table.shape[1:]), dtype=np.float32)
        rows = max(1, _CELLS_AT_ONCE // self.cells.shape[1])  # numpy widens the indices it is given to 64 bits
        for top in range(0, len(self.cells), rows):
            band = slice(top, top + rows)
            np.take(table, self.cells[band], axis=0, out=looked_up[band], mode="wrap")  # every pattern has an entry
        return looked_up


def check_pixels(header: Dataset) -> None:
    """Refuses, before anything is decoded, what cannot be decoded or is too large or too short.

    Raises:
        ImageError: `decode_failed`, `too_large`, `unsupported_transfer_syntax` or `truncated`.
    """
    if missing := [keyword for keyword in _REQUIRED if header.get(keyword) is None]:
        raise refusal("decode_failed", f"the header lacks {', '.join(missing)}; export the image again from its source")
    height, width, samples = int(header.Rows), int(header.Columns), int(header.SamplesPerPixel)
    check_size(height, width)
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if height < 1 or width < 1 or samples not in (1, 3):
        raise refusal("decode_failed", "found an image without rows or columns, or with neither one nor three channels")
    if samples == 1 and (allocated not in (8, 16) or not 2 <= stored <= allocated):
        raise refusal("decode_failed", f"found {stored} of {allocated} bits per pixel; 8 to {_MAX_BITS} are required")
    interpretation = header.PhotometricInterpretation
    if interpretation not in (_ONE_CHANNEL if samples == 1 else _COLOUR):
        found = f"the photometric interpretation {interpretation}" if interpretation in _OTHER_COLOUR else "a photometric interpretation that does not fit the channels"  # fmt: skip
        raise refusal(
            "decode_failed", f"found {found}; MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR is required"
        )
    syntax = UID(str(header.file_meta.TransferSyntaxUID))
    _check_transfer_syntax(syntax, stored)
    if not _is_encapsulated(syntax):
        subsampled = interpretation == "YBR_FULL_422"
        required = height * width * (2 if subsampled else samples) * allocated // 8
        if len(header.PixelData) < required:
            raise refusal(
                "truncated", f"found {len(header.PixelData):,} bytes of pixel data, {required:,} are required"
            )


def stored_pixels(header: Dataset) -> StoredPixels:
    """Decodes an image of one channel.

    Uncompressed and RLE cells stay as they are and are read where HighBit says; JPEG 2000 and JPEG-LS carry their own
    precision, which pydicom reconciles with the header (PS3.5 8.2.3, 8.2.4).

    Args:
        header: A data set that `check_pixels` passed.

    Raises:
        ImageError: `decode_failed` if the image inside has another size than the header says.
    """
    syntax = UID(str(header.file_meta.TransferSyntaxUID))
    if syntax == JPEGExtended12Bit and header.BitsStored > 8:
        cells, in_place = decode_jpeg_extended(header), True
    else:
        in_place = syntax not in JPEG2000TransferSyntaxes and syntax not in JPEGLSTransferSyntaxes
        as_stored: dict[str, Any] = {"view_only": True, "correct_unused_bits": not in_place}
        cells, _ = get_decoder(syntax).as_array(header, raw=True, decoding_plugin=_plugin(syntax), **as_stored)
    if cells.shape != (header.Rows, header.Columns):
        raise _another_size()
    native = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    bits_allocated = 8 * native.dtype.itemsize
    bits_stored = min(int(header.BitsStored), bits_allocated) if in_place else bits_allocated
    high_bit = int(header.get("HighBit", 0)) if not _is_encapsulated(syntax) or syntax == RLELossless else 0
    if not bits_stored - 1 <= high_bit < bits_allocated:
        high_bit = bits_stored - 1
    patterns = np.arange(2**bits_allocated, dtype=np.int64)
    values = (patterns >> (high_bit + 1 - bits_stored)) & (2**bits_stored - 1)
    if header.PixelRepresentation:
        values = np.where(values >= 2 ** (bits_stored - 1), values - 2**bits_stored, values)
    return StoredPixels(native.view(f"u{native.dtype.itemsize}"), values)


def stored_colour(header: Dataset) -> NDArray[np.unsignedinteger]:
    """Decodes an image of three channels, (H, W, 3) RGB whatever colour space it is written in (PS3.3 C.7.6.3.1.2).

    Args:
        header: A data set that `check_pixels` passed.

    Raises:
        ImageError: `decode_failed` if the image inside has another size than the header says.
    """
    rgb: NDArray[np.unsignedinteger] = pixel_array(header, decoding_plugin=_plugin(header.file_meta.TransferSyntaxUID))
    if rgb.shape != (header.Rows, header.Columns, 3):
        raise _another_size()
    return rgb


def _check_transfer_syntax(syntax: UID, bits_stored: int) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        known = syntax.name if syntax.name != str(syntax) else "an unknown or private one"
        raise refusal(
            "unsupported_transfer_syntax",
            f"found transfer syntax {known} with {bits_stored} bits, which cannot be decoded; "
            "convert the file to Explicit VR Little Endian",
        )


def _is_encapsulated(syntax: UID) -> bool:
    return syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian


def _plugin(syntax: UID) -> str:
    """The codec, "" for pydicom's own. The last choice is gdcm, as it ends the process on some damaged data."""
    available = get_decoder(syntax).available_plugins
    return next((plugin for plugin in _PLUGINS if plugin in available), "")


def _another_size() -> Exception:
    return refusal("decode_failed", "the image inside is of another size than its header says; export it again")
