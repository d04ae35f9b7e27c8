"""Reading a file of any kind: by its content, with one of a closed vocabulary of reasons when it fails."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from arra_med.errors import ImageError
from arra_med.imaging import read
from arra_med.imaging.quality import QualityThresholds
from arra_med.imaging.read import FLAGS, REASONS, load_view, read_image, read_stages, read_study_view
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView, canonical_view, to_uint8


def _refused(path, modality="cxr") -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, modality)
    assert caught.value.reason in REASONS
    assert str(path) not in str(caught.value)
    return caught.value


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.arange(3072, dtype=np.uint16).astype(np.uint8).reshape(48, 64)).save(path)
    return path


def test_content_decides_not_the_name(tmp_path, png, make_dicom, quadrants):
    (tmp_path / "a.dcm").write_bytes(png.read_bytes())
    (tmp_path / "b.jpg").write_bytes(make_dicom(quadrants))
    assert read_image(tmp_path / "a.dcm", "cxr").shape == (48, 64)
    assert read_image(tmp_path / "b.jpg", "cxr").shape == (64, 48)


def test_shapes_of_the_modalities(png):
    assert read_image(png, "cxr").shape == (48, 64)
    assert read_image(str(png), "fundus").shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (b"", "empty", "the file has no content"),
        (b"PatientID,Report\n1,normal\n", "not_an_image", "neither DICOM, PNG nor JPEG"),
        (b"GIF89a" + b"\0" * 200, "not_an_image", "neither DICOM, PNG nor JPEG"),
        (b"\0" * 500, "not_an_image", "neither DICOM, PNG nor JPEG"),
        (b"\x89PNG\r\n\x1a\n", "truncated", "the file ends before its image does"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "truncated", "the file ends before its image does"),
        (b"\0" * 128 + b"DICM", "no_pixels", "holds no image"),
    ],
)
def test_files_that_are_no_image(tmp_path, content, reason, message):
    (tmp_path / "file").write_bytes(content)
    error = _refused(tmp_path / "file")
    assert error.reason == reason
    assert message in str(error)


def test_missing_files_and_folders(tmp_path):
    assert _refused(tmp_path / "none.png").reason == "missing"
    assert _refused(tmp_path).reason == "not_an_image"
    assert _refused("a\0b").reason == "missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_missing(png):
    png.chmod(0)
    assert _refused(png).reason == "missing"


def test_a_huge_file_is_not_read(png, monkeypatch):
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 100)
    error = _refused(png)
    assert error.reason == "too_large"
    assert "at most 100 are read" in str(error)


def test_an_image_of_one_value_is_blank(tmp_path, make_dicom):
    Image.new("L", (40, 40), 128).save(tmp_path / "gray.png")
    (tmp_path / "flat.dcm").write_bytes(make_dicom(np.full((40, 40), 700, dtype=np.uint16), BitsStored=12))
    assert _refused(tmp_path / "gray.png").reason == "blank"
    assert _refused(tmp_path / "gray.png", "fundus").reason == "blank"
    assert _refused(tmp_path / "flat.dcm").reason == "blank"


def test_a_view_of_one_value_is_blank(tmp_path):
    pixels = np.zeros((20, 200), dtype=np.uint8)
    pixels[:, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "side.png")
    with pytest.raises(ImageError, match="central square has the same value") as caught:
        load_view(tmp_path / "side.png", CanonicalView(modality="cxr", size_px=16))
    assert caught.value.reason == "blank"


def test_load_view_is_the_canonical_view_of_what_is_read(png):
    for modality, num_channels in (("cxr", 1), ("fundus", 3)):
        spec = CanonicalView(modality=modality, size_px=32)
        view = load_view(png, spec)
        assert view.dtype == np.uint8
        assert view.shape == (num_channels, 32, 32)
        np.testing.assert_array_equal(view, to_uint8(canonical_view(read_image(png, modality), spec)))


def test_an_xray_keeps_its_sides_whatever_the_file_type(tmp_path, make_dicom, quadrants):
    eight_bits = (quadrants // 16).astype(np.uint8)
    Image.fromarray(eight_bits).save(tmp_path / "a.png")
    Image.fromarray(eight_bits).save(tmp_path / "a.jpg", quality=95)
    whole_range = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
    (tmp_path / "a.dcm").write_bytes(make_dicom(quadrants, **whole_range))
    spec = CanonicalView(modality="cxr", size_px=48)
    for name in ("a.png", "a.jpg", "a.dcm"):
        view = load_view(tmp_path / name, spec)[0].astype(int)
        corners = [view[4, 4], view[4, -4], view[-4, 4], view[-4, -4]]
        np.testing.assert_allclose(corners, [0, 62, 156, 255], atol=3)


def test_a_study_view_says_what_had_to_be_decided(tmp_path, png, make_dicom, quadrants):
    spec = CanonicalView(modality="cxr", size_px=32)
    orientation = {"PatientOrientation": ["R", "F"], "WindowCenter": [2048, 100], "WindowWidth": [4096, 200]}
    (tmp_path / "a.dcm").write_bytes(make_dicom(quadrants, BitsStored=12, **orientation))
    study = read_study_view(tmp_path / "a.dcm", spec)
    assert study.flags == ("several_windows", "orientation_suggests_mirror")
    assert set(study.flags) <= set(FLAGS)
    np.testing.assert_array_equal(study.view, load_view(tmp_path / "a.dcm", spec))
    assert read_study_view(png, spec).flags == ()


def test_an_image_is_mirrored_only_if_the_rules_say_so(tmp_path, make_dicom, quadrants):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    (tmp_path / "a.dcm").write_bytes(make_dicom(quadrants, BitsStored=12, PatientOrientation=["R", "F"], **window))
    plain = read_image(tmp_path / "a.dcm", "cxr")
    np.testing.assert_allclose(plain, quadrants / 4095, atol=1e-6)
    mirrored = read_image(tmp_path / "a.dcm", "cxr", ReadingRules(correct_orientation=True))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_the_rules_reach_the_decoder(tmp_path, make_dicom, quadrants):
    spec = CanonicalView(modality="cxr", size_px=32)
    path = tmp_path / "a.dcm"
    path.write_bytes(make_dicom(quadrants, BitsStored=12, BurnedInAnnotation="YES"))
    assert _refused(path).reason == "burned_in_text"
    allowed = ReadingRules(allow_burned_in=True)
    assert read_image(path, "cxr", allowed).shape == (64, 48)
    assert load_view(path, spec, allowed).shape == (1, 32, 32)
    assert "burned_in_declared" in read_study_view(path, spec, allowed).flags
    assert "burned_in_declared" in read_stages(path, spec, allowed).flags


def test_stages_go_from_stored_values_to_the_view(tmp_path, png, make_dicom, quadrants):
    spec = CanonicalView(modality="cxr", size_px=32)
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2048, "WindowWidth": 4096}
    (tmp_path / "a.dcm").write_bytes(make_dicom(quadrants + 1000, BitsStored=16, **inverse))
    stages = read_stages(tmp_path / "a.dcm", spec)
    np.testing.assert_allclose(stages.raw, quadrants / 4095, atol=1e-6)
    np.testing.assert_array_equal(stages.displayed, read_image(tmp_path / "a.dcm", "cxr"))
    assert stages.displayed[0, 0] > stages.displayed[-1, -1]
    np.testing.assert_array_equal(stages.view, load_view(tmp_path / "a.dcm", spec))
    photograph = read_stages(png, spec)
    np.testing.assert_array_equal(photograph.raw, photograph.displayed)


def test_quality_refuses_study_views_and_neither_pixels_nor_stages(tmp_path):
    spec = CanonicalView(modality="cxr", size_px=32)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 400)).astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="far from square: its score is 10, at most 3") as caught:
        read_study_view(tmp_path / "a.png", spec)
    assert caught.value.reason == "extreme_aspect"
    assert load_view(tmp_path / "a.png", spec).shape == (1, 32, 32)
    assert read_image(tmp_path / "a.png", "cxr").shape == (40, 400)
    assert read_stages(tmp_path / "a.png", spec).scores["extreme_aspect"] == 10
    lenient = ReadingRules(quality=QualityThresholds(extreme_aspect=10))
    assert read_study_view(tmp_path / "a.png", spec, lenient).scores["extreme_aspect"] == 10


def test_text_that_is_allowed_is_no_fault():
    assert ReadingRules(allow_burned_in=True).accepted_quality.burned_in_text is None
    assert ReadingRules().accepted_quality == QualityThresholds()


def test_stages_of_a_colour_file_show_its_stored_colours(tmp_path, make_dicom):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "Modality": "OP"}
    (tmp_path / "a.dcm").write_bytes(make_dicom(pixels, **kind))
    stages = read_stages(tmp_path / "a.dcm", CanonicalView(modality="fundus", size_px=32))
    np.testing.assert_allclose(stages.raw, pixels / 255, atol=1e-6)


@pytest.mark.real_data
def test_real_grayscale_jpegs_keep_the_values_pillow_gives(real_data):
    paths = sorted((real_data / "cxr" / "images").rglob("*.jp*g"))[::1500]
    assert len(paths) >= 4
    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            expected = np.asarray(image.convert("L"), dtype=np.float32) / 255
        np.testing.assert_array_equal(read_image(path, "cxr"), expected)
