"""From a published layout to a study set."""

import pytest

from arra_med.corpus.ingest import ingest
from arra_med.corpus.study_set import StudySet
from arra_med.imaging.view import CanonicalView

VIEW = CanonicalView(modality="cxr", size_px=32)


@pytest.fixture
def ingested(tmp_path):
    def run(modality="cxr"):
        spec = VIEW.model_copy(update={"modality": modality})
        report = ingest(tmp_path, tmp_path / "out", spec, workers=0, progress=False, duplicate_distance=None)
        return report, sorted(StudySet.open(tmp_path / "out").records(), key=lambda record: record.view or "")

    return run


def test_mimic_cxr_with_dicom_images(write_table, write_dicom, tmp_path, ingested):
    rows = []
    for number, view in enumerate(("PA", "LL", "AP")):
        study = f"files/p10/p10000001/s5000000{number}"
        row = {"subject_id": "10000001", "study_id": f"5000000{number}", "dicom_id": f"abc-{number}"}
        rows.append(row | {"path": f"{study}/abc-{number}.dcm"})
        if view != "AP":
            write_dicom(f"{study}/abc-{number}.dcm", ViewPosition=view)
        text = tmp_path / f"mimic-cxr-reports/{study}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("IMPRESSION: Pneumothorax.")
    write_table("cxr-record-list.csv.gz", rows)
    report, records = ingested()
    assert (report.written, report.reasons) == (2, {"missing": 1})
    assert [record.view for record in records] == ["PA", "lateral"]
    assert {record.report for record in records} == {"IMPRESSION: Pneumothorax."}
    assert {record.labels for record in records} == {("pneumothorax",)}
    assert len({record.patient_id for record in records}) == 1
    assert not any("10000001" in record.model_dump_json() or "abc-" in record.model_dump_json() for record in records)


def test_chestxray14_with_png_images(write_table, write_image, tmp_path, ingested):
    columns = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
    rows = [("00000001_000.png", "Mass", "1", "58", "M", "PA"), ("00000002_000.png", "No Finding", "2", "8", "F", "AP")]
    write_table("Data_Entry_2017_v2020.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    for row in rows:
        write_image(f"images/{row[0]}")
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png")
    (tmp_path / "test_list.txt").write_text("00000002_000.png")
    report, (child, adult) = ingested()
    assert (report.written, report.quarantined) == (2, 0)
    assert (child.view, child.age_group, child.labels, child.split) == ("AP", "child", ("No Finding",), "test")
    assert (adult.view, adult.age_group, adult.labels) == ("PA", "adult", ("Mass",))
    assert adult.split in ("train", "validation")


def test_imagenet_class_folders(write_image, ingested):
    write_image("train/n01440764/n01440764_18.JPEG", size=(40, 48, 3))
    report, (record,) = ingested("photo")
    assert (report.written, record.report) == (1, "a photo of a n01440764")
