"""Copies of folders: names, lists, resuming, quarantine and keys."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from arra_med.corpus import deidentified_copies
from arra_med.corpus.deidentified_copies import CopyReport, write_deidentified_copies
from arra_med.errors import ConfigError, DeidentificationError
from arra_med.records.pseudonym import Pseudonymizer
from tests.imaging.conftest import dicom_header

PSEUDONYMS = Pseudonymizer(bytes(range(32)))


def write_file(path: Path, number: int, **elements: Any) -> Path:
    pixels = np.random.default_rng(number).integers(0, 4096, (16, 12), dtype=np.uint16)
    told = {"SOPInstanceUID": f"1.2.{number}", "PatientID": "4711", "StudyDate": "20200131", **elements}
    path.parent.mkdir(parents=True, exist_ok=True)
    header = dicom_header(pixels, **told)
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for number in range(3):
        write_file(folder / "muster_erika" / f"{number}.dcm", number)
    write_file(folder / "secondary.dcm", 3, SOPClassUID=SecondaryCaptureImageStorage)
    (folder / "letter.pdf").write_bytes(b"%PDF-1.7")
    return folder


def run(source: Path, out: Path, **settings: Any) -> CopyReport:
    return write_deidentified_copies(source, out, PSEUDONYMS, **{"progress": False, **settings})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_has_a_copy_or_a_reason(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = run(archive, out)
    assert report == CopyReport(3, 2, 0, {"burned_in_text": 1, "not_an_image": 1})
    copies = {path.stem for path in out.glob("*.dcm")}
    assert copies == {PSEUDONYMS.of(f"1.2.{number}") for number in range(3)}
    assert {Path(row["path"]).name: row["reason"] for row in lines(out / "quarantine.jsonl")} == {
        "letter.pdf": "not_an_image",
        "secondary.dcm": "burned_in_text",
    }
    assert {row["image_id"] for row in lines(out / "audit.jsonl")} == copies
    description = json.loads((out / "deidentified.json").read_text())
    assert (description["key_id"], [method["code"] for method in description["methods"]]) == (
        PSEUDONYMS.key_id,
        ["113100", "113107"],
    )
    assert {path.name for path in out.iterdir() if path.stat().st_mode & 0o777 == 0o600} == {
        "paths.jsonl",
        "quarantine.jsonl",
    }


def test_pixels_are_byte_identical_and_dates_move_by_the_patients_shift(archive: Path, tmp_path: Path) -> None:
    run(archive, tmp_path / "out")
    days = PSEUDONYMS.date_shift_days("4711")
    expected = (np.datetime64("2020-01-31") + days).astype(str).replace("-", "")
    for row in lines(tmp_path / "out" / "paths.jsonl"):
        original = pydicom.dcmread(row["path"])
        copy = pydicom.dcmread(tmp_path / "out" / f"{row['image_id']}.dcm")
        assert copy.PixelData == original.PixelData
        assert (copy.StudyDate, copy.PatientID) == (expected, PSEUDONYMS.of("4711"))


def test_a_second_run_keeps_what_has_not_changed(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(archive, out)
    before = contents(out)
    assert run(archive, out).kept == 3
    assert contents(out) == before
    write_file(archive / "muster_erika" / "1.dcm", 1, PatientID="another patient")
    (out / f"{PSEUDONYMS.of('1.2.2')}.dcm").unlink()
    assert run(archive, out).kept == 1
    changed = pydicom.dcmread(out / f"{PSEUDONYMS.of('1.2.1')}.dcm")
    assert changed.PatientID == PSEUDONYMS.of("another patient")


def test_a_stopped_run_goes_on_and_ends_at_the_same_lists(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(archive, tmp_path / "whole")
    deidentify = deidentified_copies.deidentify

    def stopped(header: pydicom.Dataset, pseudonyms: Pseudonymizer) -> Any:
        if header.SOPInstanceUID == "1.2.2":
            raise KeyboardInterrupt
        return deidentify(header, pseudonyms)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(deidentified_copies, "deidentify", stopped)
        run(archive, tmp_path / "out")
    assert (tmp_path / "out" / "paths.jsonl").stat().st_mode & 0o777 == 0o600
    with (tmp_path / "out" / "paths.jsonl").open("a") as stream:
        stream.write('{"image_id": "half a li')
    assert run(archive, tmp_path / "out").kept == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_text_in_the_pixels_is_allowed_only_on_request_and_the_copy_goes_without_it(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(archive, out, allow_burned_in=True).written == 4
    copy = out / f"{PSEUDONYMS.of('1.2.3')}.dcm"
    assert copy.exists()
    assert run(archive, out).reasons["burned_in_text"] == 1
    assert not copy.exists()
    assert PSEUDONYMS.of("1.2.3") not in (out / "audit.jsonl").read_text()


def test_two_files_of_one_uid_have_two_copies(archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive / "muster_erika" / "0.dcm", archive / "again.dcm")
    assert run(archive, tmp_path / "out").written == 4
    assert run(archive, tmp_path / "out").kept == 4
    names = {PSEUDONYMS.of("1.2.0"), PSEUDONYMS.of("1.2.0 muster_erika/0.dcm")}
    assert names <= {path.stem for path in (tmp_path / "out").glob("*.dcm")}


def test_a_single_file_can_be_named_and_copies_of_others_stay(archive: Path, tmp_path: Path) -> None:
    run(archive / "muster_erika" / "0.dcm", tmp_path / "out")
    run(archive / "muster_erika" / "1.dcm", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 2
    assert len(lines(tmp_path / "out" / "audit.jsonl")) == 2


def test_copies_of_two_keys_are_not_mixed(archive: Path, tmp_path: Path) -> None:
    run(archive, tmp_path / "out")
    with pytest.raises(ConfigError, match="was made with another pseudonym key"):
        write_deidentified_copies(archive, tmp_path / "out", Pseudonymizer(bytes(32)), progress=False)


def test_damaged_lists_are_named(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(archive, out)
    (out / "audit.jsonl").write_text("{\n")
    with pytest.raises(DeidentificationError, match=r"audit.jsonl: is damaged; remove it and start again"):
        run(archive, out)
    (out / "deidentified.json").write_text("[]")
    with pytest.raises(DeidentificationError, match="is damaged or of another version; choose another --out"):
        run(archive, out)


def test_wrong_folders_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(DeidentificationError, match="there is no such file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DeidentificationError, match="must not lie inside the folder that is copied"):
        run(archive, archive / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeidentificationError, match="holds no file"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DeidentificationError, match=r"no file could be copied \(1 in quarantine\)"):
        run(archive / "letter.pdf", tmp_path / "out")


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_real_files_are_copied_with_their_pixels_or_quarantined(tmp_path: Path, real_data: Path) -> None:
    report = run(real_data / "dicom", tmp_path / "out", allow_burned_in=True)
    files = [path for path in (real_data / "dicom").rglob("*") if path.is_file()]
    assert report.written + report.quarantined == len(files)
    assert report.written >= 65
    for row in lines(tmp_path / "out" / "paths.jsonl"):
        original = pydicom.dcmread(row["path"], force=True).PixelData
        copy = pydicom.dcmread(tmp_path / "out" / f"{row['image_id']}.dcm").PixelData
        assert copy == original + bytes(len(original) % 2)  # a value of odd length, which is not valid, is padded
