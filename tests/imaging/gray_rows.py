"""Rows of stored values and what the grayscale pipeline makes of them, for its tests."""

import numpy as np
from pydicom import Dataset

from arra_med.imaging.dicom_pixels import stored_pixels
from arra_med.imaging.grayscale import displayed
from tests.imaging.conftest import dicom_header


def row(*values: int, dtype: type = np.uint16) -> np.ndarray:
    return np.array([values], dtype=dtype)


def lut(first: int, bits: int, data: list[int]) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(data), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = data
    item["LUTData"].VR = "US"
    return [item]


def displayed_pixels(header: Dataset) -> np.ndarray:
    return displayed(stored_pixels(header), header).pixels


def shown_row(stored: np.ndarray, **elements) -> list[float]:
    return displayed_pixels(dicom_header(stored, **{"BitsStored": 12, **elements}))[0].tolist()


def flags_of(stored: np.ndarray, **elements) -> tuple[str, ...]:
    header = dicom_header(stored, **{"BitsStored": 12, **elements})
    return displayed(stored_pixels(header), header).flags
