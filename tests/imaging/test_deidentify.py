"""De-identification of headers: the table, every action, what lies beyond the table, and pixels left alone."""

import csv
import io
from importlib import resources

import numpy as np
import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from arra_med.errors import ImageError
from arra_med.imaging.deidentify import basic_profile, check_burned_in, deidentify
from arra_med.imaging.replacements import shift_dates
from tests.imaging.conftest import MakeDicom, MakeHeader

PIXELS = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) % 4096


class Marks:
    """Replacements that a reader of a test can foretell."""

    def of(self, text: str) -> str:
        return f"pseudonym-{len(text)}"

    def uid(self, uid: str) -> str:
        return f"2.25.{len(uid)}{uid[-1]}"

    def date_shift_days(self, patient: str) -> int:
        return -31


def deidentified(header: Dataset) -> Dataset:
    return deidentify(header, Marks()).dataset


# The table


@pytest.mark.parametrize(
    ("keyword", "action", "shifts_dates"),
    [  # read off PS3.15 Table E.1-1
        ("AccessionNumber", "Z", False),
        ("AcquisitionDate", "X/Z", True),
        ("AcquisitionDateTime", "X/Z/D", True),
        ("BurnedInAnnotation", None, None),
        ("ContentDate", "Z/D", True),
        ("DeviceSerialNumber", "X/Z/D", False),
        ("FrameOfReferenceUID", "U", False),
        ("ImageComments", "X", False),
        ("InstitutionName", "X/Z/D", False),
        ("Modality", None, None),
        ("OperatorsName", "X/Z/D", False),
        ("PatientAge", "X", False),
        ("PatientBirthDate", "Z", False),
        ("PatientID", "Z/D", False),
        ("PatientName", "Z", False),
        ("PatientSex", "Z", False),
        ("ReferencedImageSequence", "X/Z/U*", False),
        ("ReferringPhysicianName", "Z", False),
        ("SOPInstanceUID", "U", False),
        ("StudyDate", "Z", True),
        ("StudyDescription", "X", False),
        ("StudyID", "Z", False),
        ("StudyInstanceUID", "U", False),
        ("StudyTime", "Z", True),
        ("VerifyingObserverName", "D", False),
    ],
)
def test_the_table_says_what_the_standard_says(keyword: str, action: str | None, shifts_dates: bool | None) -> None:
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    found = basic_profile().get(f"{tag:08x}")
    assert (found and found.action, found and found.shifts_dates) == (action, shifts_dates)


def test_the_table_is_whole_and_its_names_are_those_of_the_dictionary() -> None:
    text = resources.files("arra_med.imaging").joinpath("basic_profile.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len({row["tag"] for row in rows}) == 655
    assert {row["basic_profile"] for row in rows} == {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    for row in rows:
        if "x" not in row["tag"] and (keyword := keyword_for_tag(int(row["tag"], 16))):
            letters = "".join(letter for letter in row["name"].replace("'s", "") if letter.isalnum()).lower()
            assert letters == keyword.lower().removesuffix("retired"), row
            if row["modified_dates"] and keyword not in ("TimezoneOffsetFromUTC",):
                assert dictionary_VR(int(row["tag"], 16)) in ("DA", "TM", "DT", "OB"), row


# The actions


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_each_action_leaves_what_it_should(make_header: MakeHeader) -> None:
    header = make_header(
        PIXELS,
        PatientID="4711",
        PatientName="Muster^Erika",
        PatientBirthDate="19500102",
        PatientSex="F",
        PatientAge="066Y",
        StudyDescription="Chest of Mrs Muster",
        ReferringPhysicianName="Doktor^Eisenbart",
        InstitutionName="General Hospital",
        DeviceSerialNumber="SN-77",
        StudyInstanceUID="1.2.3.4",
        StudyDate="20200131",
        StudyTime="101500.25",
        AcquisitionDateTime="20200301101500.5+0200",
        ContentDate="2020.03.01",
        ViewPosition="PA",
        Manufacturer="ACME",
        PixelSpacing=[0.14, 0.14],
    )
    audit = deidentify(header, Marks())
    found = audit.dataset
    assert (found.PatientID, found.PatientName) == ("pseudonym-4", "pseudonym-4")
    assert [found[name].is_empty for name in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName")] == [True] * 3
    assert "PatientAge" not in found
    assert "StudyDescription" not in found
    assert (found.InstitutionName, found.DeviceSerialNumber) == ("REMOVED", "REMOVED")
    assert found.StudyInstanceUID == "2.25.74"
    assert (found.StudyDate, found.StudyTime, found.ContentDate) == ("20191231", "101500.25", "20200130")
    assert found.AcquisitionDateTime == "20200130101500.5"  # a leap year; without the place's offset from UTC
    assert (found.ViewPosition, found.Manufacturer, found.PixelSpacing) == ("PA", "ACME", [0.14, 0.14])
    assert [(entry.tag, entry.action) for entry in audit.audit] == [
        ("(0002,0003)", "U"),
        ("(0008,0018)", "U"),
        ("(0008,0020)", "C"),
        ("(0008,0023)", "C"),
        ("(0008,002a)", "C"),
        ("(0008,0080)", "D"),
        ("(0008,0090)", "Z"),
        ("(0008,1030)", "X"),
        ("(0010,0010)", "D"),
        ("(0010,0020)", "D"),
        ("(0010,0030)", "Z"),
        ("(0010,0040)", "Z"),
        ("(0010,1010)", "X"),
        ("(0018,1000)", "D"),
        ("(0020,000d)", "U"),
    ]
    assert header.PatientID == "4711"  # the original is not changed


def test_the_copy_says_what_was_done(make_header: MakeHeader) -> None:
    found = deidentified(make_header(PIXELS))
    assert (found.PatientIdentityRemoved, found.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert {item.CodingSchemeDesignator for item in found.DeidentificationMethodCodeSequence} == {"DCM"}
    assert all(len(text) <= 64 for text in found.DeidentificationMethod)


def test_items_of_sequences_are_treated_like_the_data_set_and_counted(make_header: MakeHeader) -> None:
    header = make_header(PIXELS)
    references = []
    for number in range(2):
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        item.ReferencedSOPInstanceUID = f"1.2.{number}"
        item.InstitutionName = "General Hospital"
        item.add_new(0x00091001, "LO", "private")
        references.append(item)
    header.ReferencedImageSequence = references
    header.RequestAttributesSequence = [Dataset()]
    header.VerifyingObserverIdentificationCodeSequence = [references[0]]
    header.ContentSequence = [references[0]]
    result = deidentify(header, Marks())
    found = result.dataset
    assert [item.ReferencedSOPInstanceUID for item in found.ReferencedImageSequence] == ["2.25.50", "2.25.51"]
    assert {item.ReferencedSOPClassUID for item in found.ReferencedImageSequence} == {"1.2.840.10008.5.1.4.1.1.1"}
    assert all(len(item) == 3 for item in found.ReferencedImageSequence)
    assert "RequestAttributesSequence" not in found
    assert list(found.VerifyingObserverIdentificationCodeSequence) == []
    assert [len(item) for item in found.ContentSequence] == [0]
    assert ("(0008,1140)>(0008,1155)", "U", 2) in result.audit
    assert ("(0008,1140)>(0009,1001)", "X", 2) in result.audit


def test_private_curve_overlay_and_unknown_attributes_go(make_header: MakeHeader) -> None:
    header = make_header(PIXELS)
    block = header.private_block(0x0011, "GENERAL HOSPITAL", create=True)
    block.add_new(1, "LO", "Muster^Erika")
    header.add_new(0x50003000, "OW", b"\0\1")
    header.add_new(0x50020010, "US", 1)
    header.add_new(0x60003000, "OW", b"\0\1")
    header.add_new(0x60020010, "US", 8)
    header.add_new(0x00081303, "LO", "no name in the dictionary")
    header.add_new(0x00020016, "AE", "STRAY")
    found = deidentified(header)
    groups = {tag.group for tag in found.keys()}  # noqa: SIM118 - a data set iterates over elements
    assert groups == {0x0008, 0x0010, 0x0012, 0x0028, 0x7FE0}
    assert 0x00081303 not in found


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("keyword", "value", "stays"),
    [  # none of them is in the table
        ("CommentsOnTheScheduledProcedureStep", "Mrs Muster fell", False),
        ("LUTExplanation", "for Dr Eisenbart", False),
        ("DeviceID", "ROOM 7", False),
        ("AlgorithmName", "ours", False),
        ("BodyPartExamined", "CHEST", True),
        ("BodyPartExamined", "Erika", False),
        ("RescaleType", "US", True),
        ("WindowCenter", ["40", "80"], True),
        ("ImplantAssemblyTemplateIssuer", "x", False),
        ("ClinicalTrialSeriesID", "S-1", False),
    ],
)
def test_text_beyond_the_table_goes_and_closed_vocabularies_stay(
    make_header: MakeHeader, keyword: str, value: object, stays: bool
) -> None:
    header = make_header(PIXELS)
    setattr(header, keyword, value)
    assert (keyword in deidentified(header)) == stays


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_value_that_does_not_fit_its_attribute_goes(make_header: MakeHeader) -> None:
    header = make_header(PIXELS, StudyDate="20200131")
    stream = io.BytesIO()
    header.SeriesNumber = "1"
    header.save_as(stream, enforce_file_format=True)
    data = stream.getvalue().replace(b"20200131", b"Muster^E")
    data = data.replace(b"IS\x02\x001 ", b"IS\x02\x00Er")
    read = pydicom.dcmread(io.BytesIO(data))
    found = deidentified(read)
    assert found["StudyDate"].is_empty
    assert "SeriesNumber" not in found


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("DA", "20240301", "20240229"),
        ("DA", ["20240301", ""], ["20240229", ""]),
        ("DT", "20240301", "20240229"),
        ("DT", "20240301123456.123456-0500", "20240229123456.123456"),
        ("TM", "12", "12"),
        ("TM", "12:34:56", "12:34:56"),
        ("DT", "2024", None),
        ("DA", "20241301", None),
        ("DA", "00010101", None),
        ("DA", "20240101-20240201", None),
        ("TM", "noon", None),
    ],
)
def test_dates_move_and_what_is_none_is_recognised(vr: str, value: object, expected: object) -> None:
    moved = shift_dates(DataElement(0x00080020 if vr == "DA" else 0x0040A120, vr, value), -1)
    assert (moved and moved.value) == expected


def test_all_dates_of_a_patient_move_by_the_same_days(make_header: MakeHeader) -> None:
    class ByPatient(Marks):
        def date_shift_days(self, patient: str) -> int:
            return {"one": -10, "two": -20}[patient]

    dates = [
        deidentify(make_header(PIXELS, PatientID=patient, StudyDate=day), ByPatient()).dataset.StudyDate
        for patient, day in (("one", "20200120"), ("one ", "20200220"), ("two", "20200120"))
    ]
    assert dates == ["20200110", "20200210", "20191231"]


# Files


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_pixels_of_a_written_copy_are_those_of_the_original(
    make_header: MakeHeader, syntax: str, dtype: type[np.generic]
) -> None:
    pixels = (PIXELS % 100).astype(dtype)
    header = make_header(pixels, RescaleSlope="2", RescaleIntercept="-7", SmallestImagePixelValue=3)
    header.VOILUTSequence = [Dataset()]
    header.VOILUTSequence[0].LUTDescriptor = [4, 0, 8]
    header.VOILUTSequence[0].add_new(0x00283006, "US", [0, 1, 2, 3])
    header.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and dtype != np.uint8:
        header.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    original = _written(header)
    read = pydicom.dcmread(io.BytesIO(original))
    copy = pydicom.dcmread(io.BytesIO(_written(deidentified(read))))
    assert copy.PixelData == read.PixelData
    assert copy.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(copy.pixel_array, pixels)
    assert list(copy.VOILUTSequence[0].LUTDescriptor) == [4, 0, 8]
    assert (copy.RescaleSlope, copy.SmallestImagePixelValue) == (2, 3)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_are_copied_without_being_decoded(make_dicom: MakeDicom, syntax: str) -> None:
    read = pydicom.dcmread(io.BytesIO(make_dicom(PIXELS, compress_to=syntax)))
    copy = pydicom.dcmread(io.BytesIO(_written(deidentified(read))))
    assert copy.PixelData == read.PixelData
    np.testing.assert_array_equal(copy.pixel_array, PIXELS)


def test_of_preamble_and_meta_information_nothing_stays_but_how_the_file_is_written(make_header: MakeHeader) -> None:
    header = make_header(PIXELS)
    header.file_meta.SourceApplicationEntityTitle = "WARD7"
    header.file_meta.ImplementationVersionName = "HOSPITAL_7"
    header.file_meta.PrivateInformationCreatorUID = "1.2.3"
    header.file_meta.PrivateInformation = b"ErikaM"
    header.preamble = b"Muster^Erika".ljust(128, b"\0")
    read = pydicom.dcmread(io.BytesIO(_written(header)))
    written = _written(deidentified(read))
    assert written[:128] == bytes(128)
    for secret in (b"WARD7", b"HOSPITAL", b"Erika", header.SOPInstanceUID.encode()):
        assert secret not in written
    copy = pydicom.dcmread(io.BytesIO(written))
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


def test_an_unheard_of_transfer_syntax_or_storage_class_is_refused(make_header: MakeHeader) -> None:
    header = make_header(PIXELS)
    header.file_meta.TransferSyntaxUID = "1.2.276.4711"
    with pytest.raises(ImageError, match="no transfer syntax of the DICOM standard") as caught:
        deidentified(header)
    assert "4711" not in str(caught.value)
    header = make_header(PIXELS, SOPClassUID=None)
    header.file_meta.MediaStorageSOPClassUID = "1.2.276.4711"
    with pytest.raises(ImageError, match="lacks the SOPInstanceUID or a SOPClassUID"):
        deidentified(header)


@pytest.mark.parametrize(
    ("elements", "refused"),
    [
        ({"BurnedInAnnotation": "YES"}, "the header declares text in the pixels"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "a secondary capture does not declare"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, None),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1"}, None),
        ({}, None),
    ],
)
def test_pixels_that_may_name_the_patient_are_refused(
    make_header: MakeHeader, elements: dict[str, str], refused: str | None
) -> None:
    header = make_header(PIXELS, **elements)
    if refused is None:
        check_burned_in(header)
        return
    with pytest.raises(ImageError, match=refused) as caught:
        check_burned_in(header)
    assert caught.value.reason == "burned_in_text"


def test_an_overlay_in_the_unused_bits_is_refused(make_header: MakeHeader) -> None:
    header = make_header(PIXELS)
    header.add_new(0x60000010, "US", 64)
    with pytest.raises(ImageError, match="an overlay lies in the unused bits"):
        check_burned_in(header)
    header.add_new(0x60003000, "OW", bytes(384))
    check_burned_in(header)


def _written(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
