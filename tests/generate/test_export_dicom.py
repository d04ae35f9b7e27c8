"""DICOM files read by pydicom, GDCM and DCMTK, and checked by David Clunie's validator."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image

from arra_med.generate.export_dicom import NewSeries, foreign_because, secondary_capture, write_secondary_capture

REPORT_WORD = "Distinctive"
PIXELS = np.random.default_rng(0)
GRAY = PIXELS.integers(0, 256, (37, 35), dtype=np.uint8)  # an odd number of bytes, which DICOM pads
COLOUR = PIXELS.integers(0, 256, (37, 35, 3), dtype=np.uint8)
PROVENANCE: dict[str, Any] = {
    "modality": "cxr",
    "bundle": {"name": "tiny-cxr", "sha256": "ab" * 32},
    "versions": {"arra-med": "0.1.0"},
    "seed": 7,
    "pixels_sha256": "cd" * 32,
    "report": REPORT_WORD,  # as if a caller had put it there
}
SYNTHETIC_DATA = "(0008,001c)"

both_kinds = pytest.mark.parametrize("picture", [GRAY, COLOUR], ids=["gray", "colour"])
needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
needs_dcmtk = pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")


def written(picture: np.ndarray, path: Path, series: NewSeries | None = None, number: int = 1) -> pydicom.Dataset:
    series = series or NewSeries.fresh()
    write_secondary_capture(path, secondary_capture(picture, PROVENANCE, series, number))
    return pydicom.dcmread(path)


@both_kinds
def test_it_says_synthetic_everywhere_and_shows_no_patient(picture: np.ndarray, tmp_path: Path):
    data = written(picture, tmp_path / "a.dcm")
    assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert list(data.ImageType) == ["DERIVED", "SECONDARY"]
    assert (data.ConversionType, data.Modality, data[0x0008001C].value) == ("SYN", "OT", "YES")
    assert data.ContentQualification == "RESEARCH"
    assert data.PatientName == "SYNTHETIC^ARRA-MED"
    assert data.PatientID.startswith("SYN-")
    assert len(data.PatientID) <= 64
    (equipment,) = data.ContributingEquipmentSequence
    (code,) = equipment.PurposeOfReferenceCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (
        "109100",
        "DCM",
        "Synthesizing Equipment",
    )
    assert "SYNTHETIC" in data.StudyDescription
    assert "SYNTHETIC" in data.SeriesDescription
    assert "seed 7" in data.DerivationDescription
    assert "ab" * 32 in data.DerivationDescription
    assert len(data.DerivationDescription) <= 1024
    assert data.BurnedInAnnotation == "NO"
    for empty in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"):
        assert not data[empty].value
    assert "PatientIdentityRemoved" not in data
    assert REPORT_WORD.encode() not in (tmp_path / "a.dcm").read_bytes()


@both_kinds
def test_pydicom_and_gdcm_read_the_pixels_that_were_written(picture: np.ndarray, tmp_path: Path):
    data = written(picture, tmp_path / "a.dcm")
    assert data.PhotometricInterpretation == ("MONOCHROME2" if picture.ndim == 2 else "RGB")
    assert (data.BitsAllocated, data.BitsStored, data.PixelRepresentation) == (8, 8, 0)
    np.testing.assert_array_equal(data.pixel_array, picture)

    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "a.dcm"))
    assert reader.Read()
    raw = reader.GetImage().GetBuffer().encode("utf-8", errors="surrogateescape")
    np.testing.assert_array_equal(np.frombuffer(raw, dtype=np.uint8)[: picture.size].reshape(picture.shape), picture)


@needs_dcmtk
@both_kinds
def test_dcmtk_dumps_it_without_complaint_and_draws_the_same_picture(picture: np.ndarray, tmp_path: Path):
    written(picture, tmp_path / "a.dcm")
    dump = subprocess.run(["dcmdump", tmp_path / "a.dcm"], capture_output=True, text=True, check=True)
    assert not [line for line in dump.stderr.splitlines() if line.startswith(("E:", "W:"))]
    assert "[SYNTHETIC^ARRA-MED]" in dump.stdout
    window = ["+Wi", "1"] if picture.ndim == 2 else []
    subprocess.run(["dcm2pnm", "--write-png", *window, tmp_path / "a.dcm", tmp_path / "a.png"], check=True)
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("L" if picture.ndim == 2 else "RGB"))
    np.testing.assert_array_equal(shown, picture)


@needs_dciodvfy
@both_kinds
def test_the_validator_finds_no_error_but_that_it_is_older_than_synthetic_data(picture: np.ndarray, tmp_path: Path):
    data = written(picture, tmp_path / "a.dcm")
    complaints = _validated(tmp_path / "a.dcm")
    errors = [line for line in complaints if line.startswith("Error")]
    # dicom3tools 1.00 of June 2022 does not know (0008,001C), which the standard has had since 2023.
    assert all(SYNTHETIC_DATA in line for line in errors)
    warnings = [line for line in complaints if "Warning" in line and SYNTHETIC_DATA not in line]
    assert len(warnings) == 1
    assert "Laterality" in warnings[0]  # empty, as it is unknown
    del data.SyntheticData
    data.save_as(tmp_path / "b.dcm")
    assert not [line for line in _validated(tmp_path / "b.dcm") if line.startswith("Error")]


@needs_dciodvfy
def test_the_validator_does_find_a_fault(tmp_path: Path):
    data = written(GRAY, tmp_path / "a.dcm")
    del data.ConversionType
    data.save_as(tmp_path / "b.dcm")
    assert [line for line in _validated(tmp_path / "b.dcm") if line.startswith("Error") and "ConversionType" in line]


def _validated(path: Path) -> list[str]:
    run = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr).splitlines()


def test_images_of_a_request_are_one_series_and_another_request_is_another_patient(tmp_path: Path):
    series = NewSeries.fresh()
    first, second = (written(GRAY, tmp_path / f"{n}.dcm", series, n) for n in (1, 2))
    other = written(GRAY, tmp_path / "3.dcm")
    for shared in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "StudyDate", "StudyTime"):
        assert first[shared].value == second[shared].value
    for own in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "SOPInstanceUID"):
        assert first[own].value != other[own].value
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert [first.InstanceNumber, second.InstanceNumber] == [1, 2]
    assert all(data.StudyInstanceUID.is_valid and data.SOPInstanceUID.is_valid for data in (first, other))


def test_our_own_file_is_recognised(tmp_path: Path):
    written(COLOUR, tmp_path / "a.dcm")
    assert foreign_because(tmp_path / "a.dcm") is None


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("SyntheticData", "NO", "no synthetic image that arra-med made"),
        ("SyntheticData", None, "no synthetic image that arra-med made"),
        ("ContributingEquipmentSequence", None, "no synthetic image that arra-med made"),
        ("ContributingEquipmentSequence", [], "no synthetic image that arra-med made"),
        ("PatientName", "Doe^Jane", "no synthetic image that arra-med made"),
        ("PatientID", "12345", "no synthetic image that arra-med made"),
        ("StudyDescription", "Chest of somebody", "no synthetic image that arra-med made"),
        ("PatientAddress", "Main Street", "data elements that arra-med does not write"),
    ],
)
def test_what_is_not_ours_or_was_changed_is_foreign(tmp_path: Path, keyword: str, value: Any, reason: str):
    data = written(GRAY, tmp_path / "a.dcm")
    if value is None:
        delattr(data, keyword)
    else:
        setattr(data, keyword, value)
    data.save_as(tmp_path / "b.dcm")
    assert reason in str(foreign_because(tmp_path / "b.dcm"))


def test_an_element_deep_inside_or_a_private_one_is_foreign(tmp_path: Path):
    nested = written(GRAY, tmp_path / "a.dcm")
    nested.ContributingEquipmentSequence[0].InstitutionName = "Somewhere"
    nested.save_as(tmp_path / "nested.dcm")
    private = written(GRAY, tmp_path / "a.dcm")
    private.private_block(0x0011, "SOMEBODY", create=True).add_new(0x01, "LO", "a note")
    private.save_as(tmp_path / "private.dcm")
    for name in ("nested.dcm", "private.dcm"):
        assert foreign_because(tmp_path / name) == "it holds data elements that arra-med does not write"


def test_another_equipments_synthetic_file_a_text_file_and_no_file_are_foreign(tmp_path: Path):
    data = written(GRAY, tmp_path / "a.dcm")
    data.ContributingEquipmentSequence[0].Manufacturer = "Another"
    data.save_as(tmp_path / "b.dcm")
    assert "no synthetic image" in str(foreign_because(tmp_path / "b.dcm"))
    (tmp_path / "c.dcm").write_text("hello")
    assert foreign_because(tmp_path / "c.dcm") == "it is no DICOM file"
    assert "cannot be read" in str(foreign_because(tmp_path / "absent.dcm"))
