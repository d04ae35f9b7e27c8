import subprocess
import sys

import pytest

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.sources import LAYOUTS, read_layout

MARKS = {
    "mimic_cxr": "cxr-record-list.csv.gz",
    "mimic_cxr_jpg": "mimic-cxr-2.0.0-split.csv.gz",
    "openi": "NLMCXR_png/a.png",
    "nih_cxr14": "Data_Entry_2017.csv",
    "chexpert": "train.csv",
    "chexpert_plus": "df_chexpert_plus_240401.csv",
    "padchest": "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "deepeyenet": "DeepEyeNet_valid.json",
    "odir5k": "ODIR-5K_Training_Annotations(Updated)_V2.xlsx",
    "imagenet": "LOC_synset_mapping.txt",
    "dicom_reports": "reports.csv",
}
HEADERS = {"train.csv": "Path,Sex,Age,Frontal/Lateral,AP/PA\n", "reports.csv": "accession,report\n"}


@pytest.mark.parametrize(("layout", "mark"), MARKS.items())
def test_a_layout_is_known_by_one_of_its_files_and_half_of_it_is_named(layout, mark, tmp_path):
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).write_text(HEADERS.get(mark, ""))
    with pytest.raises(ManifestError, match=f"a folder of layout {layout} must hold|is missing; use the table"):
        read_layout(tmp_path)


def test_every_layout_is_tried():
    assert set(MARKS) | {"manifest", "files"} == set(LAYOUTS)


@pytest.mark.parametrize("layout", [*MARKS, "manifest", "files"])
def test_an_empty_folder_is_of_no_layout(layout, tmp_path):
    with pytest.raises(ManifestError, match="must hold|holds no studies"):
        read_layout(tmp_path, layout=layout)


@pytest.mark.parametrize("layout", [each for each in MARKS if each != "dicom_reports"])
def test_every_published_source_has_a_card(layout):
    assert load_card("mimic_cxr" if layout == "mimic_cxr_jpg" else layout).title


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "Data_Entry_2017.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "images").mkdir()
    with pytest.raises(ManifestError, match="cannot be read as a CSV table"):
        read_layout(tmp_path)


def test_a_layout_named_for_a_file(tmp_path):
    (tmp_path / "studies.csv").write_text("")
    with pytest.raises(ManifestError, match="is a file, but layout openi is a folder's; give the folder"):
        read_layout(tmp_path / "studies.csv", layout="openi")


def test_a_named_layout_wins_over_a_manifest(tmp_path, write_image):
    (tmp_path / "studies.csv").write_text("image_id,path,patient_id,modality,source\na,a.png,p,cxr,ours\n")
    write_image("a.png")
    assert read_layout(tmp_path).layout == "manifest"
    (record,) = read_layout(tmp_path, layout="files").records
    assert record.source == "local_images"


def test_a_report_that_belongs_to_no_file_is_noted(tmp_path, write_image):
    write_image("a.png")
    (tmp_path / "a.txt").write_text("Effusion.")
    (tmp_path / "b.txt").write_text("Effusion.")
    reading = read_layout(tmp_path)
    assert (reading.layout, [record.labels for record in reading.records]) == ("files", [("effusion",)])
    assert [(note.kind, note.path) for note in reading.notes] == [("report_without_image", str(tmp_path / "b.txt"))]


def test_naming_the_layouts_loads_no_decoder():
    code = "import sys; import arra_med.sources; sys.exit(any(name in sys.modules for name in ('pydicom', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
