import warnings

import pydicom
import pytest
from pydicom.data import get_testdata_file

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.sources.dicom_folder import read_dicom_folder
from arra_med.sources.folder import visible_files

PSEUDONYMS = Pseudonymizer(bytes(32))


@pytest.fixture
def write_dicom(tmp_path):
    def write(name, **header):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.Modality = "DX"
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name)

    return write


def read(folder):
    return read_dicom_folder(folder, visible_files(folder), PSEUDONYMS)


def test_header_facts_become_a_record(write_dicom, tmp_path):
    write_dicom(
        "a.dcm", PatientID="Jane-1", PatientSex="F", PatientAge="008M", ViewPosition="AP", SOPInstanceUID="1.2.3"
    )
    (tmp_path / "a.txt").write_text("Effusion.")
    ((record,), others) = read(tmp_path)
    assert record.image_id == f"local_dicom/{PSEUDONYMS.of('1.2.3')}"
    assert record.patient_id == f"local_dicom:{PSEUDONYMS.of('Jane-1')}"
    assert (record.modality, record.view, record.sex, record.age_group) == ("cxr", "AP", "F", "child")
    assert record.age == pytest.approx(8 / 12)
    assert (record.report, record.report_kind, record.patient_known) == ("Effusion.", "written", True)
    assert not record.redistributable
    assert [path.name for path in others] == ["a.txt"]


def test_no_header_text_leaves_the_folder(write_dicom, tmp_path):
    write_dicom(
        "a.dcm", PatientID="Jane-1", PatientName="Doe^Jane", InstitutionName="St. Secret", ViewPosition="SECRET"
    )
    told = read(tmp_path)[0][0].model_dump_json(exclude={"path"})
    assert not any(word in told for word in ("Jane", "Doe", "Secret", "SECRET"))


@pytest.mark.parametrize(
    ("position", "view"), [("PA", "PA"), ("AP", "AP"), ("LL", "lateral"), ("RL", "lateral"), ("RLO", None), ("", None)]
)
def test_views(write_dicom, tmp_path, position, view):
    write_dicom("a.dcm", ViewPosition=position)
    assert read(tmp_path)[0][0].view == view


def test_an_age_of_ninety_or_more_is_one_group(write_dicom, tmp_path):
    write_dicom("a.dcm", PatientAge="104Y")
    assert read(tmp_path)[0][0].age == 90


def test_ophthalmic_photographs_are_fundus(write_dicom, tmp_path):
    write_dicom("a.dcm", Modality="OP", ImageLaterality="L")
    record = read(tmp_path)[0][0]
    assert (record.modality, record.laterality, record.view) == ("fundus", "L", None)


def test_copies_of_one_instance_stay_apart_and_share_the_patient(write_dicom, tmp_path):
    write_dicom("a.dcm", PatientID="1")
    write_dicom("b.dcm", PatientID="1")
    records, _ = read(tmp_path)
    assert len({record.image_id for record in records}) == 2
    assert len({record.patient_id for record in records}) == 1


def test_files_without_a_patient_are_their_own(write_dicom, tmp_path):
    write_dicom("a.dcm", PatientID="", SOPInstanceUID="1.1")
    write_dicom("b.dcm", PatientID="", SOPInstanceUID="1.2")
    records, _ = read(tmp_path)
    assert all(record.patient_id == record.image_id and not record.patient_known for record in records)


def test_broken_files_become_records_for_quarantine(write_dicom, tmp_path):
    write_dicom("good")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "noise.dcm").write_bytes(b"\x00\x01 not dicom" * 40)
    (tmp_path / "bare").write_bytes(b"no preamble")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    records, others = read(tmp_path)
    assert {record.path.rsplit("/", 1)[1] for record in records} == {"good", "empty.dcm", "noise.dcm", "bare"}
    assert [path.name for path in others] == ["DICOMDIR"]


def test_pydicoms_warnings_about_values_are_not_let_out(write_dicom, tmp_path, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dicom("a.dcm", PatientID="x" * 100, PatientAge="secret", SpecificCharacterSet="ISO-IR secret")
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(tmp_path)
    assert not caught
    assert not caplog.records


@pytest.mark.real_data
def test_the_shared_dicom_files_are_all_found(real_data):
    files = [path for path in visible_files(real_data / "dicom") if path.name != "files.csv"]
    records, _ = read_dicom_folder(real_data / "dicom", files, PSEUDONYMS)
    assert len(records) == len(files) == len({record.image_id for record in records})
