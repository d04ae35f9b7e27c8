import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels
from arra_med.sources import read_layout
from tests.sources.published import facts

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
ROWS = [
    {
        "": "0",
        "ImageID": "20536686640136348236148679891455886468_k6ga29.png",
        "ImageDir": "0",
        "StudyDate_DICOM": "20140915",
        "StudyID": "20536686640136348236148679891455886468",
        "PatientID": "839860488694292331637988235681460987",
        "PatientBirth": "1930.0",
        "PatientSex_DICOM": "F",
        "ViewPosition_DICOM": "POSTEROANTERIOR",
        "Projection": "PA",
        "Pediatric": "No",
        "Report": "sin hallazg patolog edem pulmon .",
        "Labels": "['pulmonary edema', ' hiatal hernia ', 'nsg tube', 'scoliosis', \"infiltrates\"]",
    },
    {"ImageID": "b.png", "ImageDir": "12", "PatientID": "1", "PatientBirth": "1900", "StudyDate_DICOM": "20140101"},
    {"ImageID": "c.png", "ImageDir": "54", "PatientID": "2", "PatientBirth": "2010", "StudyDate_DICOM": "20140101"},
    {"ImageID": "d.png", "ImageDir": "54", "PatientID": "3", "Projection": "EXCLUDE"},
    {"ImageID": "e.png", "ImageDir": "54", "PatientID": "3", "Projection": "COSTAL"},
]
ROWS[1] |= {"Projection": "L", "Labels": "['normal']"}
ROWS[2] |= {"Projection": "AP_horizontal", "Labels": "nan"}


@pytest.fixture
def write_rows(write_table):
    def write(name=f"{TABLE}.gz", **changes):
        write_table(name, [row | changes for row in ROWS], list(ROWS[0]))

    return write


@pytest.mark.parametrize("name", [TABLE, f"{TABLE}.gz"])
def test_every_field(name, write_rows, tmp_path, pseudonymizer):
    write_rows(name)
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert reading.layout == "padchest"
    first, lateral, lying = reading.records
    card = load_card("padchest")
    assert first.model_dump() == {
        "image_id": f"padchest/{pseudonymizer.of(ROWS[0]['ImageID'])}",
        "patient_id": f"padchest:{pseudonymizer.of(ROWS[0]['PatientID'])}",
        "modality": "cxr",
        "view": "PA",
        "laterality": None,
        "sex": "F",
        "age": 84,
        "age_group": "adult",
        "path": str(tmp_path / "0" / ROWS[0]["ImageID"]),
        "report": "",  # Spanish
        "report_kind": None,
        "labels": ("pulmonary edema", "hiatal hernia", "nsg tube", "scoliosis", "infiltrates"),
        "source": "padchest",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": None,
    }
    assert canonical_labels(first) == ("edema", "hernia", "scoliosis", "infiltration")
    assert facts(lateral, "view", "age", "labels", "sex") == ("lateral", 90, ("normal",), None)
    assert facts(lying, "view", "age", "age_group", "labels") == ("AP", 4, "child", ())


def test_rib_and_excluded_projections_are_noted(write_rows, tmp_path):
    write_rows()
    reading = read_layout(tmp_path)
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("excluded", str(tmp_path / "54" / "d.png")),
        ("excluded", str(tmp_path / "54" / "e.png")),
    ]


def test_images_in_one_folder_are_found_there(write_rows, tmp_path):
    (tmp_path / "images-224").mkdir()
    write_rows()
    assert read_layout(tmp_path).records[1].path == str(tmp_path / "images-224" / "b.png")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ManifestError, match=rf"layout padchest must hold {TABLE}\.gz"):
        read_layout(tmp_path, layout="padchest")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Labels": "jane"}, r"row 1: column 'Labels': must be a list such as \['cardiomegaly'"),
        ({"ImageID": "../jane.png"}, "row 1: column 'ImageID': must name a file that lies inside"),
        ({"ImageDir": "../.."}, "row 1: column 'ImageID': must name a file that lies inside"),
        ({"PatientID": ""}, "row 1: column 'PatientID': must not be empty"),
    ],
)
def test_a_bad_row_is_refused_without_its_values(changes, message, write_rows, tmp_path):
    write_rows(**changes)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)
