"""Pixels that are not square: which attribute counts, and that proportions come out true."""

import numpy as np
import pytest
from pydicom import Dataset

from arra_med.errors import ImageError
from arra_med.imaging.dicom import decode_dicom_bytes
from arra_med.imaging.dicom_geometry import pixel_aspect, with_square_pixels


def _header(**elements) -> Dataset:
    header = Dataset()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.parametrize(
    ("elements", "aspect"),
    [
        ({}, 1),
        ({"PixelAspectRatio": [4, 3]}, 4 / 3),
        ({"PixelSpacing": ["0.2", "0.1"]}, 2),
        ({"ImagerPixelSpacing": ["0.1", "0.2"]}, 0.5),
        ({"NominalScannedPixelSpacing": ["0.3", "0.1"]}, 3),
        ({"PixelSpacing": ["0.2", "0.1"], "ImagerPixelSpacing": ["0.1", "0.1"], "PixelAspectRatio": [1, 1]}, 2),
        ({"PixelSpacing": ["0.000", "0.000"], "PixelAspectRatio": [2, 1]}, 2),
        ({"PixelSpacing": ["0.2"]}, 1),
        ({"PixelSpacing": ["0.2", "0"]}, 1),
    ],
)
def test_a_calibrated_spacing_counts_before_the_detectors_and_any_before_the_ratio(elements, aspect):
    assert pixel_aspect(_header(**elements)) == pytest.approx(aspect)


def test_a_circle_of_high_pixels_becomes_round():
    y, x = np.mgrid[:60, :120]
    squeezed = (((x - 60) / 40) ** 2 + ((y - 30) / 20) ** 2 < 1).astype(np.float32)
    round_again = with_square_pixels(squeezed, 2.0)
    assert round_again.shape == (120, 120)
    lit = round_again > 0.5
    assert lit.any(axis=0).sum() == pytest.approx(lit.any(axis=1).sum(), abs=1)
    assert round_again.min() >= 0
    assert round_again.max() <= 1


def test_wide_pixels_widen_the_image_and_channels_stay_apart():
    pixels = np.zeros((8, 6, 3), dtype=np.float32)
    pixels[..., 1] = 0.25
    wide = with_square_pixels(pixels, 0.5)
    assert wide.shape == (8, 12, 3)
    np.testing.assert_allclose(wide[0, 0], [0, 0.25, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "shape", "flag"),
    [
        (["0.2", "0.1"], (128, 48), "resampled_to_square_pixels"),
        (["0.1", "0.1005"], (64, 48), None),
        (["1", "0.1"], (64, 48), "aspect_ratio_ignored"),
    ],
)
def test_files_are_resampled_unless_the_sides_are_equal_or_past_belief(make_dicom, quadrants, spacing, shape, flag):
    decoded = decode_dicom_bytes(make_dicom(quadrants, BitsStored=12, WindowCenter=2048, WindowWidth=4096, PixelSpacing=spacing), "cxr")  # fmt: skip
    assert decoded.pixels.shape == shape
    assert decoded.flags == (() if flag is None else (flag,))


def test_an_image_that_would_become_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("arra_med.imaging.photograph.MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="at most 1,000 are decoded"):
        with_square_pixels(np.zeros((30, 30), dtype=np.float32), 2.0)
