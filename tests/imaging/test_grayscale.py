"""The grayscale pipeline: values worked out by hand from DICOM PS3.3 C.11, and equality with pydicom's functions."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from arra_med.imaging.grayscale import displayed


def _row(*values: int, dtype: type = np.uint16) -> np.ndarray:
    return np.array([values], dtype=dtype)


def _lut(first: int, bits: int, data: list[int]) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [len(data), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = data
    item["LUTData"].VR = "US"
    return [item]


def _shown(make_header, stored: np.ndarray, **elements) -> list[float]:
    elements = {"BitsStored": 12, **elements}
    return displayed(stored, make_header(stored, **elements))[0].tolist()


def test_linear_window_by_hand(make_header):
    # c - 0.5 = 9.5 and w - 1 = 4 (C.11.2.1.2.1): (8 - 9.5) / 4 + 0.5 = 0.125
    shown = _shown(make_header, _row(7, 8, 9, 10, 11, 12), WindowCenter=10, WindowWidth=5)
    assert shown == pytest.approx([0, 0.125, 0.375, 0.625, 0.875, 1])


def test_linear_exact_window_by_hand(make_header):
    shown = _shown(make_header, _row(8, 9, 10, 11, 12), WindowCenter=10, WindowWidth=4, VOILUTFunction="LINEAR_EXACT")
    assert shown == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_sigmoid_window_by_hand(make_header):
    # 1 / (1 + exp(-4 (x - c) / w)), here 1 / (1 + exp(-(x - 10)))
    shown = _shown(make_header, _row(9, 10, 11), WindowCenter=10, WindowWidth=4, VOILUTFunction="SIGMOID")
    assert shown == pytest.approx([0.2689414, 0.5, 0.7310586], abs=1e-6)


def test_full_window_of_twelve_bits_is_division_by_4095(make_header):
    shown = _shown(make_header, _row(0, 1024, 4095), WindowCenter=2048, WindowWidth=4096)
    assert shown == pytest.approx([0, 1024 / 4095, 1])


def test_rescale_comes_before_the_window(make_header):
    # modality values 2 x - 100 = 0, 50, 100
    shown = _shown(
        make_header,
        _row(50, 75, 100),
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=50,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1])


def test_modality_lut_comes_before_the_window(make_header):
    shown = _shown(
        make_header,
        _row(0, 1, 2, 3),
        ModalityLUTSequence=_lut(0, 8, [0, 100, 200, 50]),
        WindowCenter=100,
        WindowWidth=200,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1, 0.25])


def test_a_negative_slope_leaves_high_modality_values_bright(make_header):
    shown = _shown(
        make_header,
        _row(0, 50, 100),
        RescaleSlope=-1,
        RescaleIntercept=100,
        WindowCenter=50,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([1, 0.5, 0])


def test_voi_lut_by_hand_wins_over_a_window(make_header):
    shown = _shown(
        make_header,
        _row(0, 10, 11, 12, 13, 99),
        VOILUTSequence=_lut(10, 8, [0, 51, 102, 255]),
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([0, 0, 0.2, 0.4, 1, 1])


def test_voi_lut_range_is_that_of_its_descriptor_not_of_its_data(make_header):
    shown = _shown(make_header, _row(0, 1), VOILUTSequence=_lut(0, 10, [0, 511]))
    assert shown == pytest.approx([0, 511 / 1023])


def test_monochrome1_turns_the_output_range_not_the_image_maximum(make_header):
    shown = _shown(
        make_header,
        _row(0, 1000),
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([1, 1 - 1000 / 4095])  # round its own maximum, 1000 would become 0


def test_signed_values(make_header):
    shown = _shown(
        make_header,
        _row(-1000, -500, 0, 7, dtype=np.int16),
        BitsStored=16,
        WindowCenter=-500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1, 1])


def test_the_first_of_several_windows_counts(make_header):
    stored = _row(7, 8, 12)
    first = _shown(make_header, stored, WindowCenter=[10, 2000], WindowWidth=[5, 4000])
    assert first == _shown(make_header, stored, WindowCenter=10, WindowWidth=5)


def test_without_a_window_percentiles_become_black_and_white(make_header):
    # 0..1000: the 0.5th percentile is 5, the 99.5th 995
    shown = _shown(make_header, np.arange(1001, dtype=np.uint16)[None])
    assert shown[500] == pytest.approx(0.5)
    assert shown[104] == pytest.approx((104 - 5) / 990)
    assert shown[:6] == [0] * 6
    assert shown[995:] == [1] * 6


@pytest.mark.parametrize(("centre", "width"), [(10, 0), (10, -5), (10, 0.5), ([], []), (10, None)])
def test_an_impossible_window_counts_as_none(make_header, centre, width):
    stored = np.arange(1001, dtype=np.uint16)[None]
    window = {"WindowCenter": centre} | ({} if width is None else {"WindowWidth": width})
    assert _shown(make_header, stored, **window) == _shown(make_header, stored)


def test_an_unknown_window_function_counts_as_linear(make_header):
    shown = _shown(make_header, _row(7, 8, 12), WindowCenter=10, WindowWidth=5, VOILUTFunction="CURVED")
    assert shown == pytest.approx([0, 0.125, 1])


def test_eight_bits_without_a_window_keep_their_whole_range_as_in_a_jpeg(make_header):
    shown = _shown(make_header, _row(51, 102, 153, dtype=np.uint8), BitsStored=8)
    assert shown == pytest.approx([0.2, 0.4, 0.6])


def test_padding_is_black_and_no_part_of_the_percentiles(make_header):
    stored = np.concatenate([np.full(4000, 4095), np.arange(1001)]).astype(np.uint16)[None]
    shown = _shown(make_header, stored, PixelPaddingValue=4095)
    assert shown[:4000] == [0] * 4000
    assert shown[4500] == pytest.approx(0.5)
    inverted = _shown(make_header, stored, PixelPaddingValue=4095, PhotometricInterpretation="MONOCHROME1")
    assert inverted[:4000] == [0] * 4000
    assert inverted[4500] == pytest.approx(0.5)


def test_padding_may_be_a_range(make_header):
    shown = _shown(
        make_header,
        _row(4000, 4050, 4095, 2048),
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=4095,
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([0, 0, 0, 2048 / 4095])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 0.684, "RescaleIntercept": 200}])
def test_equals_pydicom_scaled_to_its_output_range(make_header, function, signed, rescale):
    rng = np.random.default_rng(0)
    low, high = (-2048, 2047) if signed else (0, 4095)
    stored = rng.integers(low, high, (8, 9), endpoint=True).astype(np.int16 if signed else np.uint16)
    header = make_header(stored, BitsStored=12, WindowCenter=900, WindowWidth=1500, VOILUTFunction=function, **rescale)
    reference = apply_windowing(apply_modality_lut(stored, header), header)
    slope, intercept = rescale.get("RescaleSlope", 1), rescale.get("RescaleIntercept", 0)
    reference = (reference - (low * slope + intercept)) / ((high - low) * slope)
    np.testing.assert_allclose(displayed(stored, header), reference, atol=1e-6)


def test_equals_pydicom_through_a_voi_lut(make_header):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4095, (8, 9)).astype(np.uint16)
    header = make_header(stored, BitsStored=12, VOILUTSequence=_lut(100, 12, rng.integers(0, 4095, 3000).tolist()))
    np.testing.assert_allclose(displayed(stored, header), apply_voi(stored, header) / 4095, atol=1e-6)
