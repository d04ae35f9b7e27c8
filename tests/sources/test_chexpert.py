import json

import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels
from arra_med.sources import read_layout
from tests.sources.published import OBSERVATIONS, facts

COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS]
TRAIN = [
    {
        "Path": "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg",
        "Sex": "Female",
        "Age": "68",
        "Frontal/Lateral": "Frontal",
        "AP/PA": "AP",
        "Pleural Effusion": "1.0",
        "Edema": "-1.0",
        "Fracture": "0.0",
        "Support Devices": "1.0",
    },
    {
        "Path": "CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg",
        "Sex": "Unknown",
        "Age": "0",
        "Frontal/Lateral": "Lateral",
    },
]
VALID = [
    {
        "Path": "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg",
        "Sex": "Male",
        "Age": "90",
        "Frontal/Lateral": "Frontal",
        "AP/PA": "PA",
        "No Finding": "1.0",
    }
]
PLUS = [
    {
        "path_to_image": "train/patient42142/study5/view1_frontal.jpg",
        "path_to_dcm": "train/patient42142/study5/view1_frontal.dcm",
        "frontal_lateral": "Frontal",
        "ap_pa": "PA",
        "deid_patient_id": "patient42142",
        "report": "NARRATIVE: a film. IMPRESSION: Pneumothorax.",
        "section_findings": "A large pneumothorax.",
        "section_impression": "Pneumothorax.",
        "age": "62.0",
        "sex": "Male",
        "split": "train",
    },
    {
        "path_to_image": "valid/patient64541/study1/view1_frontal.jpg",
        "path_to_dcm": "valid/patient64541/study1/view1_frontal.dcm",
        "frontal_lateral": "Lateral",
        "deid_patient_id": "patient64541",
        "report": "Cardiomegaly.",
        "age": "95.0",
        "sex": "Female",
        "split": "valid",
    },
]


@pytest.fixture
def write_tables(write_table):
    def write(*names, **changes):
        for name, rows in (("train.csv", TRAIN), ("valid.csv", VALID)):
            if name in (names or ("train.csv", "valid.csv")):
                write_table(name, [row | changes for row in rows], COLUMNS)

    return write


@pytest.fixture
def write_plus(write_table):
    def write(**changes):
        write_table("df_chexpert_plus_240401.csv", [row | changes for row in PLUS], [*PLUS[0], "race"])

    return write


def test_every_field(write_tables, tmp_path, pseudonymizer):
    write_tables()
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert (reading.layout, reading.notes) == ("chexpert", [])
    frontal, lateral, valid = reading.records
    place, card = "train/patient00001/study1/view1_frontal.jpg", load_card("chexpert")
    assert frontal.model_dump() == {
        "image_id": f"chexpert/{pseudonymizer.of(place)}",
        "patient_id": f"chexpert:{pseudonymizer.of('patient00001')}",
        "modality": "cxr",
        "view": "AP",
        "laterality": None,
        "sex": "F",
        "age": 68,
        "age_group": "adult",
        "path": str(tmp_path / place),
        "report": "",
        "report_kind": None,
        "labels": ("Pleural Effusion", "Support Devices"),
        "source": "chexpert",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": "train",
    }
    assert canonical_labels(frontal) == ("effusion",)
    assert facts(lateral, "view", "sex", "age", "age_group", "labels") == ("lateral", None, None, None, ())
    assert lateral.patient_id == frontal.patient_id
    assert facts(valid, "view", "sex", "age", "labels", "split") == ("PA", "M", 90, ("No Finding",), "validation")


@pytest.mark.parametrize(("there", "missing"), [("train.csv", "valid.csv"), ("valid.csv", "train.csv")])
def test_half_of_the_tables_is_no_folder_of_images(there, missing, write_tables, write_image, tmp_path):
    write_image("train/a.jpg")
    write_tables(there)
    with pytest.raises(ManifestError, match=f"layout chexpert must hold {missing}"):
        read_layout(tmp_path)


def test_another_data_sets_train_table_is_not_chexperts(write_table, write_image, tmp_path):
    write_image("a.png")
    write_table("train.csv", [{"file": "a.png", "class": "1"}])
    assert read_layout(tmp_path).layout == "files"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Path": "CheXpert-v1.0/../../x/patient1/a.jpg"}, "row 1: column 'Path': must name a file that lies inside"),
        ({"Path": "train/jane/a.jpg"}, "row 1: column 'Path': must name the patient's folder"),
        ({"Path": ""}, "row 1: column 'Path': must not be empty"),
        ({"Frontal/Lateral": "jane"}, "row 1: column 'Frontal/Lateral': must be one of Frontal, Lateral, empty"),
        ({"Pneumonia": "jane"}, "row 1: column 'Pneumonia': must be one of 1"),
    ],
)
def test_a_bad_row_is_refused_without_its_values(changes, message, write_tables, tmp_path):
    write_tables(**changes)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)


def test_every_field_of_chexpert_plus(write_plus, write_image, tmp_path, pseudonymizer):
    write_plus()
    (tmp_path / "labels").mkdir()
    told = [{"path_to_image": row["path_to_image"]} | dict.fromkeys(OBSERVATIONS) for row in PLUS]
    told[0] |= {"Pneumothorax": 1.0, "Edema": -1.0}
    (tmp_path / "labels" / "impression_fixed.json").write_text("".join(f"{json.dumps(each)}\n" for each in told))
    png = write_image("PNG/train/patient42142/study5/view1_frontal.png")
    dicom = tmp_path / "DICOM" / PLUS[1]["path_to_dcm"]
    dicom.parent.mkdir(parents=True)
    dicom.write_bytes(b"")
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert (reading.layout, reading.notes) == ("chexpert_plus", [])
    first, second = reading.records
    card = load_card("chexpert_plus")
    assert first.model_dump() == {
        "image_id": f"chexpert_plus/{pseudonymizer.of(PLUS[0]['path_to_image'])}",
        "patient_id": f"chexpert_plus:{pseudonymizer.of('patient42142')}",
        "modality": "cxr",
        "view": "PA",
        "laterality": None,
        "sex": "M",
        "age": 62,
        "age_group": "adult",
        "path": str(png),
        "report": "FINDINGS: A large pneumothorax.\nIMPRESSION: Pneumothorax.",
        "report_kind": "written",
        "labels": ("Pneumothorax",),
        "source": "chexpert_plus",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": "train",
    }
    assert facts(second, "view", "age", "path", "split") == ("lateral", 90, str(dicom), "validation")
    assert facts(second, "report", "labels") == ("Cardiomegaly.", ())


def test_without_the_labels_of_chexpert_plus_the_reports_speak(write_plus, tmp_path):
    write_plus()
    first, second = read_layout(tmp_path).records
    assert (first.labels, second.labels) == (("pneumothorax",), ("cardiomegaly",))
    assert first.path == str(tmp_path / "PNG/train/patient42142/study5/view1_frontal.png")


def test_labels_of_chexpert_plus_that_are_not_json_lines(write_plus, tmp_path):
    write_plus()
    (tmp_path / "impression_fixed.json").write_text('{"path_to_image": "jane"}\n')
    with pytest.raises(ManifestError, match="is not the published table of labels") as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)


def test_a_missing_plus_table_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"must hold df_chexpert_plus_240401\.csv"):
        read_layout(tmp_path, layout="chexpert_plus")


@pytest.mark.parametrize("column", ["path_to_image", "path_to_dcm"])
def test_a_plus_path_that_leaves_the_folder_is_refused(column, write_plus, tmp_path):
    write_plus(**{column: "../../patient1/x.jpg"})
    with pytest.raises(ManifestError, match=f"row 1: column '{column}': must name a file that lies inside"):
        read_layout(tmp_path)
