import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.wording import canonical_labels, wording_bank
from arra_med.sources import read_layout
from tests.sources.published import facts

ROWS = [
    {"Image Index": "00000001_000.png", "Finding Labels": "Cardiomegaly|Pleural_Thickening", "Patient ID": "1"},
    {"Image Index": "00000001_001.png", "Finding Labels": "No Finding", "Patient ID": "1"},
    {"Image Index": "00000002_000.png", "Finding Labels": "Hernia", "Patient ID": "2"},
]
PEOPLE = [("58", "M", "PA"), ("091Y", "M", "AP"), ("414", "F", "")]
FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]


@pytest.fixture
def write_entries(write_table):
    def write(name="Data_Entry_2017.csv", sex="Patient Gender", **changes):
        rows = [
            {
                **row,
                "Patient Age": age,
                sex: gender,
                "View Position": view,
                **changes,
                "OriginalImage[Width": "",
                "": "",
            }
            for row, (age, gender, view) in zip(ROWS, PEOPLE, strict=True)
        ]
        write_table(name, rows)

    return write


@pytest.fixture
def images(write_image):
    for folder, row in zip(("images_001", "images_001", "images_012"), ROWS, strict=True):
        write_image(f"{folder}/images/{row['Image Index']}")


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (tmp_path / "test_list.txt").write_text("00000002_000.png")


def test_every_field(write_entries, images, lists, tmp_path, pseudonymizer):
    write_entries()
    reading = read_layout(tmp_path, pseudonymizer=pseudonymizer)
    assert (reading.layout, reading.notes) == ("nih_cxr14", [])
    first, old, hernia = reading.records
    card = load_card("nih_cxr14")
    assert first.model_dump() == {
        "image_id": "nih_cxr14/00000001_000",
        "patient_id": "nih_cxr14:1",
        "modality": "cxr",
        "view": "PA",
        "laterality": None,
        "sex": "M",
        "age": 58,
        "age_group": "adult",
        "path": str(tmp_path / "images_001/images/00000001_000.png"),
        "report": "",
        "report_kind": None,
        "labels": ("Cardiomegaly", "Pleural_Thickening"),
        "source": "nih_cxr14",
        "licence": card.licence,
        "redistributable": True,
        "patient_known": True,
        "attribution": card.attribution,
        "split": first.split,
    }
    assert facts(old, "view", "age", "labels") == ("AP", 90, ("No Finding",))
    assert facts(hernia, "view", "age", "age_group", "sex", "split") == (None, None, None, "F", "test")
    assert hernia.path.endswith("images_012/images/00000002_000.png")


def test_images_of_one_training_patient_share_a_part_that_is_not_the_test(write_entries, images, lists, tmp_path):
    write_entries()
    first, second, _ = read_layout(tmp_path).records
    assert first.split == second.split
    assert first.split in ("train", "validation")


def test_a_tenth_of_the_training_patients_validates(write_table, write_image, tmp_path):
    names = [f"{patient:08}_000.png" for patient in range(1000)]
    columns = {"Finding Labels": "Mass", "Patient Age": "5", "Patient Sex": "F", "View Position": "PA"}
    write_table("Data_Entry_2017_v2020.csv", [{"Image Index": n, "Patient ID": n[:8], **columns} for n in names])
    write_image(f"images/{names[0]}")
    (tmp_path / "train_val_list.txt").write_text("\n".join(names))
    (tmp_path / "test_list.txt").write_text("")
    splits = [record.split for record in read_layout(tmp_path).records]
    assert set(splits) == {"train", "validation"}
    assert 70 <= splits.count("validation") <= 130  # 100 expected, with a standard deviation of 9.5


def test_without_the_lists_no_split_is_given(write_entries, images, tmp_path):
    write_entries("Data_Entry_2017_v2020.csv", sex="Patient Sex")
    assert {record.split for record in read_layout(tmp_path).records} == {None}


def test_a_missing_file_is_named(write_entries, images, tmp_path):
    with pytest.raises(ManifestError, match=r"layout nih_cxr14 must hold Data_Entry_2017_v2020\.csv"):
        read_layout(tmp_path, layout="nih_cxr14")
    write_entries()
    (tmp_path / "test_list.txt").write_text("")
    with pytest.raises(ManifestError, match=r"must hold train_val_list\.txt"):
        read_layout(tmp_path)


def test_no_image_folder(write_entries, tmp_path):
    write_entries()
    with pytest.raises(ManifestError, match="must hold images/ or images_001/images/"):
        read_layout(tmp_path)


def test_a_missing_column_is_named(write_table, images, tmp_path):
    write_table("Data_Entry_2017.csv", ROWS)
    with pytest.raises(
        ManifestError, match="column 'Patient Age', 'View Position', 'Patient Gender' or 'Patient Sex' is missing"
    ):
        read_layout(tmp_path)


def test_a_name_that_leaves_the_folder_is_refused(write_entries, images, tmp_path):
    write_entries(**{"Image Index": "../../x.png"})
    with pytest.raises(
        ManifestError, match=r"row 1: column 'Image Index': must name a file that lies inside the folder"
    ):
        read_layout(tmp_path)


def test_a_link_out_of_the_folder_is_refused(write_entries, tmp_path, write_image, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write_entries()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000001_000.png").symlink_to(outside / "secret.png")
    with pytest.raises(ManifestError, match=r"row 1: column 'Image Index'.*also behind links") as error:
        read_layout(tmp_path)
    assert "secret" not in str(error.value)


def test_each_of_the_fourteen_findings_is_in_the_bank(write_entries, images, tmp_path):
    write_entries(**{"Finding Labels": "|".join(FINDINGS)})
    findings = canonical_labels(read_layout(tmp_path).records[0])
    assert len(findings) == 14
    assert set(findings) <= set(wording_bank("cxr").findings)
