"""What becomes black and white where no window says so, padding, and detector signal FOR PROCESSING."""

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from tests.imaging.gray_rows import displayed_pixels, lut, row, shown_row


def test_without_a_window_percentiles_become_black_and_white():
    # 0..1000: the 0.5th percentile is 5, the 99.5th 995
    shown = shown_row(np.arange(1001, dtype=np.uint16)[None])
    assert shown[500] == pytest.approx(0.5)
    assert shown[104] == pytest.approx((104 - 5) / 990)
    assert shown[:6] == [0] * 6
    assert shown[995:] == [1] * 6


@pytest.mark.parametrize(("centre", "width"), [(10, 0), (10, -5), (10, 0.5), ([], []), (10, None)])
def test_an_impossible_window_counts_as_none(centre, width):
    stored = np.arange(1001, dtype=np.uint16)[None]
    window = {"WindowCenter": centre} | ({} if width is None else {"WindowWidth": width})
    assert shown_row(stored, **window) == shown_row(stored)


def test_eight_bits_without_a_window_keep_their_whole_range_as_in_a_jpeg():
    shown = shown_row(row(51, 102, 153, dtype=np.uint8), BitsStored=8)
    assert shown == pytest.approx([0.2, 0.4, 0.6])


def test_padding_is_black_and_no_part_of_the_percentiles():
    stored = np.concatenate([np.full(4000, 4095), np.arange(1001)]).astype(np.uint16)[None]
    shown = shown_row(stored, PixelPaddingValue=4095)
    assert shown[:4000] == [0] * 4000
    assert shown[4500] == pytest.approx(0.5)
    inverted = shown_row(stored, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    assert inverted[:4000] == [0] * 4000
    assert inverted[4500] == pytest.approx(0.5)


def test_padding_may_be_a_range():
    shown = shown_row(
        row(4000, 4050, 4095, 2048),
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=4095,
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([0, 0, 0, 2048 / 4095])


FOR_PROCESSING = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}


@pytest.mark.parametrize(("sign", "interpretation"), [(1, "MONOCHROME1"), (1, "MONOCHROME2"), (None, "MONOCHROME1")])
def test_linear_signal_becomes_attenuation(sign, interpretation):
    # -log(1 + x) of 0, 1, 3, 7, ..., 1023 is 0, -1, -2, ..., -10 in units of log 2: evenly spaced, air dark
    stored = np.repeat(2 ** np.arange(11) - 1, 1000).astype(np.uint16)[None]
    elements = FOR_PROCESSING | {"PhotometricInterpretation": interpretation}
    elements |= {} if sign is None else {"PixelIntensityRelationshipSign": sign}
    shown = shown_row(stored, BitsStored=10, WindowCenter=5, WindowWidth=2, **elements)
    assert shown[::1000] == pytest.approx(np.linspace(1, 0, 11).tolist(), abs=1e-6)


@pytest.mark.parametrize(("sign", "interpretation"), [(-1, "MONOCHROME1"), (None, "MONOCHROME2")])
def test_linear_signal_that_falls_with_intensity_becomes_attenuation(sign, interpretation):
    stored = np.repeat(1023 - (2 ** np.arange(11) - 1), 1000).astype(np.uint16)[None]
    elements = FOR_PROCESSING | {"PhotometricInterpretation": interpretation}
    elements |= {} if sign is None else {"PixelIntensityRelationshipSign": sign}
    assert shown_row(stored, BitsStored=10, **elements)[::1000] == pytest.approx(
        np.linspace(1, 0, 11).tolist(), abs=1e-6
    )


@pytest.mark.parametrize(("sign", "shown"), [(1, 0.75), (-1, 0.25)])
def test_logarithmic_signal_keeps_its_window_and_only_its_sign_counts(sign, shown):
    elements = FOR_PROCESSING | {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": sign}
    elements |= {"WindowCenter": 500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    assert shown_row(row(250), PhotometricInterpretation="MONOCHROME1", **elements) == pytest.approx([shown])


def test_signal_for_presentation_is_not_touched_by_its_intensity_relationship():
    # PS3.3 C.8.11.3.1.2: the relationship describes the values; it is no transformation for display
    elements = {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1}
    elements |= {"PresentationIntentType": "FOR PRESENTATION", "WindowCenter": 500, "WindowWidth": 1000}
    shown = shown_row(row(250), VOILUTFunction="LINEAR_EXACT", **elements)
    assert shown == pytest.approx([0.25])


def test_a_collimation_border_is_no_part_of_the_percentiles(make_header):
    rng = np.random.default_rng(0)
    film = np.full((200, 180), 4095, dtype=np.uint16)
    film[30:170, 40:150] = rng.integers(500, 2500, (140, 110))
    header = make_header(film, BitsStored=12)
    low, high = np.percentile(film[30:170, 40:150], (0.5, 99.5))
    reference = np.clip((film.astype(np.float64) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(displayed_pixels(header), reference, atol=1e-6)


def test_percentiles_equal_numpys_after_a_modality_lut_that_falls(make_header):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 1024, (60, 70)).astype(np.uint16)
    table = rng.permutation(4096)[:1024]
    header = make_header(stored, BitsStored=10, ModalityLUTSequence=lut(0, 12, table.tolist()))
    low, high = np.percentile(table[stored], (0.5, 99.5))
    np.testing.assert_allclose(displayed_pixels(header), np.clip((table[stored] - low) / (high - low), 0, 1), atol=1e-6)


def test_negative_padding_may_be_written_as_an_unsigned_number(make_header):
    stored = row(-2000, -500, 500, dtype=np.int16)
    window = {"WindowCenter": 0, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    inverse = {"PhotometricInterpretation": "MONOCHROME1"}
    header = make_header(stored, PixelPaddingValue=63536, **window, **inverse)
    assert displayed_pixels(header)[0].tolist() == pytest.approx([0, 1, 0])
    header = make_header(stored, BitsStored=16, PixelPaddingValue=-2000, **window, **inverse)
    assert displayed_pixels(header)[0].tolist() == pytest.approx([0, 1, 0])


def test_padding_is_compared_before_the_modality_lut():
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 2000}
    shown = shown_row(row(0, 1000, 2000), PixelPaddingValue=2000, VOILUTFunction="LINEAR_EXACT", **rescale)
    assert shown == pytest.approx([0, 0.5, 0])


def test_a_jpeg_2000_of_eight_bits_in_sixteen_keeps_its_whole_range(make_header):
    stored = np.full((40, 40), 51, dtype=np.uint16)
    header = make_header(stored, BitsStored=8)
    header.compress(JPEG2000Lossless)
    np.testing.assert_allclose(displayed_pixels(header), 0.2, atol=1e-6)
