"""From a file to pixels, and from a file to the canonical view: the one way in for ingestion, app and evaluation.

What a file is, its content says, never its name. Every failure is an `ImageError` whose `reason` is one of `REASONS`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arra_med.imaging.dicom import decode_dicom_bytes, looks_like_dicom
from arra_med.imaging.photograph import JPEG_SIGNATURE, PNG_SIGNATURE, decode_photograph
from arra_med.imaging.reasons import REASONS, Reason, refusal
from arra_med.imaging.view import CanonicalView, Modality, canonical_view, to_uint8

__all__ = ["MAX_FILE_BYTES", "REASONS", "Reason", "load_view", "read_bytes", "read_image"]

MAX_FILE_BYTES = 1 << 30
"""The largest file opened, 1 GiB."""

_BLANK = 2 / 255  # an image whose values differ by less shows nothing


def read_image(path: Path | str, modality: Modality) -> NDArray[np.float32]:
    """Reads a DICOM, PNG or JPEG file.

    Args:
        path: The file.
        modality: What it must show; it decides the number of channels, and which DICOM storage classes fit.

    Returns:
        float32 in [0, 1]: (H, W), air dark, for `cxr`; (H, W, 3) RGB for `fundus`.

    Raises:
        ImageError: With the `reason` that `REASONS` lists; the message names neither the file nor any header value.
    """
    data = read_bytes(Path(path))
    if data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        pixels = decode_photograph(data, grayscale=modality == "cxr")
    elif looks_like_dicom(data):
        pixels = decode_dicom_bytes(data, modality)
    else:
        raise refusal("not_an_image", "the content is neither DICOM, PNG nor JPEG; convert it to one of these")
    if np.ptp(pixels) < _BLANK:
        raise refusal("blank", "every pixel has the same value; the image shows nothing")
    return pixels


def load_view(path: Path | str, spec: CanonicalView) -> NDArray[np.uint8]:
    """Reads a file as its canonical view.

    Args:
        path: A DICOM, PNG or JPEG file.
        spec: The view wanted.

    Returns:
        uint8 (C, size_px, size_px).

    Raises:
        ImageError: As `read_image`; also `blank` when nothing is left to see in the view.
    """
    view = to_uint8(canonical_view(read_image(path, spec.modality), spec))
    if view.min() == view.max():
        raise refusal("blank", "every pixel of the image's central square has the same value; it shows nothing")
    return view


def read_bytes(path: Path) -> bytes:
    """Reads a whole file of at most `MAX_FILE_BYTES`.

    Raises:
        ImageError: `missing`, `empty`, `too_large`, or `not_an_image` for a folder.
    """
    try:
        if path.is_dir():
            raise refusal("not_an_image", "found a folder where an image file is required")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise refusal("too_large", f"the file has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
        data = path.read_bytes()
    except (OSError, ValueError):
        raise refusal(
            "missing", "the file is not there or cannot be opened; check the path and its permissions"
        ) from None
    if not data:
        raise refusal("empty", "the file has no content; copy it again from its source")
    return data
