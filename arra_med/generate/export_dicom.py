"""DICOM Secondary Capture files of synthetic images, and how one of ours is recognised.

A file says that it is synthetic in every place where the standard, a PACS or a person would look, belongs to no patient,
and holds neither report nor prompt. `BurnedInAnnotation` is NO, with or without the visible mark: the attribute asks
whether the pixels hold text that identifies a patient. Body part, orientation and spacing are left out, since a synthetic
image can vouch for none of them and an automatic reader should not be drawn to it by them.

Source: DICOM PS3.3 A.8.1 (Secondary Capture Image IOD), C.7.6.1 (General Image), C.8.6.1 (SC Equipment), C.12.1 (SOP
Common: Synthetic Data, Contributing Equipment Sequence, Content Qualification); PS3.16 CID 7005.
"""

import datetime
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from arra_med.generate.marks import IMAGE_TITLES
from arra_med.generate.session import SYNTHETIC_NOTICE

PATIENT_ID_PREFIX = "SYN-"

_IMPLEMENTATION_UID = UID("2.25.318467207412038219403651470358627640199")
_IMPLEMENTATION_VERSION = "ARRA_MED"
_MANUFACTURER, _MODEL = "ARRA-Med", "ARRA-Med report to image"
_SYNTHESIZING_EQUIPMENT = ("109100", "DCM", "Synthesizing Equipment")
_MAX_NAME = 64  # characters of a bundle's name in the description

_CONSTANT: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "ImageType": ["DERIVED", "SECONDARY"],
    "SOPClassUID": SecondaryCaptureImageStorage,
    "SyntheticData": "YES",
    "ContentQualification": "RESEARCH",
    "Modality": "OT",
    "ConversionType": "SYN",
    "Manufacturer": _MANUFACTURER,
    "ManufacturerModelName": _MODEL,
    "SecondaryCaptureDeviceManufacturer": _MANUFACTURER,
    "SecondaryCaptureDeviceManufacturerModelName": _MODEL,
    "StudyDescription": "SYNTHETIC image, research use only",
    "StudyID": "SYNTHETIC",
    "PatientName": "SYNTHETIC^ARRA-MED",
    "ImageComments": SYNTHETIC_NOTICE,
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "SeriesNumber": 1,
    **dict.fromkeys(("AccessionNumber", "Laterality", "PatientBirthDate", "PatientOrientation", "PatientSex"), ""),
    "ReferringPhysicianName": "",
}
"""Elements that are the same in every file; what is empty does not exist or cannot be vouched for."""

_VARYING = """
    BitsAllocated BitsStored Columns ContentDate ContentTime ContributingEquipmentSequence DerivationDescription HighBit
    InstanceCreationDate InstanceCreationTime InstanceNumber PatientID PhotometricInterpretation PixelData
    PixelRepresentation PlanarConfiguration Rows SOPInstanceUID SamplesPerPixel SecondaryCaptureDeviceSoftwareVersions
    SeriesDate SeriesDescription SeriesInstanceUID SeriesTime SoftwareVersions StudyDate StudyInstanceUID StudyTime
    TimezoneOffsetFromUTC WindowCenter WindowWidth
    PurposeOfReferenceCodeSequence CodeValue CodingSchemeDesignator CodeMeaning
    ContributionDateTime ContributionDescription
"""
_WRITTEN = frozenset((*_CONSTANT, *_VARYING.split()))


@dataclass(frozen=True)
class NewSeries:
    """What the images of one request share: one series of one study of a patient who does not exist.

    Attributes:
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        patient_id: `SYN-` and 96 random bits; an empty one could be merged with others by a PACS.
        made_at: With a time zone.
    """

    study_uid: str
    series_uid: str
    patient_id: str
    made_at: datetime.datetime

    @classmethod
    def fresh(cls) -> "NewSeries":
        """Returns a series that exists nowhere yet."""
        return cls(
            study_uid=generate_uid(prefix=None),
            series_uid=generate_uid(prefix=None),
            patient_id=PATIENT_ID_PREFIX + secrets.token_hex(12).upper(),
            made_at=datetime.datetime.now().astimezone(),
        )


def secondary_capture(picture: np.ndarray, provenance: dict[str, Any], series: NewSeries, number: int) -> Dataset:
    """Builds the DICOM data set of one image, with a new SOPInstanceUID.

    Args:
        picture: uint8 (H, W), stored as MONOCHROME2, or (H, W, 3), stored as RGB.
        provenance: What made it, as `image_provenance` returns it.
        series: Shared by the images of a request.
        number: InstanceNumber, from 1.
    """
    title, version = IMAGE_TITLES[provenance["modality"]], provenance["versions"]["arra-med"]
    date, time = series.made_at.strftime("%Y%m%d"), series.made_at.strftime("%H%M%S")
    data = Dataset()
    for keyword, value in _CONSTANT.items():
        setattr(data, keyword, value)
    data.InstanceCreationDate = data.StudyDate = data.SeriesDate = data.ContentDate = date
    data.InstanceCreationTime = data.StudyTime = data.SeriesTime = data.ContentTime = time
    data.TimezoneOffsetFromUTC = series.made_at.strftime("%z")
    data.PatientID = series.patient_id
    data.StudyInstanceUID, data.SeriesInstanceUID = series.study_uid, series.series_uid
    data.SOPInstanceUID, data.InstanceNumber = generate_uid(prefix=None), number
    data.SoftwareVersions = data.SecondaryCaptureDeviceSoftwareVersions = version
    data.SeriesDescription = title.replace("Synthetic", "SYNTHETIC", 1)
    data.DerivationDescription = _derivation(title, provenance)
    data.ContributingEquipmentSequence = [_equipment(version, series.made_at)]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.set_pixel_data(picture, "MONOCHROME2" if picture.ndim == 2 else "RGB", 8, generate_instance_uid=False)
    if picture.ndim == 2:  # the identity, so that no viewer stretches the contrast by itself (PS3.3 C.11.2.1.2)
        data.WindowCenter, data.WindowWidth = 128, 256
    return data


def write_secondary_capture(path: Path, data: Dataset) -> None:
    """Writes a DICOM file (PS3.10), explicit VR little endian."""
    data.file_meta.ImplementationClassUID = _IMPLEMENTATION_UID
    data.file_meta.ImplementationVersionName = _IMPLEMENTATION_VERSION
    data.save_as(path, enforce_file_format=True)


def foreign_because(path: Path) -> str | None:
    """Tells why a file is no synthetic image of ours, or None if it is one.

    A file is ours if it says so everywhere (synthetic data, equipment, conversion, patient) and holds no data element that
    `secondary_capture` does not write. No value of the file is told.
    """
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True)
        named = {element.keyword for element in data.iterall()}
        (equipment,) = data.ContributingEquipmentSequence
        (code,) = equipment.PurposeOfReferenceCodeSequence
        is_ours = (
            all(data[keyword].value == value for keyword, value in _CONSTANT.items())
            and data.PatientID.startswith(PATIENT_ID_PREFIX)
            and equipment.Manufacturer == _MANUFACTURER
            and (code.CodeValue, code.CodingSchemeDesignator) == _SYNTHESIZING_EQUIPMENT[:2]
        )
    except OSError as error:
        return f"it cannot be read ({error.strerror or type(error).__name__})"
    except InvalidDicomError:
        return "it is no DICOM file"
    except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError):  # absent or damaged
        is_ours, named = False, set()
    if not is_ours:
        return "it is no synthetic image that arra-med made"
    return None if named <= _WRITTEN else "it holds data elements that arra-med does not write"


def _derivation(title: str, provenance: dict[str, Any]) -> str:
    bundle = provenance["bundle"]
    return (
        f"{title}, made from text by a machine-learning model; it shows no patient. Research use only, not for clinical "
        f"use. Bundle {str(bundle['name'])[:_MAX_NAME]}, sha256 {bundle['sha256']}, seed {provenance['seed']}, pixels "
        f"sha256 {provenance['pixels_sha256']}."
    )


def _equipment(version: str, made_at: datetime.datetime) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _SYNTHESIZING_EQUIPMENT
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [code]
    equipment.Manufacturer = _MANUFACTURER
    equipment.ManufacturerModelName = _MODEL
    equipment.SoftwareVersions = version
    equipment.ContributionDateTime = made_at.strftime("%Y%m%d%H%M%S%z")
    equipment.ContributionDescription = "Image synthesized from text by a machine-learning model"
    return equipment
