import pytest

from arra_med.errors import ManifestError
from arra_med.sources import read_layout
from tests.sources.published import facts

ACCESSIONS = {"a.dcm": "ACC1", "b.dcm": "ACC1", "c.dcm": "ACC2", "d.dcm": "ACC3"}


@pytest.fixture
def archive(write_dicom):
    """Two images of one study, and two studies of two other patients."""
    for number, (name, accession) in enumerate(ACCESSIONS.items()):
        write_dicom(
            name,
            AccessionNumber=accession,
            StudyInstanceUID=f"1.2.{accession[-1]}",
            SOPInstanceUID=f"1.2.3.{number}",
            PatientID=f"P{accession[-1]}",
            PatientAge="095Y",
            PatientSex="M",
            ViewPosition="PA",
        )


def reports_of(reading):
    return {record.path.rpartition("/")[2]: record.report for record in reading.records}


def notes_of(reading, folder):
    return {(note.kind, note.path.removeprefix(f"{folder}/")) for note in reading.notes}


def test_every_field(archive, write_table, tmp_path, pseudonymizer):
    write_table("reports.csv", [{"accession": "ACC1", "report": "IMPRESSION: Pneumothorax."}])
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert reading.layout == "dicom_reports"
    record = reading.records[0]
    assert record.model_dump() == {
        "image_id": f"local_dicom/{pseudonymizer.of('1.2.3.0')}",
        "patient_id": f"local_dicom:{pseudonymizer.of('P1')}",
        "modality": "cxr",
        "view": "PA",
        "laterality": None,
        "sex": "M",
        "age": 90,
        "age_group": "adult",
        "path": str(tmp_path / "a.dcm"),
        "report": "IMPRESSION: Pneumothorax.",
        "report_kind": "written",
        "labels": ("pneumothorax",),
        "source": "local_dicom",
        "licence": record.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": "",
        "split": None,
    }
    assert facts(reading.records[2], "report", "report_kind", "labels") == ("", None, ())


def test_a_table_joins_by_study_uid_and_accession_number(archive, write_table, tmp_path):
    rows = [
        {"study_uid": "", "accession": "ACC1", "report": "One."},
        {"study_uid": "1.2.2", "accession": "ACC3", "report": "Two."},
        {"study_uid": "1.2.99", "accession": "", "report": "Nobody's."},
    ]
    write_table("reports.csv", rows)
    reading = read_layout(tmp_path)
    assert reports_of(reading) == {"a.dcm": "One.", "b.dcm": "One.", "c.dcm": "Two.", "d.dcm": ""}
    assert notes_of(reading, tmp_path) == {
        ("image_without_report", "d.dcm"),
        ("report_without_image", "reports.csv row 3"),
    }
    assert reading.counts == {"image_without_report": 1, "report_without_image": 1}


def test_text_files_join_by_their_name(archive, tmp_path):
    (tmp_path / "reports").mkdir()
    for name, text in (
        ("reports/ACC1", "One."),
        ("reports/1.2.2", "Two."),
        ("d", "Three."),
        ("reports/d", "Nobody's."),
    ):
        (tmp_path / f"{name}.txt").write_text(text)
    reading = read_layout(tmp_path)
    assert reading.layout == "dicom_reports"
    assert reports_of(reading) == {"a.dcm": "One.", "b.dcm": "One.", "c.dcm": "Two.", "d.dcm": "Three."}
    assert notes_of(reading, tmp_path) == {("report_without_image", "reports/d.txt")}


def test_an_addendum_is_joined_to_its_report(archive, write_table, tmp_path):
    write_table("reports.csv", [{"accession": "ACC2", "report": text} for text in ("Report.", "Addendum.")])
    assert reports_of(read_layout(tmp_path))["c.dcm"] == "Report.\n\nAddendum."


@pytest.mark.parametrize("patient", ["P9", ""])
def test_an_accession_number_of_two_patients_gives_its_report_to_none(
    patient, archive, write_dicom, write_table, tmp_path
):
    write_dicom("e.dcm", AccessionNumber="ACC2", PatientID=patient, StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.3.9")
    write_table("reports.csv", [{"accession": "ACC2", "report": "Whose?"}])
    reading = read_layout(tmp_path)
    assert set(reports_of(reading).values()) == {""}
    assert ("shared_by_patients", "reports.csv row 1") in notes_of(reading, tmp_path)
    assert reading.counts == {"image_without_report": 5, "shared_by_patients": 1}


def test_images_without_an_accession_number_share_no_report(write_dicom, write_table, tmp_path):
    write_dicom("a.dcm", AccessionNumber="", StudyInstanceUID="1.2.1")
    write_table("reports.csv", [{"accession": "", "report": "Nobody's."}])
    reading = read_layout(tmp_path)
    assert reports_of(reading) == {"a.dcm": ""}
    assert reading.counts == {"image_without_report": 1, "report_without_image": 1}


def test_a_missing_part_is_named(archive, tmp_path, write_table, tmp_path_factory):
    with pytest.raises(ManifestError, match=r"layout dicom_reports must hold the reports \(reports\.csv"):
        read_layout(tmp_path, layout="dicom_reports")
    with pytest.raises(ManifestError, match="must hold DICOM files"):
        read_layout(tmp_path_factory.mktemp("empty"), layout="dicom_reports")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"patient": "jane", "report": "x"}], "column 'study_uid' or 'accession' is missing"),
        ([{"accession": "jane", "report": ""}], "row 1: column 'report': must not be empty"),
    ],
)
def test_a_bad_table_is_refused_without_its_values(rows, message, archive, write_table, tmp_path):
    write_table("reports.csv", rows)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)
