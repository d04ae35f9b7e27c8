"""Colour images: every photometric interpretation that can be written, and palettes of every form."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, convert_color_space
from pydicom.uid import (
    JPEG2000Lossless,
    OphthalmicPhotography8BitImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from arra_med.errors import ImageError
from arra_med.imaging.dicom import decode_dicom_bytes

PHOTOGRAPH = {"SOPClassUID": OphthalmicPhotography8BitImageStorage, "Modality": "OP"}


def _colour(make_dicom, pixels: np.ndarray, **elements) -> np.ndarray:
    return decode_dicom_bytes(make_dicom(pixels, **PHOTOGRAPH, **elements), "fundus").pixels


def _palette_elements(entries: dict[str, bytes], descriptor: list[int], segmented: bool = False) -> dict:
    names = {}
    for colour, data in entries.items():
        names[f"{colour}PaletteColorLookupTableDescriptor"] = descriptor
        names[f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"] = data
    return {"PhotometricInterpretation": "PALETTE COLOR", **names}


def _words(*numbers: int) -> bytes:
    return np.array(numbers, dtype="<u2").tobytes()


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 36, 3)).astype(np.uint8)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_rgb(make_dicom, rgb, syntax):
    np.testing.assert_allclose(_colour(make_dicom, rgb, compress_to=syntax), rgb / 255, atol=1e-7)


def test_rgb_by_plane(make_dicom, rgb):
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    shown = _colour(make_dicom, rgb, PlanarConfiguration=1, PixelData=planes.tobytes())
    np.testing.assert_allclose(shown, rgb / 255, atol=1e-7)


def test_ten_bits_in_sixteen_are_divided_by_1023(make_dicom, rgb):
    shown = _colour(make_dicom, rgb.astype(np.uint16) * 4, BitsStored=10)
    np.testing.assert_allclose(shown, rgb.astype(int) * 4 / 1023, atol=1e-6)


def test_ybr_full_by_hand(make_dicom):
    # PS3.3 C.7.6.3.1.2: R = Y + 1.402 (Cr - 128); Y = 100, Cr = 178 gives 170.1
    pixels = np.tile(np.array([100, 128, 178], dtype=np.uint8), (4, 4, 1))
    shown = _colour(make_dicom, pixels, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(shown[0, 0] * 255, [170, 64, 100], atol=1)


def test_ybr_full_422_repeats_its_colour_for_two_pixels(make_dicom):
    luminance = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    quads = np.stack([luminance[:, ::2], luminance[:, 1::2], np.full((4, 2), 120), np.full((4, 2), 140)], axis=2)
    shown = _colour(
        make_dicom,
        np.zeros((4, 4, 3), dtype=np.uint8),
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=quads.astype(np.uint8).tobytes(),
    )
    full = np.stack([luminance, np.full((4, 4), 120), np.full((4, 4), 140)], axis=2).astype(np.uint8)
    np.testing.assert_allclose(shown * 255, convert_color_space(full, "YBR_FULL", "RGB"), atol=1e-4)


@pytest.mark.parametrize(("syntax", "transform"), [("JPEG2000Lossless", "YBR_RCT"), ("JPEG2000", "YBR_ICT")])
def test_jpeg_2000_of_transformed_colour(make_header, rgb, syntax, transform):
    smooth = np.repeat(np.repeat(rgb[:8, :8], 8, axis=0), 8, axis=1)
    header = make_header(smooth, **PHOTOGRAPH, PhotometricInterpretation=transform)
    header.PhotometricInterpretation = "RGB"
    settings = {"j2k_psnr": [60]} if transform == "YBR_ICT" else {}
    header.PhotometricInterpretation = transform
    header.compress(getattr(pydicom.uid, syntax), encoding_plugin="pylibjpeg", **settings)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    shown = decode_dicom_bytes(stream.getvalue(), "fundus").pixels * 255
    np.testing.assert_allclose(shown, smooth, atol=1e-4 if transform == "YBR_RCT" else 3)


@pytest.mark.parametrize("name", ["YBR_PARTIAL_420", "CMYK", "HSV"])
def test_colour_spaces_that_are_not_read_are_named(make_dicom, rgb, name):
    with pytest.raises(ImageError, match=f"found the photometric interpretation {name}") as caught:
        _colour(make_dicom, rgb, PhotometricInterpretation=name)
    assert caught.value.reason == "decode_failed"


def test_a_palette_of_sixteen_bits_by_hand(make_dicom):
    pixels = np.array([[0, 5], [6, 200]], dtype=np.uint8)
    entries = {"Red": _words(0, 65535, 32768), "Green": _words(0, 0, 65535), "Blue": _words(13107, 0, 0)}
    shown = _colour(make_dicom, pixels, **_palette_elements(entries, [3, 4, 16]))
    np.testing.assert_allclose(shown[0, 0], [0, 0, 0.2], atol=1e-6)  # below the first value mapped, which is 4
    np.testing.assert_allclose(shown[0, 1], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shown[1, 0], [32768 / 65535, 1, 0], atol=1e-6)
    np.testing.assert_allclose(shown[1, 1], shown[1, 0])  # beyond the last


@pytest.mark.parametrize("packed", [False, True])
def test_a_palette_of_eight_bits_by_hand(make_dicom, packed):
    def data(*numbers: int) -> bytes:
        return bytes(numbers) if packed else _words(*numbers)

    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    entries = {"Red": data(0, 51, 102, 255), "Green": data(0, 0, 0, 255), "Blue": data(255, 0, 0, 255)}
    shown = _colour(make_dicom, pixels, **_palette_elements(entries, [4, 0, 8]))
    np.testing.assert_allclose(shown.reshape(4, 3), [[0, 0, 1], [0.2, 0, 0], [0.4, 0, 0], [1, 1, 1]], atol=1e-6)


def test_a_segmented_palette_by_hand(make_dicom):
    # a run of one (100), a ramp of 4 up to 500, and the first segment again: 100 200 300 400 500 100
    segments = _words(0, 1, 100, 1, 4, 500, 2, 1, 0, 0)
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    elements = _palette_elements(dict.fromkeys(("Red", "Green", "Blue"), segments), [6, 0, 16], segmented=True)
    shown = _colour(make_dicom, pixels, **elements)
    np.testing.assert_allclose(shown[..., 0].ravel() * 65535, [100, 200, 300, 400, 500, 100], atol=0.02)


def test_a_segment_is_referred_to_by_its_offset_in_bytes(make_dicom):
    # the ramp is at word 3, byte 6; it goes on from the last value: 10 20 | 60 100 | 80 100
    segments = _words(0, 1, 20, 1, 2, 100, 0, 1, 60, 2, 1, 6, 0)
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    elements = _palette_elements(dict.fromkeys(("Red", "Green", "Blue"), segments), [6, 0, 16], segmented=True)
    shown = _colour(make_dicom, pixels, **elements)
    np.testing.assert_allclose(shown[..., 1].ravel() * 65535, [20, 60, 100, 60, 80, 100], atol=0.02)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (_words(1, 4, 500), "a segmented palette is damaged"),
        (_words(0, 1, 5, 2, 3, 9, 0), "refers to what is no segment"),
        (_words(0, 1, 5, 7, 7, 7), "a segmented palette is damaged"),
        (_words(0, 1, 5), "found a palette of 1 entries, 6 of 8 or 16 bits"),
        (_words(0, 1, 5, 1, 65535, 9, 2, 65535, 6, 0), None),
    ],
)
def test_a_damaged_segmented_palette_is_refused_and_a_huge_one_cut(make_dicom, segments, message):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    elements = _palette_elements(dict.fromkeys(("Red", "Green", "Blue"), segments), [6, 0, 16], segmented=True)
    if message is None:
        assert _colour(make_dicom, pixels, **elements).shape == (2, 3, 3)
        return
    with pytest.raises(ImageError, match=message):
        _colour(make_dicom, pixels, **elements)


def test_a_palette_image_without_palette_is_refused(make_dicom):
    with pytest.raises(ImageError, match="the palette of a PALETTE COLOR image is missing"):
        _colour(make_dicom, np.zeros((4, 4), dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")


def test_a_palette_file_equals_pydicom():
    path = get_testdata_file("examples_palette.dcm", download=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path)
        reference = apply_color_lut(pydicom.pixels.pixel_array(header), header)[..., :3]
        header.SOPClassUID, header.Modality = SecondaryCaptureImageStorage, "OT"
        stream = io.BytesIO()
        header.save_as(stream)
    shown = decode_dicom_bytes(stream.getvalue(), "fundus").pixels
    np.testing.assert_allclose(shown, reference / (2.0 ** (8 * reference.dtype.itemsize) - 1), atol=1e-6)
