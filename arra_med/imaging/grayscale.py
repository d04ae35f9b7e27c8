"""From the stored values of a grayscale DICOM image to what a reading room would show, in [0, 1].

Modality LUT or rescale -> VOI LUT or window -> inversion for MONOCHROME1. The first two are pydicom's own functions;
the inversion turns the *output range* of the second round. (`pydicom.pixels.apply_presentation_lut` turns the image's
own maximum round, which shifts every value of an image that does not reach white.)

Source: DICOM PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.6.3.1.2 (photometric interpretation),
C.7.5.1.1.2 (pixel padding); PS3.4 N.2 (order of the steps).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from arra_med.imaging.photograph import robust_window

_WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_FAR = 1e12  # beyond every value that 16 stored bits and a rescale of a radiograph can reach
_DISPLAY_BITS = 8


def displayed(stored: NDArray[Any], header: Dataset) -> NDArray[np.float32]:
    """Applies the grayscale pipeline.

    With no VOI LUT and no usable window: values of at most 8 bits were written for display and keep their whole range,
    as in a JPEG file; deeper ones are detector values, and the 0.5th and 99.5th percentile of what is no padding
    become the ends of the range.

    Args:
        stored: (H, W) integers as decoded, sign and unused bits already settled.
        header: The data set; of several windows or tables the first counts, a table before a window.

    Returns:
        float32 (H, W) in [0, 1], 0 black. Padding is black.
    """
    padding = _padding(stored, header)
    values = np.asarray(apply_modality_lut(stored, header), dtype=np.float64)
    if header.get("VOILUTSequence"):
        output, low, high = _through_voi_lut(values, header)
    elif (window := _window(header)) is not None:
        output, low, high = _through_window(values, window)
    else:
        output = values
        low, high = _range_without_window(values, stored, header, padding)
    unit = np.clip((output - low) / (high - low), 0, 1) if low < high else np.zeros_like(output)
    if header.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    if padding is not None:
        unit[padding] = 0
    return unit.astype(np.float32)


def _through_voi_lut(values: NDArray[np.float64], header: Dataset) -> tuple[NDArray[np.float64], float, float]:
    """The VOI LUT's output and its range, which the number of bits in its descriptor fixes."""
    output = apply_voi(np.rint(values).astype(np.int64), header, index=0)
    bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    return np.asarray(output, dtype=np.float64), 0.0, float(2**bits - 1)


def _through_window(values: NDArray[np.float64], window: Dataset) -> tuple[NDArray[np.float64], float, float]:
    """The window's output and its range: what it makes of values far below and far above it."""
    with np.errstate(over="ignore"):
        low, high = apply_windowing(np.array([-_FAR, _FAR]), window)
        output = np.asarray(apply_windowing(values, window), dtype=np.float64)
    return (output, float(low), float(high)) if low <= high else (-output, -float(low), -float(high))


def _window(header: Dataset) -> Dataset | None:
    """The first window with all that `apply_windowing` reads, or None where there is none that can be applied."""
    centre, width = (_first_number(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in _WINDOW_FUNCTIONS else "LINEAR"
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    window = Dataset()
    for name in ("BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        if header.get(name) is not None:
            setattr(window, name, header.get(name))
    window.PhotometricInterpretation = "MONOCHROME2"
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, width, function
    return window


def _first_number(value: Any) -> float | None:
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _range_without_window(
    values: NDArray[np.float64], stored: NDArray[Any], header: Dataset, padding: NDArray[np.bool_] | None
) -> tuple[float, float]:
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    if bits <= _DISPLAY_BITS and not header.get("ModalityLUTSequence"):
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], dtype=np.int64)
        low, high = sorted(float(end) for end in apply_modality_lut(ends, header))
        return low, high
    seen = values if padding is None or padding.all() else values[~padding]
    return robust_window(seen)


def _padding(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_] | None:
    """Which pixels were added to fill the rectangle, if the header names their value."""
    first = _first_number(header.get("PixelPaddingValue"))
    if first is None:
        return None
    last = _first_number(header.get("PixelPaddingRangeLimit"))
    low, high = sorted((first, first if last is None else last))
    return (stored >= low) & (stored <= high)
