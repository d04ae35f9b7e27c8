"""DICOM files: from bytes to an image as it would be displayed, for projection radiographs and fundus photographs.

What is refused is refused by name of its storage class, its transfer syntax or the like; header values that could
identify somebody enter no message and no log. Ingestion runs this in processes it can end (`arra_med.corpus.decoding`),
since the codecs are C libraries.

Source: DICOM PS3.5 10 and A.5 (transfer syntaxes, deflated ones), PS3.10 7.1 (file format).
"""

import contextlib
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import STANDARD_VR

from arra_med.errors import ImageError
from arra_med.imaging.dicom_color import luma, palette_colour, scaled_colour
from arra_med.imaging.dicom_geometry import EQUAL, MOST_UNEQUAL, pixel_aspect, with_square_pixels
from arra_med.imaging.dicom_kinds import check_kind
from arra_med.imaging.dicom_pixels import StoredPixels, check_pixels, stored_colour, stored_pixels
from arra_med.imaging.grayscale import displayed
from arra_med.imaging.reasons import Flag, refusal
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import Modality

MAX_INFLATED_BYTES = 1 << 29
"""The most that the compressed body of a deflated file may grow to, 512 MiB."""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_PIXEL_DATA_TAGS = (b"\xe0\x7f\x10\x00OB", b"\xe0\x7f\x10\x00OW")  # found, if pydicom gave up for want of their end
_DEFLATED = DeflatedExplicitVRLittleEndian
_TALKATIVE = ("pydicom", "pylibjpeg", "openjpeg")
_SILENT = logging.CRITICAL + 1
_SILENCE = threading.RLock()
# What pydicom and its codecs are known to raise on damaged data; a test feeds them thousands of damaged files.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class DecodedDicom(NamedTuple):
    """An image as displayed, and where it came from.

    Attributes:
        pixels: float32 in [0, 1], (H, W) or (H, W, 3); pixels are square, nothing is turned or mirrored.
        stored: What the file holds: the cells of one channel, or (H, W, 3) RGB integers.
        header: The data set.
        flags: What had to be decided.
    """

    pixels: NDArray[np.float32]
    stored: StoredPixels | NDArray[np.unsignedinteger]
    header: Dataset
    flags: tuple[Flag, ...]

    def raw(self) -> NDArray[np.float32]:
        """The stored values from their smallest to their largest, (H, W) or (H, W, 3) float32 in [0, 1]."""
        stored = self.stored
        values = stored.values[stored.cells] if isinstance(stored, StoredPixels) else stored
        low, high = int(values.min()), int(values.max())
        return ((values - low) / max(high - low, 1)).astype(np.float32)


def decode_dicom(path: Path | str, modality: Modality = "cxr") -> NDArray[np.float32]:
    """Decodes a DICOM file; the pixels of `decode_dicom_bytes`.

    Raises:
        ImageError: As there, or `missing` when the file cannot be opened.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise refusal("missing", "the file is not there or cannot be opened; check the path and permissions") from None
    return decode_dicom_bytes(data, modality).pixels


_NO_PERMISSIONS = ReadingRules()


def decode_dicom_bytes(data: bytes, modality: Modality, rules: ReadingRules = _NO_PERMISSIONS) -> DecodedDicom:
    """Decodes a single-frame DICOM image as it would be displayed. It is never turned or mirrored.

    Args:
        data: The whole file.
        modality: `cxr` wants a projection radiograph, `fundus` an ophthalmic photograph; secondary captures may be
            either. Colour becomes luma for `cxr`; grayscale is repeated three times for `fundus`.
        rules: What the run allows.

    Raises:
        ImageError: With any reason but `missing`, `empty`, `blank` and those of quality.
    """
    with silent_pydicom():
        try:
            header = parse_dicom(data)
            flags = check_kind(header, modality, rules)
            check_pixels(header)
            return _decoded(header, flags, grayscale=modality == "cxr")
        except ImageError:
            raise
        except _FAILURES as error:
            raise refusal(
                "decode_failed",
                f"the DICOM data is damaged or of a variant that pydicom cannot decode ({type(error).__name__}); "
                "export the image again from its source",
            ) from None


def _decoded(header: Dataset, flags: tuple[Flag, ...], *, grayscale: bool) -> DecodedDicom:
    stored: StoredPixels | NDArray[np.unsignedinteger]
    if header.SamplesPerPixel == 3:
        stored = stored_colour(header)
        pixels = scaled_colour(stored, int(header.BitsStored))
    elif header.PhotometricInterpretation == "PALETTE COLOR":
        stored = stored_pixels(header)
        pixels = palette_colour(stored, header)
    else:
        stored = stored_pixels(header)
        pixels, more_flags = displayed(stored, header)
        flags += more_flags
    aspect = pixel_aspect(header)
    if not 1 / MOST_UNEQUAL <= aspect <= MOST_UNEQUAL:
        flags += ("aspect_ratio_ignored",)
    elif abs(aspect - 1) > EQUAL:
        flags += ("resampled_to_square_pixels",)
        pixels = with_square_pixels(pixels, aspect)
    if grayscale and pixels.ndim == 3:
        pixels = luma(pixels)
    elif not grayscale and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return DecodedDicom(pixels, stored, header, flags)


def looks_like_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file: by its magic or, in old files without one, by a plausible first element."""
    if data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC:
        return True
    if data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08") or len(data) < 16:
        return False
    if data[4:6].decode("ascii", "replace") in STANDARD_VR:
        return True
    return data[:2] != b"\x00\x08" and int.from_bytes(data[4:8], "little") <= min(len(data), 1024)


def parse_dicom(data: bytes) -> Dataset:
    """Reads the data set; a file without meta information gets the transfer syntax it was found to be written in.

    Raises:
        ImageError: `truncated`, or `too_large` for a deflated file that would fill the memory. pydicom may raise
            anything else on damaged data; call it within `silent_pydicom`.
    """
    _check_inflated_size(data)
    try:
        header = pydicom.dcmread(io.BytesIO(data), force=True)
    except (EOFError, zlib.error) as error:
        if isinstance(error, zlib.error) and "incomplete" not in str(error):
            raise
        raise refusal("truncated", "the file ends before its content does; copy it again from its source") from None
    if not header and any(tag in data for tag in _PIXEL_DATA_TAGS):
        raise refusal("truncated", "the file ends within its pixel data; copy it again from its source")
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        syntax = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else syntax
    return header


def deflated_from(data: bytes) -> int | None:
    """Returns where the compressed data set of a deflated file starts (PS3.5 A.5), or None for other files.

    Args:
        data: The file's beginning, its meta information at least.
    """
    start = _MAGIC_AT + len(_MAGIC)
    # (0002,0000) is the first element and 12 bytes long; its value counts the bytes of the other meta elements.
    body = start + 12 + int.from_bytes(data[start + 8 : start + 12], "little")
    return body if data[_MAGIC_AT:start] == _MAGIC and _DEFLATED.encode() in data[start:body] else None


def _check_inflated_size(data: bytes) -> None:
    """Stops a deflated file that would fill the memory, before pydicom inflates it whole."""
    body = deflated_from(data)
    if body is None:
        return
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[body:], MAX_INFLATED_BYTES + 1)) > MAX_INFLATED_BYTES:
        raise refusal("too_large", f"the file inflates to more than {MAX_INFLATED_BYTES:,} bytes")


@contextlib.contextmanager
def silent_pydicom() -> Iterator[None]:
    """Silences pydicom and its codecs, whose warnings and log lines quote header values.

    Their loggers stay silent in this process: changing a level costs milliseconds, and a header value must not reach a
    log from elsewhere either. Warnings belong to the whole process: one thread at a time may be inside.
    """
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in map(logging.getLogger, _TALKATIVE):
            if logger.level != _SILENT:
                logger.setLevel(_SILENT)
        yield
