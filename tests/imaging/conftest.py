"""DICOM files made in the test: every element can be replaced, and no file comes from anywhere else."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

SECRET = "DOE^JANE"

MakeHeader = Callable[..., Dataset]
MakeDicom = Callable[..., bytes]


def dicom_header(pixels: np.ndarray, **elements: Any) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.SOPClassUID = ComputedRadiographyImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.PatientName = header.PatientID = SECRET
    header.Modality = "CR"
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    header.BitsAllocated = header.BitsStored = pixels.dtype.itemsize * 8
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.HighBit = header.get("BitsStored", 16) - 1
    return header


@pytest.fixture
def make_header() -> MakeHeader:
    """Returns a function (stored pixels, element=value, ...) -> data set; the value None leaves an element out."""
    return dicom_header


@pytest.fixture
def make_dicom() -> MakeDicom:
    """Returns a function (stored pixels, compress_to=syntax, claim=syntax, element=value, ...) -> bytes of a file."""

    def make(pixels: np.ndarray, compress_to: str | None = None, claim: str | None = None, **elements: Any) -> bytes:
        header = dicom_header(pixels, **elements)
        if compress_to is not None:
            header.compress(compress_to)
        if claim is not None:
            header.file_meta.TransferSyntaxUID = claim
        stream = io.BytesIO()
        header.save_as(stream, enforce_file_format=True)
        return stream.getvalue()

    return make


@pytest.fixture
def quadrants() -> np.ndarray:
    """(64, 48) uint16 below 4096, a different value in each quarter: no flip or turn leaves it as it is."""
    pixels = np.zeros((64, 48), dtype=np.uint16)
    pixels[:32, :24], pixels[:32, 24:], pixels[32:, :24], pixels[32:, 24:] = 0, 1000, 2500, 4095
    return pixels
