import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels
from arra_med.sources import read_layout
from tests.sources.published import OBSERVATIONS, facts

DICOM_A, DICOM_B, DICOM_C = (f"{letter * 8}-bdde0afd-112c0b34-7bc16630-4e384014" for letter in "abc")
IMAGES = [
    {"subject_id": "10000001", "study_id": "50000001", "dicom_id": DICOM_A, "ViewPosition": "PA"},
    {"subject_id": "10000001", "study_id": "50000001", "dicom_id": DICOM_B, "ViewPosition": "LL"},
    {"subject_id": "11000002", "study_id": "50000002", "dicom_id": DICOM_C, "ViewPosition": ""},
]
REPORT = "                                 FINAL REPORT\n FINDINGS:  Small left effusion.\n\n IMPRESSION:  Effusion."
LABELS = [
    {"subject_id": "10000001", "study_id": "50000001", "Pleural Effusion": "1.0", "Edema": "-1.0", "Pneumonia": "0.0"},
    {"subject_id": "11000002", "study_id": "50000002", "No Finding": "1.0", "Support Devices": "1.0"},
]
SPLITS = ["train", "train", "test"]


def place(image, suffix):
    subject = image["subject_id"]
    return f"files/p{subject[:2]}/p{subject}/s{image['study_id']}/{image['dicom_id']}.{suffix}"


@pytest.fixture
def write_tables(write_table):
    def write(*, metadata=True, split=True, labels="chexpert"):
        if metadata:
            rows = [{**image, "ViewCodeSequence_CodeMeaning": "antero-posterior"} for image in IMAGES]
            write_table("mimic-cxr-2.0.0-metadata.csv.gz", rows)
        if split:
            ids = ("dicom_id", "study_id", "subject_id")
            rows = [
                {name: image[name] for name in ids} | {"split": part}
                for image, part in zip(IMAGES, SPLITS, strict=True)
            ]
            write_table("mimic-cxr-2.0.0-split.csv.gz", rows)
        if labels:
            write_table(f"mimic-cxr-2.0.0-{labels}.csv.gz", LABELS, ["subject_id", "study_id", *OBSERVATIONS])

    return write


@pytest.fixture
def write_reports(tmp_path):
    def write(top="mimic-cxr-reports/"):
        path = tmp_path / f"{top}files/p10/p10000001/s50000001.txt"
        path.parent.mkdir(parents=True)
        path.write_text(REPORT)

    return write


@pytest.fixture
def write_record_list(write_table):
    def write(**changes):
        ids = ("subject_id", "study_id", "dicom_id")
        rows = [{name: image[name] for name in ids} | {"path": place(image, "dcm")} | changes for image in IMAGES]
        write_table("cxr-record-list.csv.gz", rows)

    return write


@pytest.fixture
def jpg(write_tables, write_reports, write_image):
    write_tables()
    write_reports()
    for image in IMAGES:
        write_image(place(image, "jpg"))


def test_every_field_of_the_jpg_layout(jpg, tmp_path, pseudonymizer):
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert reading.layout == "mimic_cxr_jpg"
    frontal, lateral, other = reading.records
    card = load_card("mimic_cxr")
    assert frontal.model_dump() == {
        "image_id": f"mimic_cxr/{pseudonymizer.of(DICOM_A)}",
        "patient_id": f"mimic_cxr:{pseudonymizer.of('10000001')}",
        "modality": "cxr",
        "view": "PA",
        "laterality": None,
        "sex": None,
        "age": None,
        "age_group": None,
        "path": str(tmp_path / place(IMAGES[0], "jpg")),
        "report": REPORT.strip(),
        "report_kind": "written",
        "labels": ("Pleural Effusion",),
        "source": "mimic_cxr",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": "train",
    }
    assert facts(lateral, "view", "patient_id", "report") == ("lateral", frontal.patient_id, REPORT.strip())
    assert facts(other, "view", "split", "report", "report_kind") == ("AP", "test", "", None)
    assert other.patient_id == f"mimic_cxr:{pseudonymizer.of('11000002')}"
    assert canonical_labels(other) == ("normal",)  # a device is known, but no wording names one
    assert "1000000" not in frontal.model_dump_json(exclude={"path"})


def test_an_image_whose_report_is_not_there_is_noted(jpg, tmp_path, pseudonymizer):
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert reading.counts == {"image_without_report": 1}
    assert reading.notes[0].path == str(tmp_path / place(IMAGES[2], "jpg"))


@pytest.mark.parametrize("top", ["mimic-cxr-reports/", ""])
def test_the_dicom_layout_finds_reports_in_both_places(
    top, tmp_path, write_tables, write_reports, write_record_list, pseudonymizer
):
    write_record_list()
    write_tables()
    write_reports(top)
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert reading.layout == "mimic_cxr"
    assert [record.path for record in reading.records] == [str(tmp_path / place(image, "dcm")) for image in IMAGES]
    assert [record.view for record in reading.records] == ["PA", "lateral", "AP"]
    assert [record.split for record in reading.records] == ["train", "train", "test"]
    assert [record.report for record in reading.records] == [REPORT.strip(), REPORT.strip(), ""]


def test_both_layouts_name_one_image_alike(jpg, tmp_path, write_record_list, pseudonymizer):
    as_jpg = read_layout(tmp_path, layout="mimic_cxr_jpg", pseudonymizer=pseudonymizer).records
    write_record_list()
    as_dicom = read_layout(tmp_path, pseudonymizer=pseudonymizer).records
    assert [record.image_id for record in as_dicom] == [record.image_id for record in as_jpg]


def test_without_the_metadata_the_view_is_the_headers(
    tmp_path, write_tables, write_reports, write_record_list, write_dicom, pseudonymizer
):
    write_record_list()
    write_reports()
    for image, view in zip(IMAGES, ("AP", "LATERAL", "RLO"), strict=True):
        write_dicom(place(image, "dcm"), ViewPosition=view)
    records = read_layout(tmp_path, pseudonymizer=pseudonymizer).records
    assert [record.view for record in records] == ["AP", "lateral", None]
    assert {record.split for record in records} == {None}


def test_without_labels_the_reports_findings_are_the_labels(tmp_path, write_tables, write_reports, pseudonymizer):
    write_tables(labels=None)
    write_reports()
    first, _, other = read_layout(tmp_path, pseudonymizer=pseudonymizer).records
    assert first.labels == ("effusion",)
    assert other.labels == ()


def test_negbios_labels_serve_where_chexperts_are_not_there(tmp_path, write_tables, pseudonymizer):
    write_tables(labels="negbio")
    first, _, other = read_layout(tmp_path, pseudonymizer=pseudonymizer).records
    assert (first.labels, other.labels) == (("Pleural Effusion",), ("No Finding", "Support Devices"))
    assert first.report == ""


@pytest.mark.parametrize(
    ("layout", "tables", "what"),
    [
        ("mimic_cxr", {}, r"must hold cxr-record-list\.csv\.gz"),
        ("mimic_cxr_jpg", {"metadata": False}, r"must hold mimic-cxr-2\.0\.0-metadata\.csv\.gz"),
        ("mimic_cxr_jpg", {"split": False}, r"must hold mimic-cxr-2\.0\.0-split\.csv\.gz"),
        ("mimic_cxr_jpg", {"labels": None}, r"must hold the reports \(mimic-cxr-reports/\) or the labels"),
    ],
)
def test_a_missing_file_is_named(layout, tables, what, tmp_path, write_tables, pseudonymizer):
    write_tables(**tables)
    with pytest.raises(ManifestError, match=f"layout {layout} {what}.*which is not there; add it"):
        read_layout(tmp_path, layout=layout, pseudonymizer=pseudonymizer)


@pytest.mark.parametrize("path", ["../../x.dcm", "/etc/x.dcm", "files/../../x.dcm", "files\\x.dcm", "c:/x.dcm"])
def test_a_path_that_leaves_the_folder_is_refused_without_naming_it(
    path, tmp_path, write_tables, write_record_list, pseudonymizer
):
    write_record_list(path=path)
    write_tables()
    with pytest.raises(ManifestError, match=r"row 1: column 'path': must name a file that lies inside") as error:
        read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert path not in str(error.value)


def test_a_bad_split_or_label_is_refused_without_its_value(tmp_path, write_tables, write_table, pseudonymizer):
    write_tables()
    write_table("mimic-cxr-2.0.0-split.csv.gz", [{"dicom_id": DICOM_A, "split": "Jane"}])
    with pytest.raises(ManifestError, match=r"row 1: column 'split': must be one of train, validate, test;") as error:
        read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert "Jane" not in str(error.value)
    rows = [LABELS[0], LABELS[1] | {"Edema": "Jane"}]
    write_table("mimic-cxr-2.0.0-chexpert.csv.gz", rows, ["subject_id", "study_id", *OBSERVATIONS])
    with pytest.raises(ManifestError, match=r"row 2: column 'Edema': must be one of 1, 1\.0, 0, .*empty;") as error:
        read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert "Jane" not in str(error.value)
