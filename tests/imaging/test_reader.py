"""The MONAI reader: rows first, never another reader's pixels for a file that is refused."""

import numpy as np
import pytest
from monai.transforms import Compose, LoadImage, LoadImaged
from pydicom.uid import CTImageStorage

from arra_med.errors import ImageError
from arra_med.imaging.read import load_view, read_image
from arra_med.imaging.reader import DicomXrayReader, file_transforms
from arra_med.imaging.view import CanonicalView, to_uint8

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:monai")


@pytest.fixture
def film(tmp_path, make_dicom, quadrants):
    path = tmp_path / "film.dcm"
    path.write_bytes(make_dicom(quadrants, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    return path


def test_load_imaged_gives_the_projects_pixels_rows_first(film):
    load = LoadImaged(keys="image", reader=DicomXrayReader("cxr"), ensure_channel_first=True)
    image = load({"image": str(film)})["image"]
    assert tuple(image.shape) == (1, 64, 48)
    np.testing.assert_array_equal(np.asarray(image)[0], read_image(film, "cxr"))


def test_colour_gets_its_channels_first(film):
    image = LoadImage(reader=DicomXrayReader, ensure_channel_first=True, modality="cxr")(str(film))
    assert tuple(image.shape) == (1, 64, 48)


def test_fundus_pixels_have_three_channels_first(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = LoadImage(reader=DicomXrayReader("fundus"), ensure_channel_first=True)(tmp_path / "a.png")
    np.testing.assert_allclose(np.asarray(image), pixels.transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_refused_file_is_not_handed_to_monais_other_readers(tmp_path, make_dicom, quadrants):
    path = tmp_path / "slice.dcm"
    path.write_bytes(make_dicom(quadrants, SOPClassUID=CTImageStorage, Modality="CT"))
    with pytest.raises(ImageError, match="found CT Image Storage"):
        LoadImage(reader=DicomXrayReader("cxr"))(path)
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadImaged(keys="image", reader=DicomXrayReader("cxr"))])({"image": path})
    assert isinstance(caught.value.__cause__, ImageError)


def test_the_metadata_holds_no_header_value(film):
    _, meta = DicomXrayReader("cxr").get_data(DicomXrayReader("cxr").read(film))
    assert set(meta) == {"spatial_shape", "original_channel_dim", "space", "affine"}
    assert meta["spatial_shape"].tolist() == [64, 48]


def test_several_paths_are_refused():
    with pytest.raises(ValueError, match="reads one file into one image, found 2 paths"):
        DicomXrayReader("cxr").get_data(DicomXrayReader("cxr").read(["a", "b"]))


@pytest.mark.parametrize("modality", ["cxr", "fundus"])
def test_the_pipeline_from_a_path_equals_load_view(tmp_path, modality):
    from PIL import Image

    y, x = np.mgrid[0:60, 0:90]
    disc = ((x - 50) ** 2 + (y - 30) ** 2 < 28**2)[..., None] * (100 + np.dstack([x, y, x + y]) // 2)
    Image.fromarray(disc.astype(np.uint8)).save(tmp_path / "a.png")
    spec = CanonicalView(modality=modality, size_px=32)
    view = np.asarray(file_transforms(spec)({"image": tmp_path / "a.png"})["image"])
    np.testing.assert_array_equal(to_uint8(view), load_view(tmp_path / "a.png", spec))
