"""From a file to pixels, and from a file to the canonical view: the one way in for ingestion, app and evaluation.

What a file is, its content says, never its name. Every failure is an `ImageError` whose `reason` is one of `REASONS`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arra_med.imaging.dicom import DecodedDicom, decode_dicom_bytes, looks_like_dicom
from arra_med.imaging.orientation import suggested_orientation, view_position
from arra_med.imaging.photograph import JPEG_SIGNATURE, PNG_SIGNATURE, decode_photograph
from arra_med.imaging.quality import check_quality, quality_flags, quality_scores
from arra_med.imaging.reasons import FLAGS, REASONS, Flag, Reason, refusal
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView, Modality, canonical_view, to_uint8

__all__ = [
    "FLAGS",
    "MAX_FILE_BYTES",
    "REASONS",
    "Flag",
    "Reason",
    "Stages",
    "StudyView",
    "load_view",
    "read_bytes",
    "read_image",
    "read_stages",
    "read_study_view",
]

MAX_FILE_BYTES = 1 << 30
"""The largest file opened, 1 GiB."""

_SAMPLED = 32  # every n-th row and column mostly tells already that an image is not blank
_BLANK = 2 / 255  # an image whose values differ by less shows nothing
_NO_PERMISSIONS = ReadingRules()


class StudyView(NamedTuple):
    """A file's canonical view, and what a reader of the study set should know of it.

    Attributes:
        view: uint8 (C, size_px, size_px).
        flags: What had to be decided, in the order of the steps.
        scores: What the quality checks measured.
    """

    view: NDArray[np.uint8]
    flags: tuple[Flag, ...]
    scores: dict[str, float]


class Stages(NamedTuple):
    """A file at every stage, for a person to look at.

    Attributes:
        raw: The stored values from their smallest to their largest, float32 in [0, 1], (H, W) or (H, W, 3).
        displayed: What `read_image` gives.
        view: What `load_view` gives.
        flags: As in `StudyView`.
        scores: As in `StudyView`.
    """

    raw: NDArray[np.float32]
    displayed: NDArray[np.float32]
    view: NDArray[np.uint8]
    flags: tuple[Flag, ...]
    scores: dict[str, float]


class _Opened(NamedTuple):
    pixels: NDArray[np.float32]
    flags: tuple[Flag, ...]
    dicom: DecodedDicom | None


def read_image(path: Path | str, modality: Modality, rules: ReadingRules = _NO_PERMISSIONS) -> NDArray[np.float32]:
    """Reads a DICOM, PNG or JPEG file.

    Args:
        path: The file.
        modality: What it must show; it decides the number of channels, and which DICOM storage classes fit.
        rules: What the run allows.

    Returns:
        float32 in [0, 1]: (H, W), air dark, for `cxr`; (H, W, 3) RGB for `fundus`.

    Raises:
        ImageError: With the `reason` that `REASONS` lists; the message names neither the file nor any header value.
    """
    return _open(path, modality, rules).pixels


def load_view(path: Path | str, spec: CanonicalView, rules: ReadingRules = _NO_PERMISSIONS) -> NDArray[np.uint8]:
    """Returns the `view` of `read_study_view`, without the checks of quality.

    Raises:
        ImageError: As `read_image`; also `blank` when nothing is left to see in the view.
    """
    return _view(_open(path, spec.modality, rules).pixels, spec)


def read_study_view(path: Path | str, spec: CanonicalView, rules: ReadingRules = _NO_PERMISSIONS) -> StudyView:
    """Reads a file as its canonical view.

    Args:
        path: A DICOM, PNG or JPEG file.
        spec: The view wanted.
        rules: What the run allows.

    Raises:
        ImageError: As `load_view`, and as `arra_med.imaging.quality.check_quality`.
    """
    opened = _open(path, spec.modality, rules)
    view = _view(opened.pixels, spec)
    scores, flags = _judged(opened, spec.modality, rules)
    check_quality(scores, rules.accepted_quality)
    return StudyView(view, flags, scores)


def read_stages(path: Path | str, spec: CanonicalView, rules: ReadingRules = _NO_PERMISSIONS) -> Stages:
    """Reads a file and keeps what it was at every stage, whatever its quality.

    Args:
        path: A DICOM, PNG or JPEG file.
        spec: The view wanted.
        rules: What the run allows.

    Raises:
        ImageError: As `load_view`; whether `check_quality` would refuse the file, the scores tell.
    """
    opened = _open(path, spec.modality, rules)
    scores, flags = _judged(opened, spec.modality, rules)
    raw = opened.pixels if opened.dicom is None else opened.dicom.raw()
    return Stages(raw, opened.pixels, _view(opened.pixels, spec), flags, scores)


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


def _open(path: Path | str, modality: Modality, rules: ReadingRules) -> _Opened:
    data = read_bytes(Path(path))
    if data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        opened = _Opened(decode_photograph(data, grayscale=modality == "cxr"), (), None)
    elif looks_like_dicom(data):
        dicom = decode_dicom_bytes(data, modality, rules)
        opened = _oriented(dicom, rules) if modality == "cxr" else _Opened(dicom.pixels, dicom.flags, dicom)
    else:
        raise refusal("not_an_image", "the content is neither DICOM, PNG nor JPEG; convert it to one of these")
    if np.ptp(opened.pixels[::_SAMPLED, ::_SAMPLED]) < _BLANK and np.ptp(opened.pixels) < _BLANK:
        raise refusal("blank", "every pixel has the same value; the image shows nothing")
    return opened


def _oriented(dicom: DecodedDicom, rules: ReadingRules) -> _Opened:
    orientation = suggested_orientation(dicom.header)
    if orientation.flag is None:
        return _Opened(dicom.pixels, dicom.flags, dicom)
    pixels = orientation.corrected(dicom.pixels) if rules.correct_orientation else dicom.pixels
    return _Opened(pixels, (*dicom.flags, orientation.flag), dicom)


def _judged(opened: _Opened, modality: Modality, rules: ReadingRules) -> tuple[dict[str, float], tuple[Flag, ...]]:
    """The scores of an image, and its flags with those that follow from them; no claims are made of other photos."""
    if modality == "photo":
        return {}, opened.flags
    projection = None if opened.dicom is None else view_position(opened.dicom.header)
    scores = quality_scores(opened.pixels, modality, projection)
    return scores, opened.flags + quality_flags(scores, rules.quality)


def _view(pixels: NDArray[np.float32], spec: CanonicalView) -> NDArray[np.uint8]:
    view = to_uint8(canonical_view(pixels, spec))
    if view.min() == view.max():
        raise refusal("blank", "every pixel of the image's central square has the same value; it shows nothing")
    return view
