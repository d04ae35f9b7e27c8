import sys

import openpyxl
import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels
from arra_med.sources import read_layout
from tests.sources.published import facts

DISEASES = list("NDGCAHMO")
PATIENTS = [
    {
        "ID": "0",
        "Patient Age": "69",
        "Patient Sex": "Female",
        "Left-Fundus": "0_left.jpg",
        "Right-Fundus": "0_right.jpg",
        "Left-Diagnostic Keywords": "cataract",
        "Right-Diagnostic Keywords": "normal fundus\uff0clens dust",
    },
    {
        "ID": "7",
        "Patient Age": "95",
        "Patient Sex": "Male",
        "Left-Fundus": "7_left.jpg",
        "Right-Fundus": "7_right.jpg",
        "Left-Diagnostic Keywords": "no fundus image",
        "Right-Diagnostic Keywords": "drusen,glaucoma",
    },
]
WORKBOOK = "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"


@pytest.fixture
def images(write_image):
    return lambda folder: [
        write_image(f"{folder}/{each[f'{eye}-Fundus']}") for each in PATIENTS for eye in ("Left", "Right")
    ]


@pytest.fixture
def write_full_df(write_table):
    """The mirrors' table: a row for each usable image."""

    def write(**changes):
        rows = [
            each | dict.fromkeys(DISEASES, "0") | {"filename": each[f"{eye}-Fundus"]} | changes
            for each, eyes in zip(PATIENTS, (("Right", "Left"), ("Right",)), strict=True)
            for eye in eyes
        ]
        write_table("full_df.csv", rows)

    return write


@pytest.fixture
def write_workbook(tmp_path):
    def write(columns=tuple(PATIENTS[0])):
        book = openpyxl.Workbook()
        book.active.append([*columns, *DISEASES])
        for each in PATIENTS:
            book.active.append([int(each[name]) if each[name].isdigit() else each[name] for name in columns] + [0] * 8)
        book.save(tmp_path / WORKBOOK)

    return write


def test_every_field(write_full_df, images, tmp_path):
    right_path = images("preprocessed_images")[1]
    write_full_df()
    reading = read_layout(tmp_path)
    assert (reading.layout, reading.notes) == ("odir5k", [])
    right, left, old = reading.records
    card = load_card("odir5k")
    assert right.model_dump() == {
        "image_id": "odir5k/0_right",
        "patient_id": "odir5k:0",
        "modality": "fundus",
        "view": None,
        "laterality": "R",
        "sex": "F",
        "age": 69,
        "age_group": "adult",
        "path": str(right_path),
        "report": "Normal fundus, lens dust.",
        "report_kind": "keywords",
        "labels": ("normal fundus", "lens dust"),
        "source": "odir5k",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": True,
        "attribution": card.attribution,
        "split": None,
    }
    assert canonical_labels(right) == ("normal", "lens dust")
    assert facts(left, "image_id", "laterality", "labels") == ("odir5k/0_left", "L", ("cataract",))
    assert facts(old, "patient_id", "age", "sex", "labels") == ("odir5k:7", 90, "M", ("drusen", "glaucoma"))


@pytest.mark.parametrize("folder", ["ODIR-5K_Training_Dataset", "ODIR-5K/Training Images"])
def test_the_workbook_gives_both_eyes_and_notes_a_picture_without_fundus(folder, write_workbook, images, tmp_path):
    paths = images(folder)
    write_workbook()
    reading = read_layout(tmp_path)
    assert [record.path for record in reading.records] == [str(paths[index]) for index in (0, 1, 3)]
    assert [record.laterality for record in reading.records] == ["L", "R", "R"]
    assert facts(reading.records[0], "patient_id", "age", "sex") == ("odir5k:0", 69, "F")
    assert [(note.kind, note.path) for note in reading.notes] == [("excluded", str(paths[2]))]


def test_the_workbook_and_the_table_tell_the_same(write_workbook, write_full_df, images, tmp_path):
    images("Training Images")
    write_workbook()
    of_workbook = {record.image_id: record for record in read_layout(tmp_path).records}
    write_full_df()
    for record in read_layout(tmp_path).records:
        assert record == of_workbook[record.image_id]


def test_without_openpyxl_the_sentence_says_what_to_install(write_workbook, images, tmp_path, monkeypatch):
    images("Training Images")
    write_workbook()
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ManifestError, match=r"needs openpyxl: run pip install 'arra-med\[xlsx\]', or use full_df\.csv"):
        read_layout(tmp_path)


def test_a_workbook_without_a_column_or_damaged(write_workbook, images, tmp_path):
    images("Training Images")
    write_workbook([name for name in PATIENTS[0] if name != "Patient Age"])
    with pytest.raises(ManifestError, match="column 'Patient Age' is missing"):
        read_layout(tmp_path)
    (tmp_path / WORKBOOK).write_bytes(b"PK\x03\x04 no workbook")
    with pytest.raises(ManifestError, match="cannot be read as an Excel table"):
        read_layout(tmp_path)


def test_a_missing_part_is_named(write_full_df, tmp_path, images):
    write_full_df()
    with pytest.raises(ManifestError, match="layout odir5k must hold the images"):
        read_layout(tmp_path)
    images("preprocessed_images")
    (tmp_path / "full_df.csv").unlink()
    with pytest.raises(ManifestError, match=r"must hold full_df\.csv or ODIR-5K_Training_Annotations\*\.xlsx"):
        read_layout(tmp_path, layout="odir5k")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ID": ""}, "row 1: column 'ID': must not be empty"),
        (
            {"Left-Fundus": "../jane.jpg", "filename": "../jane.jpg"},
            "row 1: column 'Left-Fundus': must name a file that lies",
        ),
    ],
)
def test_a_bad_row_is_refused_without_its_values(changes, message, write_full_df, images, tmp_path):
    images("preprocessed_images")
    write_full_df(**changes)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)
