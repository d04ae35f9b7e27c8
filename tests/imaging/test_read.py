"""Reading a file of any kind: by its content, with one of a closed vocabulary of reasons when it fails."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from arra_med.errors import ImageError
from arra_med.imaging import read
from arra_med.imaging.read import REASONS, load_view, read_image
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


@pytest.mark.real_data
def test_real_grayscale_jpegs_keep_the_values_pillow_gives(real_data):
    paths = sorted((real_data / "cxr" / "images").rglob("*.jp*g"))[::1500]
    assert len(paths) >= 4
    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            expected = np.asarray(image.convert("L"), dtype=np.float32) / 255
        np.testing.assert_array_equal(read_image(path, "cxr"), expected)
