"""DICOM files: which ones are projection radiographs or fundus photographs, and their pixels.

A file is refused by name of its storage class, its transfer syntax or the like; header values that could identify
somebody enter no message and no log. Ingestion runs this in processes it can end (`arra_med.corpus.decoding`), since
the codecs are C libraries.

Source: DICOM PS3.4 B.5 (storage classes), PS3.5 8 and 10 (pixel data, transfer syntaxes), PS3.10 7.1 (file format).
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
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)
from pydicom.valuerep import STANDARD_VR

from arra_med.errors import ImageError
from arra_med.imaging.grayscale import displayed
from arra_med.imaging.photograph import check_size
from arra_med.imaging.reasons import Reason, refusal
from arra_med.imaging.view import Modality

MAX_INFLATED_BYTES = 1 << 29
"""The most that the compressed body of a deflated file may grow to, 512 MiB."""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_PIXEL_DATA_TAGS = (b"\xe0\x7f\x10\x00OB", b"\xe0\x7f\x10\x00OW")  # found, if pydicom gave up for want of their end
_DEFLATED = DeflatedExplicitVRLittleEndian
_SECONDARY_CAPTURE = frozenset(
    "1.2.840.10008.5.1.4.1.1.7" + suffix
    for suffix in ("", ".2", ".3", ".4")  # single frame, and the multi-frame ones
)
_STORAGE_CLASSES: dict[Modality, frozenset[str]] = {
    "cxr": _SECONDARY_CAPTURE
    | {
        "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
        "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
        "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    },
    "fundus": _SECONDARY_CAPTURE
    | {
        "1.2.840.10008.5.1.4.1.1.77.1.5.1",  # Ophthalmic Photography, 8 bit
        "1.2.840.10008.5.1.4.1.1.77.1.5.2",  # Ophthalmic Photography, 16 bit
    },
}
_MODALITIES: dict[Modality, frozenset[str]] = {
    "cxr": frozenset({"CR", "DX", "RG", "OT", "SC", ""}),
    "fundus": frozenset({"OP", "XC", "OT", "SC", ""}),
}
_NAMEABLE_MODALITIES = frozenset({"CT", "IO", "MG", "MR", "NM", "OCT", "PT", "PX", "RF", "SEG", "SM", "US", "XA"})
_OTHER_KIND: dict[Modality, tuple[Reason, str]] = {
    "cxr": ("not_a_projection_xray", "a projection radiograph (CR, DX or secondary capture) is required"),
    "fundus": ("not_a_fundus_photograph", "an ophthalmic photograph (OP or secondary capture) is required"),
}
_MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2"})
_ONE_CHANNEL = _MONOCHROME | {"PALETTE COLOR"}
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_MAX_BITS = 16
_TALKATIVE = ("pydicom", "pylibjpeg", "openjpeg")
_SILENCE = threading.RLock()
_REQUIRED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's conversion to grayscale
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


def decode_dicom(path: Path | str, modality: Modality = "cxr") -> NDArray[np.float32]:
    """Decodes a DICOM file; see `decode_dicom_bytes`.

    Raises:
        ImageError: As there, or `missing` when the file cannot be opened.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        raise refusal("missing", "the file is not there or cannot be opened; check the path and permissions") from None
    return decode_dicom_bytes(data, modality)


def decode_dicom_bytes(data: bytes, modality: Modality) -> NDArray[np.float32]:
    """Decodes a single-frame DICOM image as it would be displayed. It is never turned or mirrored.

    Args:
        data: The whole file.
        modality: `cxr` wants a projection radiograph, `fundus` an ophthalmic photograph; secondary captures may be
            either. Colour becomes luma for `cxr`; grayscale is repeated three times for `fundus`.

    Returns:
        float32 in [0, 1], (H, W) or (H, W, 3).

    Raises:
        ImageError: With any reason but `missing`, `empty` and `blank`.
    """
    with silent_pydicom():
        try:
            header = _parse(data)
            _check_kind(header, modality)
            _check_pixels(header)
            return _pixels(header, grayscale=modality == "cxr")
        except ImageError:
            raise
        except _FAILURES as error:
            raise refusal(
                "decode_failed",
                f"the DICOM data is damaged or of a variant that pydicom cannot decode ({type(error).__name__}); "
                "export the image again from its source",
            ) from None


def looks_like_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file: by its magic or, in old files without one, by a plausible first element."""
    if data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC:
        return True
    if data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08") or len(data) < 16:
        return False
    if data[4:6].decode("ascii", "replace") in STANDARD_VR:
        return True
    return data[:2] != b"\x00\x08" and int.from_bytes(data[4:8], "little") <= min(len(data), 1024)


def _parse(data: bytes) -> Dataset:
    """Reads the data set; a file without meta information gets the transfer syntax it was found to be written in."""
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


def _check_inflated_size(data: bytes) -> None:
    """Stops a deflated file that would fill the memory, before pydicom inflates it whole."""
    start = _MAGIC_AT + len(_MAGIC)
    # (0002,0000) is the first element and 12 bytes long; its value counts the bytes of the other meta elements.
    body = start + 12 + int.from_bytes(data[start + 8 : start + 12], "little")
    if data[_MAGIC_AT:start] != _MAGIC or _DEFLATED.encode() not in data[start:body]:
        return
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[body:], MAX_INFLATED_BYTES + 1)) > MAX_INFLATED_BYTES:
        raise refusal("too_large", f"the file inflates to more than {MAX_INFLATED_BYTES:,} bytes")


def _check_kind(header: Dataset, modality: Modality) -> None:
    """Refuses what is no image, and images of another kind."""
    if "PixelData" not in header:
        if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
            raise refusal("decode_failed", "found floating-point pixels; 8 to 16 bit integers are required")
        raise refusal("no_pixels", "the DICOM file holds no image; name the file that holds the pixels")
    storage_class, code = UID(str(header.get("SOPClassUID") or "")), str(header.get("Modality") or "").strip().upper()
    reason, required = _OTHER_KIND[modality]
    if storage_class and storage_class not in _STORAGE_CLASSES[modality]:
        known = (
            storage_class.name if storage_class.name != str(storage_class) else "an unknown or private storage class"
        )
        raise refusal(reason, f"found {known}; {required}")
    if code not in _MODALITIES[modality]:
        raise refusal(
            reason, f"found modality {code if code in _NAMEABLE_MODALITIES else 'of another kind'}; {required}"
        )
    num_frames = int(header.get("NumberOfFrames") or 1)
    if num_frames != 1:
        raise refusal("multi_frame", f"found {num_frames} frames; one image is required, export the frame wanted")


def _check_pixels(header: Dataset) -> None:
    """Refuses, before anything is decoded, what cannot be decoded or is too large or too short."""
    if missing := [keyword for keyword in _REQUIRED if header.get(keyword) is None]:
        raise refusal("decode_failed", f"the header lacks {', '.join(missing)}; export the image again from its source")
    height, width, samples = int(header.Rows), int(header.Columns), int(header.SamplesPerPixel)
    check_size(height, width)
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if height < 1 or width < 1 or samples not in (1, 3):
        raise refusal("decode_failed", "found an image without rows or columns, or with neither one nor three channels")
    if samples == 1 and (allocated not in (8, 16) or not 2 <= stored <= allocated):
        raise refusal("decode_failed", f"found {stored} of {allocated} bits per pixel; 8 to {_MAX_BITS} are required")
    if header.PhotometricInterpretation not in (_ONE_CHANNEL if samples == 1 else _COLOUR):
        raise refusal(
            "decode_failed",
            "found a photometric interpretation that does not fit the channels; MONOCHROME1, MONOCHROME2, "
            "PALETTE COLOR, RGB or YBR is required",
        )
    syntax = UID(str(header.file_meta.TransferSyntaxUID))
    _check_transfer_syntax(syntax, stored)
    if not syntax.is_compressed or syntax == _DEFLATED:
        subsampled = header.PhotometricInterpretation == "YBR_FULL_422"
        required = height * width * (2 if subsampled else samples) * allocated // 8
        if len(header.PixelData) < required:
            raise refusal(
                "truncated", f"found {len(header.PixelData):,} bytes of pixel data, {required:,} are required"
            )


def _check_transfer_syntax(syntax: UID, bits_stored: int) -> None:
    try:
        decoder = get_decoder(syntax)
        available = decoder.is_available
    except NotImplementedError:
        available = False
    else:
        # pydicom's other decoders refuse samples of more than eight bits in this one, as they would come out wrong.
        available &= syntax != JPEGExtended12Bit or bits_stored <= 8 or "pylibjpeg" in decoder.available_plugins
    if not available:
        known = syntax.name if syntax.name != str(syntax) else "an unknown or private one"
        raise refusal(
            "unsupported_transfer_syntax",
            f"found transfer syntax {known} with {bits_stored} bits, which cannot be decoded; "
            "convert the file to Explicit VR Little Endian",
        )


def _pixels(header: Dataset, *, grayscale: bool) -> NDArray[np.float32]:
    stored = pixel_array(header, decoding_plugin=_plugin(UID(str(header.file_meta.TransferSyntaxUID))))
    channels = (3,) if header.SamplesPerPixel == 3 else ()
    if stored.shape != (header.Rows, header.Columns, *channels):
        raise refusal("decode_failed", "the image inside is of another size than its header says; export it again")
    if header.PhotometricInterpretation in _MONOCHROME:
        gray = displayed(stored, header)
        return gray if grayscale else np.repeat(gray[..., None], 3, axis=2)
    colour: NDArray[Any] = stored if channels else apply_color_lut(stored, header)[..., :3]
    bits = int(header.BitsStored) if channels else colour.dtype.itemsize * 8
    unit = np.clip(colour / (2.0**bits - 1), 0, 1)
    return (unit @ _LUMA if grayscale else unit).astype(np.float32)


def _plugin(syntax: UID) -> str:
    """The codec ("" for pydicom's own); gdcm only for want of another, as it ends the process on damaged data."""
    plugins = get_decoder(syntax).available_plugins
    return next((plugin for plugin in plugins if plugin != "gdcm"), next(iter(plugins), ""))


@contextlib.contextmanager
def silent_pydicom() -> Iterator[None]:
    """Silences pydicom and its codecs, whose warnings and log lines quote header values.

    Warnings and log levels belong to the whole process: one thread at a time may be inside.
    """
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
