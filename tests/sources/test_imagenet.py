import random

import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import prompt_text
from arra_med.sources import read_layout
from tests.sources.published import facts

NAMES = "n01440764 tench, Tinca tinca\nn01496331 electric ray, crampfish\n"


@pytest.fixture
def photographs(write_image):
    write_image("train/n01440764/n01440764_18.JPEG")
    write_image("train/n01496331/n01496331_2.JPEG")


def test_every_field(photographs, tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text(NAMES)
    reading = read_layout(tmp_path)
    assert (reading.layout, reading.notes) == ("imagenet", [])
    tench, ray = reading.records
    card = load_card("imagenet")
    assert tench.model_dump() == {
        "image_id": "imagenet/n01440764_18",
        "patient_id": "imagenet/n01440764_18",
        "modality": "photo",
        "view": None,
        "laterality": None,
        "sex": None,
        "age": None,
        "age_group": None,
        "path": str(tmp_path / "train/n01440764/n01440764_18.JPEG"),
        "report": "a photo of a tench",
        "report_kind": "from_labels",
        "labels": ("tench",),
        "source": "imagenet",
        "licence": card.licence,
        "redistributable": False,
        "patient_known": False,
        "attribution": card.attribution,
        "split": "train",
    }
    assert facts(ray, "report", "labels") == ("a photo of an electric ray", ("electric ray",))


def test_the_prompt_of_a_photograph_is_its_text_in_every_epoch(photographs, tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text(NAMES)
    tench = read_layout(tmp_path).records[0]
    assert {prompt_text(tench, random.Random(seed)) for seed in range(50)} == {"a photo of a tench"}


def test_validation_in_class_folders(photographs, write_image, tmp_path):
    write_image("val/n01496331/ILSVRC2012_val_00000001.JPEG")
    records = read_layout(tmp_path).records
    assert [facts(record, "split", "labels") for record in records] == [
        ("train", ("n01440764",)),
        ("train", ("n01496331",)),
        ("validation", ("n01496331",)),
    ]


def test_the_kaggle_edition_names_the_classes_of_validation_in_a_table(write_image, write_table, tmp_path):
    top = "ILSVRC/Data/CLS-LOC"
    (tmp_path / "LOC_synset_mapping.txt").write_text(NAMES)
    write_image(f"{top}/train/n01440764/n01440764_18.JPEG")
    path = write_image(f"{top}/val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ManifestError, match=r"must hold LOC_val_solution\.csv"):
        read_layout(tmp_path)
    row = {"ImageId": "ILSVRC2012_val_00000001", "PredictionString": "n01496331 85 1 499 272 "}
    write_table("LOC_val_solution.csv", [row])
    record = read_layout(tmp_path).records[1]
    assert facts(record, "path", "split", "labels") == (str(path), "validation", ("electric ray",))
    write_table("LOC_val_solution.csv", [row | {"ImageId": "another"}])
    with pytest.raises(ManifestError, match="lacks an image of val/"):
        read_layout(tmp_path)


def test_folders_without_a_mapping_name_their_class(write_image, tmp_path):
    write_image("golden_retriever/1.png")
    write_image("apple/1.png")
    records = read_layout(tmp_path, layout="imagenet").records
    assert [record.report for record in records] == ["a photo of an apple", "a photo of a golden retriever"]
    assert len({record.image_id for record in records}) == 2
    assert {record.split for record in records} == {None}


def test_no_class_folder(tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text(NAMES)
    with pytest.raises(ManifestError, match="must hold class folders with images, such as train/n01440764/"):
        read_layout(tmp_path)


def test_a_bad_mapping(photographs, tmp_path):
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench\njane")
    with pytest.raises(ManifestError, match="line 2: must be a class and its names") as error:
        read_layout(tmp_path)
    assert "jane" not in str(error.value)


def test_a_link_out_of_the_folder_is_refused(photographs, tmp_path, tmp_path_factory):
    (tmp_path / "train" / "n01440764" / "x.JPEG").symlink_to(tmp_path_factory.mktemp("outside") / "x.JPEG")
    with pytest.raises(ManifestError, match="holds a link that leads out of it"):
        read_layout(tmp_path)
