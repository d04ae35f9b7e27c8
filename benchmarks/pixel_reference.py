"""What a DICOM image should look like, worked out slowly and in plain Python from the standard's equations.

Written apart from `arra_med.imaging`: one value at a time in float64, no tables, no vectors but for the percentiles,
the proportions (Pillow) and the expansion of palettes (pydicom). `pixel_pairs.py` compares the two.

Source: DICOM PS3.3 C.7.5.1.1.2, C.7.6.3.1, C.8.11.3.1.2, C.11.1, C.11.2, C.11.6; PS3.4 N.2.
"""

import math
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_color_lut

LOG_RELATIONSHIPS = ("LIN", "SQRT")
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
FLUOROSCOPY = "1.2.840.10008.5.1.4.1.1.12.2"


def reference_pixels(header: Dataset, stored: np.ndarray, inside: tuple[slice, slice], *, luma: bool) -> np.ndarray:
    """Returns the image as displayed, float64 in [0, 1], (H, W) or (H, W, 3) for colour.

    Args:
        header: The data set.
        stored: (H, W) stored values, or (H, W, 3) RGB.
        inside: The rows and columns within a collimation border, for the percentiles of images without a window.
        luma: Whether colour becomes brightness (ITU-R BT.601).
    """
    if header.SamplesPerPixel == 3:
        shown = np.clip(stored / (2.0 ** int(header.BitsStored) - 1), 0, 1)
    elif header.PhotometricInterpretation == "PALETTE COLOR":
        colour = apply_color_lut(stored, header)[..., :3]
        shown = colour / (2.0 ** (8 * colour.dtype.itemsize) - 1)
    else:
        ends = _ends(header, stored, inside)
        distinct, place = np.unique(stored, return_inverse=True)
        shown = np.array([_shown(int(value), header, ends) for value in distinct])[place].reshape(stored.shape)
    square = _square(shown, _aspect(header))
    return square @ np.array([0.299, 0.587, 0.114]) if luma and square.ndim == 3 else square


def _shown(value: int, header: Dataset, ends: tuple[float, float] | None) -> float:
    if _is_padding(value, header):
        return 0.0
    x = _modality(value, header)
    if ends is not None:
        low, high = ends
        y = min(max((x - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    elif header.get("VOILUTSequence"):
        item = header.VOILUTSequence[0]
        y = _looked_up(x, item) / (2 ** int(item.LUTDescriptor[2]) - 1)
    else:
        y = _windowed(x, header)
    return 1.0 - y if _inverse(header) else y


def _is_padding(value: int, header: Dataset) -> bool:
    first = header.get("PixelPaddingValue")
    if first is None:
        return False
    last = header.get("PixelPaddingRangeLimit", first)
    return min(first, last) <= value <= max(first, last)


def _modality(value: int, header: Dataset) -> float:
    if _is_log(header):
        signed = bool(header.PixelRepresentation)
        lowest = -(2 ** (header.BitsStored - 1)) if signed else 0
        highest = lowest + 2**header.BitsStored - 1
        return -math.log(1 + (value - lowest if _sign(header) == 1 else highest - value))
    if header.get("ModalityLUTSequence") and header.SOPClassUID != FLUOROSCOPY:
        return float(_looked_up(value, header.ModalityLUTSequence[0]))
    if "RescaleSlope" in header and "RescaleIntercept" in header:
        return value * float(header.RescaleSlope) + float(header.RescaleIntercept)
    return float(value)


def _windowed(x: float, header: Dataset) -> float:
    centre, width = float(_first(header.WindowCenter)), float(_first(header.WindowWidth))
    function = header.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + math.exp(-4 * (x - centre) / width))
    if function == "LINEAR":
        if x <= centre - 0.5 - (width - 1) / 2:
            return 0.0
        if x > centre - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (centre - 0.5)) / (width - 1) + 0.5
    if x <= centre - width / 2:
        return 0.0
    if x > centre + width / 2:
        return 1.0
    return (x - centre) / width + 0.5


def _ends(header: Dataset, stored: np.ndarray, inside: tuple[slice, slice]) -> tuple[float, float] | None:
    """The modality values that become black and white; None where a VOI LUT or a window says so."""
    has_voi = header.get("VOILUTSequence") or header.get("WindowCenter") is not None
    if has_voi and not _is_log(header):
        return None
    if header.BitsStored <= 8 and not header.get("ModalityLUTSequence"):
        lowest = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
        ends = [_modality(value, header) for value in (lowest, lowest + 2**header.BitsStored - 1)]
        return min(ends), max(ends)
    seen = stored[inside].ravel()
    seen = seen[[not _is_padding(int(value), header) for value in seen]] if "PixelPaddingValue" in header else seen
    distinct, place = np.unique(seen if seen.size else stored[inside], return_inverse=True)
    values = np.array([_modality(int(value), header) for value in distinct])[place.ravel()]
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def _looked_up(x: float, item: Dataset) -> int:
    size, first, bits = (int(number) for number in item.LUTDescriptor)
    data: Any = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="u1" if bits == 8 and len(data) <= size + 1 else "<u2")
    return int(data[min(max(round(x) - first, 0), (size or 65536) - 1)])


def _inverse(header: Dataset) -> bool:
    if _is_for_processing(header):
        return not _is_log(header) and _sign(header) == 1
    shape = header.get("PresentationLUTShape")
    return shape == "INVERSE" if shape else header.PhotometricInterpretation == "MONOCHROME1"


def _is_for_processing(header: Dataset) -> bool:
    return header.get("PresentationIntentType") == "FOR PROCESSING" or header.get("SOPClassUID") == FOR_PROCESSING


def _is_log(header: Dataset) -> bool:
    return _is_for_processing(header) and header.get("PixelIntensityRelationship") in LOG_RELATIONSHIPS


def _sign(header: Dataset) -> int:
    white_is_low = header.PhotometricInterpretation == "MONOCHROME1"
    return int(header.get("PixelIntensityRelationshipSign") or (1 if white_is_low else -1))


def _aspect(header: Dataset) -> float:
    for keyword in SPACINGS:
        if keyword in header and min(float(side) for side in header[keyword].value) > 0:
            vertical, horizontal = (float(side) for side in header[keyword].value)
            return vertical / horizontal
    return 1.0


def _square(shown: np.ndarray, aspect: float) -> np.ndarray:
    if abs(aspect - 1) <= 0.01 or not 0.25 <= aspect <= 4:
        return shown
    height, width = shown.shape[:2]
    size = (width, round(height * aspect)) if aspect > 1 else (round(width / aspect), height)
    planes = shown[..., None] if shown.ndim == 2 else shown
    resized = [
        np.asarray(Image.fromarray(planes[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
        for c in range(planes.shape[-1])
    ]
    return np.clip(np.stack(resized, axis=-1).reshape(size[1], size[0], *shown.shape[2:]), 0, 1)


def _first(value: Any) -> Any:
    return value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value
