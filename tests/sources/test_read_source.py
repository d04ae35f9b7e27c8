import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from arra_med.errors import ManifestError
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.sources import read_source

PSEUDONYMS = Pseudonymizer(bytes(32))
ROWS = "image_id,path,patient_id,modality,source\na,a.png,p,cxr,ours\n"


def read(path, **options):
    return read_source(path, pseudonymizer=PSEUDONYMS, **options)


def test_a_manifest_and_a_folder_with_one_are_the_same(tmp_path):
    (tmp_path / "studies.csv").write_text(ROWS)
    (tmp_path / "stray.png").write_bytes(b"")
    assert [record.image_id for record in read(tmp_path)] == ["a"]
    assert read(tmp_path) == read(tmp_path / "studies.csv")


def test_a_mixed_folder_gives_both_kinds_in_a_fixed_order(tmp_path):
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "b.dcm")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("Effusion.")
    records = read(tmp_path)
    assert [record.source for record in records] == ["local_dicom", "local_images"]
    assert records == read(tmp_path)


def test_the_users_own_key_is_used_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(tmp_path / "key"))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    assert read_source(folder) == read_source(folder)
    assert read_source(folder)[0].image_id != read(folder)[0].image_id


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(ManifestError, match="there is no such file or folder"):
        read(tmp_path / "none")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.md").write_text("none")
    with pytest.raises(ManifestError, match=r"holds no studies\.csv, no DICOM file and no PNG or JPEG image"):
        read(tmp_path)


def test_a_file_that_is_no_manifest(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ManifestError, match="a manifest must end with"):
        read(tmp_path / "a.png")
