"""What a de-identified copy would lose is told by name, and never by value."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.corpus import header_changes as module
from arra_med.corpus.deidentified_copies import write_deidentified_copies
from arra_med.corpus.header_changes import PRIVATE, UNKNOWN, HeaderChanges, header_changes
from arra_med.corpus.inspection import FLAG_WORDS, inspect_file
from arra_med.imaging.reasons import FLAGS
from arra_med.imaging.view import CanonicalView
from arra_med.records.pseudonym import KEY_FILE_VARIABLE, throwaway_pseudonymizer
from tests.imaging.conftest import dicom_header
from tests.planted_identifiers import plant_everywhere

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")

SPEC = CanonicalView(modality="cxr", size_px=32)


def pixels() -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    return (2000 + 1500 * np.sin(rows / 9) * np.cos(columns / 13)).astype(np.uint16)


def write(path: Path, **elements: object) -> Path:
    dicom_header(pixels(), BitsStored=12, **elements).save_as(path, enforce_file_format=True)
    return path


def named(found: HeaderChanges | None) -> dict[str, tuple[str, ...]]:
    assert found is not None
    return {action.action: action.attributes for action in found.actions}


def test_attributes_stand_under_what_happens_to_them(tmp_path: Path) -> None:
    header = dicom_header(pixels(), BitsStored=12, StudyDate="20200102", AccessionNumber="A1", ImageComments="seen")
    header.PatientBirthDate, header.StudyInstanceUID = "19500101", "1.2.3"
    item = dicom_header(np.zeros((1, 1), np.uint8))
    header.ReferencedImageSequence = [item, item]
    header.private_block(0x0019, "MAKER", create=True).add_new(1, "LO", "x")
    header.private_block(0x0021, "MAKER", create=True).add_new(1, "LO", "x")
    header.add_new(0x60003000, "OW", bytes(64))
    header.add_new(0x00091001, "UN", b"x")  # private without a creator
    header.add_new(0x00120099, "LO", "x")
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = header_changes(tmp_path / "a.dcm")
    told = named(found)
    assert list(told) == ["removed", "emptied", "replaced", "UID replaced", "date moved"]
    assert {"Image Comments", "Overlay Data", PRIVATE, UNKNOWN} <= set(told["removed"])
    assert told["removed"].count(PRIVATE) == 1
    assert {"Accession Number", "Patient's Birth Date"} <= set(told["emptied"])
    assert told["date moved"] == ("Study Date",)
    assert "SOP Instance UID in Referenced Image Sequence" in told["UID replaced"]
    assert {"Patient's Name", "Patient ID"} <= set(told["replaced"])
    counts = [len(told[action]) for action in ("removed", "emptied")]
    others = sum(len(names) for names in told.values()) - sum(counts)
    assert found is not None
    assert f"remove {counts[0]} attributes of the header, empty {counts[1]} and replace {others};" in found.sentence


def test_no_value_is_in_it_and_no_key_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    header = dicom_header(pixels(), BitsStored=12)
    traces = plant_everywhere(header)
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    held = (tmp_path / "a.dcm").read_bytes()
    assert sum(trace.encode() in held for trace in traces) > 50
    found = header_changes(tmp_path / "a.dcm")
    assert len(named(found)["removed"]) > 20
    assert not [trace for trace in traces if trace in repr(found)]
    assert not (tmp_path / "key").exists()


def test_it_names_what_the_command_does(tmp_path: Path) -> None:
    """The names are those of the audit that `arra-med deidentify` writes beside its copy."""
    file = write(tmp_path / "a.dcm", InstitutionName="x", StudyDate="20200102")
    write_deidentified_copies(file, tmp_path / "out", throwaway_pseudonymizer(), progress=False)
    audit = (tmp_path / "out" / "audit.jsonl").read_text()
    told = named(header_changes(file))
    assert audit.count('"tag"') == sum(map(len, told.values()))
    assert "(0008,0080)" in audit
    assert "Institution Name" in told["replaced"]


def test_pixels_that_may_hold_text_are_told(tmp_path: Path) -> None:
    found = header_changes(write(tmp_path / "a.dcm", BurnedInAnnotation="YES"))
    assert found is not None
    assert found.pixels_may_hold_text
    assert "--allow-burned-in" in found.sentence
    clean = header_changes(write(tmp_path / "b.dcm"))
    assert clean is not None
    assert "--allow-burned-in" not in clean.sentence


def test_a_header_without_uid_has_no_copy_and_an_inspection_says_why(tmp_path: Path) -> None:
    header = dicom_header(pixels(), BitsStored=12)
    del header.SOPInstanceUID
    header.file_meta.MediaStorageSOPInstanceUID = ""
    header.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    seen = inspect_file(tmp_path / "a.dcm", SPEC)
    assert seen.refusal is None
    assert seen.header is not None
    assert seen.header.actions == ()
    assert "No de-identified copy can be made of it: the header lacks the SOPInstanceUID" in seen.header.sentence


def test_other_files_and_damage_told_already_have_none(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    assert header_changes(tmp_path / "a.png") is None
    (tmp_path / "cut.dcm").write_bytes(write(tmp_path / "b.dcm").read_bytes()[:200])
    seen = inspect_file(tmp_path / "cut.dcm", SPEC)
    assert seen.refusal is not None
    assert seen.header is None


def test_a_refused_file_still_shows_what_its_header_holds(tmp_path: Path) -> None:
    seen = inspect_file(write(tmp_path / "a.dcm", Modality="CT"), SPEC)
    assert seen.refusal is not None
    assert "Patient's Name" in named(seen.header)["replaced"]


def test_every_action_and_flag_has_words() -> None:
    assert set(FLAG_WORDS) == set(FLAGS)
    assert set(module.ACTION_WORDS) == set("XZDUC")
