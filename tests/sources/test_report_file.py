import zipfile
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from arra_med.errors import ReportError
from arra_med.records.report import report_prompt
from arra_med.sources.report_file import read_report_file

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def item(kind: str, heading: str, **values) -> Dataset:
    made, code = Dataset(), Dataset()
    made.ValueType, code.CodeMeaning = kind, heading
    made.ConceptNameCodeSequence = [code]
    for name, value in values.items():
        setattr(made, name, value)
    return made


def write_sr(path: Path, content: list[Dataset], sop_class: str = BASIC_TEXT_SR) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = sop_class
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.PatientName = "Zzyzx^Quentin"
    made.ContentSequence = content
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def test_a_structured_report_becomes_its_sections_without_its_people(tmp_path: Path):
    normal = Dataset()
    normal.CodeMeaning = "Normal heart size"
    findings = item(
        "CONTAINER",
        "Findings",
        ContentSequence=[
            item("TEXT", "Finding", TextValue="Pleural effusion on the left."),
            item("CODE", "Finding", ConceptCodeSequence=[normal]),
        ],
    )
    content = [
        item("PNAME", "Person Observer Name", PersonName="Zzyzx^Quentin"),
        findings,
        item("CONTAINER", "Impression", ContentSequence=[item("TEXT", "Conclusion", TextValue="Effusion.")]),
    ]
    (text,) = read_report_file(write_sr(tmp_path / "report.dcm", content))
    assert "Zzyzx" not in text
    assert "Pleural effusion on the left." in text
    assert "Normal heart size" in text
    assert report_prompt(text, modality="cxr").text == "chest X-ray image, Effusion."


def test_a_table_gives_the_report_of_every_row_and_a_text_itself(tmp_path: Path):
    (tmp_path / "many.csv").write_text('id,report\n1,Effusion.\n2,"Normal, clear."\n', encoding="utf-8")
    (tmp_path / "one.txt").write_bytes("\ufeffEffusion.".encode())
    assert read_report_file(tmp_path / "many.csv") == ["Effusion.", "Normal, clear."]
    assert read_report_file(tmp_path / "one.txt") == ["Effusion."]


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("report.txt", b"a" * 50_000_000)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.txt", None, "cannot be read"),
        ("large.txt", b"a" * 1_000_001, "larger than 1,000,000 bytes; a report is a page of text"),
        ("large.csv", b"a" * 1_000_001, "larger than 1,000,000 bytes; draw a large table .* --prompts FILE.csv"),
        ("latin.txt", b"\xe4rger", "is not UTF-8 text"),
        ("zeros.txt", b"Effu\0sion", "holds zero bytes"),
        ("report.pdf", b"%PDF-1.7 ...", "is a PDF; save the report as plain UTF-8 text"),
        ("bomb.txt", _zip_bomb, "is a ZIP archive or an office document"),
        ("table.csv", b"id,text\n1,Effusion.\n", "without a row or a column 'report'"),
        ("empty.csv", b"report\n", "without a row or a column"),
        ("blank.csv", b"id,report\n1, \n", "all reports of the table are empty"),
        ("broken.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 40, "DICOM file"),
        ("image.dcm", lambda path: write_sr(path, [], "1.2.840.10008.5.1.4.1.1.1.1"), "but no structured report"),
        ("silent.dcm", lambda path: write_sr(path, []), "structured report without text"),
    ],
)
def test_what_is_no_report_is_one_sentence_without_its_content(tmp_path: Path, name: str, content, sentence: str):
    path = tmp_path / name
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ReportError, match=sentence) as told:
        read_report_file(path, "file 1")
    assert str(told.value).startswith("file 1: ")
    assert "Zzyzx" not in str(told.value)
