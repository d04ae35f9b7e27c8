"""From the stored values of a grayscale DICOM image to what a reading room would show, in [0, 1].

Modality LUT or rescale -> VOI LUT or window -> polarity, padding black. Every step maps a value to a value, so the
whole chain is worked out once for each bit pattern that a pixel can have, and the image is one look-up in that table.

| step | what is done | clause of PS3.3 |
| --- | --- | --- |
| padding | PixelPaddingValue to PixelPaddingRangeLimit, compared with stored values | C.7.5.1.1.2 |
| modality | modality LUT, else rescale; in fluoroscopy the table only serves subtraction and is left out | C.11.1, C.8.7.1.1.2 |
| FOR PROCESSING | logarithm where the signal is linear in X-ray intensity | C.8.11.3.1.2 |
| VOI | VOI LUT, else window (LINEAR, LINEAR_EXACT, SIGMOID); of several the first | C.11.2.1, C.8.11.3.1.5 |
| no VOI | at most 8 bits: the whole range, as in a JPEG file; more: a percentile window | none: our choice |
| polarity | PresentationLUTShape, else MONOCHROME1; FOR PROCESSING: PixelIntensityRelationshipSign | C.11.6.1.2, C.7.6.3.1.2 |

The polarity turns the *output range* of the VOI round (`pydicom.pixels.apply_presentation_lut` turns the image's own
maximum round, which shifts every value of an image that does not reach white). PS3.4 N.2 fixes the order of the steps.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from arra_med.imaging.border import inside_border
from arra_med.imaging.dicom_kinds import FLUOROSCOPY, is_for_processing
from arra_med.imaging.dicom_pixels import StoredPixels
from arra_med.imaging.lut import first_number, num_alternatives, read_lookup_table, read_window
from arra_med.imaging.photograph import ROBUST_PERCENTILES
from arra_med.imaging.reasons import Flag, refusal

_LINEAR_IN_INTENSITY = frozenset({"LIN", "SQRT"})  # the logarithm of a root is half the logarithm
_STRIP_ROWS = 64
_DISPLAY_BITS = 8


class Displayed(NamedTuple):
    """An image as displayed: float32 (H, W) in [0, 1], 0 black, padding black; and what had to be decided."""

    pixels: NDArray[np.float32]
    flags: tuple[Flag, ...]


def displayed(stored: StoredPixels, header: Dataset) -> Displayed:
    """Applies the grayscale pipeline.

    Args:
        stored: The image as decoded.
        header: Its data set.

    Raises:
        ImageError: `decode_failed` if a lookup table contradicts its descriptor, or a rescale overflows.
    """
    flags: list[Flag] = []
    padding = _padding(stored.values, header)
    values = _modality_values(stored.values, header)
    shown = _shown_by_voi(values, header, flags)
    if shown is None:
        low, high = _range_without_voi(stored, values, padding, header, flags)
        shown = np.clip((values - low) / (high - low), 0, 1) if low < high else np.zeros_like(values)
    if _is_inverse(header, flags):
        shown = 1 - shown
    shown[padding] = 0
    return Displayed(stored.look_up(shown.astype(np.float32)), tuple(flags))


def _padding(values: NDArray[np.int64], header: Dataset) -> NDArray[np.bool_]:
    """Which values mean a pixel that was added to fill the rectangle."""
    first = first_number(header.get("PixelPaddingValue"))
    if first is None:
        return np.zeros(values.shape, dtype=np.bool_)
    last = first_number(header.get("PixelPaddingRangeLimit"))
    low, high = sorted(_as_stored(end, header) for end in (first, first if last is None else last))
    return np.asarray((values >= low) & (values <= high))


def _as_stored(padding: float, header: Dataset) -> float:
    """A padding value; a negative one may be written as an unsigned number."""
    wrapped = header.PixelRepresentation and padding > _storable(header)[1]
    return padding - 2 ** int(header.BitsAllocated) if wrapped else padding


def _storable(header: Dataset) -> tuple[int, int]:
    """The smallest and the largest value that the stored bits hold."""
    bits = int(header.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _modality_values(stored: NDArray[np.int64], header: Dataset) -> NDArray[np.float64]:
    """The output of the modality LUT or rescale; of a linear detector signal, its attenuation."""
    if is_for_processing(header) and _relationship(header) in _LINEAR_IN_INTENSITY:
        # Bone attenuates: the lower the intensity, the brighter. One more than the intensity has a logarithm at zero.
        low, high = _storable(header)
        intensity = stored - low if _intensity_sign(header) > 0 else high - stored
        return -np.log1p(np.maximum(intensity, 0).astype(np.float64))
    if str(header.get("SOPClassUID") or "") != FLUOROSCOPY:
        table = read_lookup_table(header, "ModalityLUTSequence", signed_input=bool(header.PixelRepresentation))
        if table is not None:
            return table.look_up(stored).astype(np.float64)
    slope, intercept = first_number(header.get("RescaleSlope")), first_number(header.get("RescaleIntercept"))
    if slope is None or intercept is None:
        return stored.astype(np.float64)
    with np.errstate(over="ignore"):
        values = stored.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise refusal("decode_failed", "the rescale slope and intercept lead beyond every number; export it again")
    return values


def _shown_by_voi(values: NDArray[np.float64], header: Dataset, flags: list[Flag]) -> NDArray[np.float64] | None:
    """What the VOI LUT or window makes of modality values, in [0, 1]; None without either."""
    if is_for_processing(header) and _relationship(header) in _LINEAR_IN_INTENSITY:
        return None
    table = read_lookup_table(header, "VOILUTSequence", signed_input=bool(values.min() < 0))
    window = read_window(header)
    if table is not None and window is not None:
        flags.append("voi_lut_before_window")
    chosen = "VOILUTSequence" if table is not None else "WindowCenter"
    if num_alternatives(header, chosen) > 1:
        flags.append("several_windows")
    if table is not None:
        return np.clip(table.look_up(values) / (2.0**table.bits - 1), 0, 1)
    return None if window is None else window.displayed(values)


def _range_without_voi(
    stored: StoredPixels, values: NDArray[np.float64], padding: NDArray[np.bool_], header: Dataset, flags: list[Flag]
) -> tuple[float, float]:
    """The modality values that become black and white where nothing says so.

    Values of at most 8 bits were written for display. Deeper ones are detector values, of which the 0.5th and 99.5th
    percentile count, without padding and without a near-constant frame.
    """
    if int(header.BitsStored) <= _DISPLAY_BITS and not header.get("ModalityLUTSequence"):
        low, high = sorted(_modality_values(np.array(_storable(header)), header).tolist())
        return low, high
    flags.append("percentile_window")
    rows, columns = inside_border(stored.cells, stored.values)
    counts = _counts(stored.cells[rows, columns], len(values))
    if counts[~padding].any():
        counts[padding] = 0
    return _percentiles(values, counts)


def _counts(cells: NDArray[np.unsignedinteger], num_values: int) -> NDArray[np.int64]:
    """How often each value occurs; strip by strip, so that the wide integers which bincount makes stay in the cache."""
    counts = np.zeros(num_values, dtype=np.int64)
    for start in range(0, len(cells), _STRIP_ROWS):
        found = np.bincount(cells[start : start + _STRIP_ROWS].ravel())
        counts[: len(found)] += found
    return counts


def _percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """The robust percentiles of values that occur so often; `numpy.percentile` of all of them gives the same."""
    values, counts = values[counts > 0], counts[counts > 0]
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(counts[order])
    place = np.array(ROBUST_PERCENTILES) / 100 * (reached[-1] - 1)
    below = values[np.searchsorted(reached, np.floor(place), side="right")]
    above = values[np.searchsorted(reached, np.ceil(place), side="right")]
    low, high = below + (above - below) * (place - np.floor(place))
    return float(low), float(high)


def _is_inverse(header: Dataset, flags: list[Flag]) -> bool:
    """Whether low values are bright."""
    if is_for_processing(header):
        return _relationship(header) not in _LINEAR_IN_INTENSITY and _intensity_sign(header) > 0
    by_interpretation = header.PhotometricInterpretation == "MONOCHROME1"
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if shape not in ("IDENTITY", "INVERSE"):
        return by_interpretation
    if (shape == "INVERSE") != by_interpretation:
        flags.append("polarity_contradiction")
    return shape == "INVERSE"


def _relationship(header: Dataset) -> str:
    return str(header.get("PixelIntensityRelationship") or "").strip().upper()


def _intensity_sign(header: Dataset) -> float:
    """1 if more X-rays make higher values, -1 if lower ones; if unsaid, what shows bone bright (C.8.11.3.1.2)."""
    sign = first_number(header.get("PixelIntensityRelationshipSign"))
    return sign if sign in (1, -1) else 1 if header.PhotometricInterpretation == "MONOCHROME1" else -1
