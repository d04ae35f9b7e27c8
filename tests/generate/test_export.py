import dataclasses
import errno
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from arra_med.errors import GenerationError
from arra_med.generate import export
from arra_med.generate.export import read_provenance, save_images
from arra_med.generate.marks import Marks
from arra_med.generate.session import DIGITAL_SOURCE_TYPE, GenerationRequest, GenerationResult, ReportToImage
from arra_med.models.bundle import ModelBundle

UNMARKED = Marks(visible=False, watermark=False)
REPORT = "Distinctive wording of an effusion."
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


@pytest.fixture(scope="module")
def result(bundle: ModelBundle) -> GenerationResult:
    return ReportToImage(bundle).generate(GenerationRequest(report=REPORT, modality="cxr", num_images=2, seed=7))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_come_back_bit_for_bit_under_the_name_of_their_seed(result: GenerationResult, tmp_path: Path):
    written = save_images(result, tmp_path / "new" / "folder", marks=UNMARKED)
    assert [path.name for path in written] == [
        "arra-med_cxr_seed0007.png",
        "arra-med_cxr_seed0007.json",
        "arra-med_cxr_seed0008.png",
        "arra-med_cxr_seed0008.json",
    ]
    for index, path in enumerate(written[::2]):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), result.images[index])


def test_metadata_says_synthetic_and_what_made_the_image(result: GenerationResult, tmp_path: Path):
    picture, beside = save_images(result, tmp_path)[:2]
    text = Image.open(picture).text
    assert "Research use only, not for clinical use" in text["Disclaimer"]
    assert text["Title"] == "Synthetic chest X-ray image"
    provenance = json.loads(text["arra-med"])
    assert (provenance["seed"], provenance["bundle"]["sha256"]) == (7, "ab" * 32)
    assert read_provenance(picture) == provenance
    assert json.loads(beside.read_text()) == {"file": picture.name, **provenance}


def test_the_xmp_packet_holds_the_iptc_digital_source_type(result: GenerationResult, tmp_path: Path):
    packet = Image.open(save_images(result, tmp_path)[0]).text["XML:com.adobe.xmp"]
    description = next(e for e in ElementTree.fromstring(packet).iter() if e.tag.endswith("}Description"))
    assert description.get(f"{IPTC}DigitalSourceType") == DIGITAL_SOURCE_TYPE
    assert DIGITAL_SOURCE_TYPE.endswith("/trainedAlgorithmicMedia")


def test_report_text_is_written_only_on_request(result: GenerationResult, tmp_path: Path):
    for path in save_images(result, tmp_path / "default"):
        assert b"Distinctive" not in path.read_bytes()
    picture, beside = save_images(result, tmp_path / "asked", include_report=True)[:2]
    assert b"Distinctive" not in picture.read_bytes()
    assert json.loads(beside.read_text())["report"] == REPORT


def test_the_same_image_is_written_anew_and_another_one_gets_a_number(result: GenerationResult, tmp_path: Path):
    save_images(result, tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    save_images(result, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == first

    other = dataclasses.replace(result, provenance={**result.provenance, "rules": {"top_k": 4}})
    assert save_images(other, tmp_path)[0].name == "arra-med_cxr_seed0007_2.png"
    assert save_images(other, tmp_path)[2].name == "arra-med_cxr_seed0008_2.png"
    assert {name: (tmp_path / name).read_bytes() for name in first} == first
    assert len(names(tmp_path)) == 8


def test_a_foreign_file_of_that_name_is_left_alone(result: GenerationResult, tmp_path: Path):
    (tmp_path / "arra-med_cxr_seed0007.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    (tmp_path / "arra-med_cxr_seed0008.json").write_text("{}")
    written = save_images(result, tmp_path)
    assert [path.name for path in written[::2]] == ["arra-med_cxr_seed0007_2.png", "arra-med_cxr_seed0008_2.png"]
    assert (tmp_path / "arra-med_cxr_seed0008.json").read_text() == "{}"


def test_an_interrupted_pair_is_completed(result: GenerationResult, tmp_path: Path):
    written = save_images(result, tmp_path)
    written[1].unlink()
    assert save_images(result, tmp_path) == written
    assert written[1].exists()


def test_marks_are_drawn_unless_left_out_and_the_record_tells_of_them(result: GenerationResult, tmp_path: Path):
    marked = json.loads(save_images(result, tmp_path)[1].read_text())
    plain_picture, plain = save_images(result, tmp_path, marks=UNMARKED)[:2]
    assert plain_picture.name == "arra-med_cxr_seed0007_2.png"
    assert marked["marks"]["visible"]
    assert not any(json.loads(plain.read_text())["marks"].values())
    assert marked["pixels_sha256"] != json.loads(plain.read_text())["pixels_sha256"]


def test_a_full_disk_leaves_whole_files_only_and_one_sentence(
    result: GenerationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_json = export.write_json

    def fail_at_the_second(path: Path, value: dict, mode: int) -> None:
        if value["seed"] == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(path, value, mode)

    monkeypatch.setattr(export, "write_json", fail_at_the_second)
    with pytest.raises(
        GenerationError, match=r"cannot be written there \(No space left on device\); 1 of 2 are complete"
    ):
        save_images(result, tmp_path)
    assert not [name for name in names(tmp_path) if name.endswith(".partial")]


def test_a_file_in_place_of_the_folder_and_an_unknown_format_are_refused(result: GenerationResult, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GenerationError, match="an image cannot be written there"):
        save_images(result, tmp_path / "file")
    with pytest.raises(GenerationError, match="image format 'tiff' is unknown: use png, dicom or png,dicom"):
        save_images(result, tmp_path, format="png,tiff")
    assert names(tmp_path) == ["file"]


def test_dicom_alone_and_beside_png(result: GenerationResult, tmp_path: Path):
    written = save_images(result, tmp_path / "both", format="dicom, PNG")
    assert [path.suffix for path in written] == [".png", ".dcm", ".json", ".png", ".dcm", ".json"]
    told = json.loads(written[2].read_text())
    assert (told["file"], told["dicom_file"]) == ("arra-med_cxr_seed0007.png", "arra-med_cxr_seed0007.dcm")
    np.testing.assert_array_equal(pydicom.dcmread(written[1]).pixel_array, np.asarray(Image.open(written[0])))

    alone = save_images(result, tmp_path / "alone", format="dicom")
    assert names(tmp_path / "alone") == sorted(path.name for path in alone)
    assert "file" not in json.loads(alone[1].read_text())
    assert save_images(result, tmp_path / "alone", format="dicom") == alone
    (tmp_path / "alone" / "arra-med_cxr_seed0007.json").unlink()
    assert save_images(result, tmp_path / "alone", format="dicom")[0].name == "arra-med_cxr_seed0007_2.dcm"
