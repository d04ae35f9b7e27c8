import json

import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.sources import read_layout
from tests.sources.published import facts

ENTRIES = {
    "train": [
        {
            "eyenet0420/train_set/mewds-4.jpg": {
                "keywords": "uveitis, multiple evanescent white dot syndrome (mewds), uveitis",
                "clinical-description": " 20 degree field photograph. ",
            }
        },
        {"train_set/drusen-1.jpg": {"keywords": "", "clinical-description": ""}},
    ],
    "valid": [{"eyenet0420/val_set/coats-1.jpg": {"keywords": "coats disease", "clinical-description": "od."}}],
    "test": [{"eyenet0420/test_set/mewds-9.jpg": {"keywords": "mewds", "clinical-description": "os."}}],
}


@pytest.fixture
def write_lists(tmp_path):
    def write(**changes):
        for part, entries in (ENTRIES | changes).items():
            if entries is not None:
                (tmp_path / f"DeepEyeNet_{part}.json").write_text(json.dumps(entries))

    return write


def test_every_field(write_lists, write_image, tmp_path, pseudonymizer):
    write_lists()
    below_top = write_image("eyenet0420/train_set/mewds-4.jpg")
    below_folder = write_image("train_set/drusen-1.jpg")
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert (reading.layout, reading.notes) == ("deepeyenet", [])
    first, bare, valid, test = reading.records
    card = load_card("deepeyenet")
    image_id = f"deepeyenet/{pseudonymizer.of('train_set/mewds-4.jpg')}"
    assert first.model_dump() == {
        "image_id": image_id,
        "patient_id": image_id,
        "modality": "fundus",
        "view": None,
        "laterality": None,
        "sex": None,
        "age": None,
        "age_group": None,
        "path": str(below_top),
        "report": "20 degree field photograph.",
        "report_kind": "written",
        "labels": ("uveitis", "multiple evanescent white dot syndrome (mewds)"),
        "source": "deepeyenet",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": False,
        "attribution": card.attribution,
        "split": "train",
    }
    assert facts(bare, "path", "report", "report_kind", "labels") == (str(below_folder), "", None, ())
    assert facts(valid, "split", "labels") == ("validation", ("coats disease",))
    assert test.split == "test"


def test_an_image_of_two_lists_is_one_record_and_noted(write_lists, tmp_path):
    write_lists(test=ENTRIES["train"][:1])
    reading = read_layout(tmp_path)
    assert [record.split for record in reading.records] == ["train", "train", "validation"]
    assert reading.counts == {"named_twice": 1}


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_missing_list_is_named(part, write_lists, tmp_path):
    write_lists(**{part: None})
    with pytest.raises(ManifestError, match=rf"layout deepeyenet must hold DeepEyeNet_{part}\.json"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "must hold a list of images"),
        ([{}], "entry 1 must be one image with 'keywords' and 'clinical-description'"),
        ([{"jane.jpg": {"keywords": "a"}}], "entry 1 must be one image"),
        ([{"jane.jpg": {"keywords": ["a"], "clinical-description": "a"}}], "entry 1 must be one image"),
        ([{"../jane.jpg": {"keywords": "", "clinical-description": ""}}], "does not lie inside the folder"),
        ([{"eyenet0420//jane.jpg": {"keywords": "", "clinical-description": ""}}], "does not lie inside the folder"),
    ],
)
def test_a_bad_entry_is_refused_without_its_values(entries, message, write_lists, tmp_path):
    write_lists(train=entries)
    with pytest.raises(ManifestError, match=message) as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)


def test_a_list_that_is_not_json(write_lists, tmp_path):
    write_lists()
    (tmp_path / "DeepEyeNet_test.json").write_text("[")
    with pytest.raises(ManifestError, match=r"DeepEyeNet_test\.json: cannot be read as JSON"):
        read_layout(tmp_path)
