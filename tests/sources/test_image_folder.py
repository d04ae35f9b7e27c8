import numpy as np
import pytest
from PIL import Image

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.sources.folder import report_beside, visible_files
from arra_med.sources.image_folder import read_image_folder

PSEUDONYMS = Pseudonymizer(bytes(32))


def read(folder, modality=None):
    return read_image_folder(folder, visible_files(folder), PSEUDONYMS, modality)


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


def gray(shape=(40, 50)):
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def orange():
    return np.broadcast_to(np.array([200, 90, 30], np.uint8), (40, 50, 3)).copy()


def test_images_become_records_with_keyed_ids(tmp_path):
    save(tmp_path / "ward" / "Jane.png", gray())
    (tmp_path / "ward" / "Jane.txt").write_text("PA view. Effusion.\n")
    (record,) = read(tmp_path)
    assert record.image_id == record.patient_id == f"local_images/{PSEUDONYMS.of('ward/Jane.png')}"
    assert (record.report, record.report_kind) == ("PA view. Effusion.", "written")
    assert (record.patient_known, record.redistributable, record.source) == (False, False, "local_images")
    assert "Jane" not in record.model_dump_json(exclude={"path"})


def test_ids_do_not_hang_on_where_the_folder_stands(tmp_path):
    for place in ("here", "there"):
        save(tmp_path / place / "a.png", gray())
    assert read(tmp_path / "here")[0].image_id == read(tmp_path / "there")[0].image_id


@pytest.mark.parametrize(
    ("name", "pixels", "modality"),
    [
        ("gray.png", gray(), "cxr"),
        ("gray16.png", gray().astype(np.uint16) * 200, "cxr"),
        ("gray_as_rgb.png", np.repeat(gray()[..., None], 3, axis=-1), "cxr"),
        ("gray_as_rgb.jpg", np.repeat(gray()[..., None], 3, axis=-1), "cxr"),
        ("fundus.jpg", orange(), "fundus"),
        ("fundus.png", orange(), "fundus"),
    ],
)
def test_colour_tells_the_modality(tmp_path, name, pixels, modality):
    save(tmp_path / name, pixels)
    assert read(tmp_path)[0].modality == modality


def test_a_given_modality_wins(tmp_path):
    save(tmp_path / "a.png", gray())
    assert read(tmp_path, "fundus")[0].modality == "fundus"


def test_broken_images_become_records_for_quarantine_and_other_files_do_not(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "truncated.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "scan.tiff").write_bytes(b"II*\x00")
    (tmp_path / "notes.csv").write_text("a")
    (tmp_path / ".DS_Store").write_text("a")
    assert len(read(tmp_path)) == 3


def test_links_are_not_followed(tmp_path):
    save(tmp_path / "real" / "a.png", gray())
    (tmp_path / "real" / "link.png").symlink_to(tmp_path / "real" / "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert len(visible_files(tmp_path)) == 1


def test_reports_in_latin_1_are_read(tmp_path):
    (tmp_path / "a.txt").write_bytes("Épanchement".encode("latin-1"))
    assert report_beside(tmp_path / "a.png") == "Épanchement"
    assert report_beside(tmp_path / "b.png") == ""


@pytest.mark.real_data
@pytest.mark.parametrize("modality", ["cxr", "fundus"])
def test_real_images_tell_their_modality(real_data, modality):
    folder = real_data / modality / "images"
    files = [path for source in sorted(folder.iterdir()) for path in sorted(source.iterdir())[:10]]
    assert {record.modality for record in read_image_folder(folder, files, PSEUDONYMS)} == {modality}
