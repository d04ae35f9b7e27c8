"""The grayscale pipeline: values worked out by hand from DICOM PS3.3 C.11, and equality with pydicom's functions."""

import numpy as np
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from arra_med.errors import ImageError
from tests.imaging.gray_rows import displayed_pixels, flags_of, lut, row, shown_row


def test_linear_window_by_hand():
    # c - 0.5 = 9.5 and w - 1 = 4 (C.11.2.1.2.1): (8 - 9.5) / 4 + 0.5 = 0.125
    shown = shown_row(row(7, 8, 9, 10, 11, 12), WindowCenter=10, WindowWidth=5)
    assert shown == pytest.approx([0, 0.125, 0.375, 0.625, 0.875, 1])


def test_linear_exact_window_by_hand():
    shown = shown_row(row(8, 9, 10, 11, 12), WindowCenter=10, WindowWidth=4, VOILUTFunction="LINEAR_EXACT")
    assert shown == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_sigmoid_window_by_hand():
    # 1 / (1 + exp(-4 (x - c) / w)), here 1 / (1 + exp(-(x - 10)))
    shown = shown_row(row(9, 10, 11), WindowCenter=10, WindowWidth=4, VOILUTFunction="SIGMOID")
    assert shown == pytest.approx([0.2689414, 0.5, 0.7310586], abs=1e-6)


def test_full_window_of_twelve_bits_is_division_by_4095():
    shown = shown_row(row(0, 1024, 4095), WindowCenter=2048, WindowWidth=4096)
    assert shown == pytest.approx([0, 1024 / 4095, 1])


def test_rescale_comes_before_the_window():
    # modality values 2 x - 100 = 0, 50, 100
    shown = shown_row(
        row(50, 75, 100),
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=50,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1])


def test_modality_lut_comes_before_the_window():
    shown = shown_row(
        row(0, 1, 2, 3),
        ModalityLUTSequence=lut(0, 8, [0, 100, 200, 50]),
        WindowCenter=100,
        WindowWidth=200,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1, 0.25])


def test_a_negative_slope_leaves_high_modality_values_bright():
    shown = shown_row(
        row(0, 50, 100),
        RescaleSlope=-1,
        RescaleIntercept=100,
        WindowCenter=50,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([1, 0.5, 0])


def test_voi_lut_by_hand_wins_over_a_window():
    shown = shown_row(
        row(0, 10, 11, 12, 13, 99),
        VOILUTSequence=lut(10, 8, [0, 51, 102, 255]),
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([0, 0, 0.2, 0.4, 1, 1])


def test_voi_lut_range_is_that_of_its_descriptor_not_of_its_data():
    shown = shown_row(row(0, 1), VOILUTSequence=lut(0, 10, [0, 511]))
    assert shown == pytest.approx([0, 511 / 1023])


def test_monochrome1_turns_the_output_range_not_the_image_maximum():
    shown = shown_row(
        row(0, 1000),
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=2048,
        WindowWidth=4096,
    )
    assert shown == pytest.approx([1, 1 - 1000 / 4095])  # round its own maximum, 1000 would become 0


def test_signed_values():
    shown = shown_row(
        row(-1000, -500, 0, 7, dtype=np.int16),
        BitsStored=16,
        WindowCenter=-500,
        WindowWidth=1000,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown == pytest.approx([0, 0.5, 1, 1])


def test_the_first_of_several_windows_counts():
    stored = row(7, 8, 12)
    first = shown_row(stored, WindowCenter=[10, 2000], WindowWidth=[5, 4000])
    assert first == shown_row(stored, WindowCenter=10, WindowWidth=5)


def test_an_unknown_window_function_counts_as_linear():
    shown = shown_row(row(7, 8, 12), WindowCenter=10, WindowWidth=5, VOILUTFunction="CURVED")
    assert shown == pytest.approx([0, 0.125, 1])


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
    np.testing.assert_allclose(displayed_pixels(header), reference, atol=1e-6)


def test_equals_pydicom_through_a_voi_lut(make_header):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4095, (8, 9)).astype(np.uint16)
    header = make_header(stored, BitsStored=12, VOILUTSequence=lut(100, 12, rng.integers(0, 4095, 3000).tolist()))
    np.testing.assert_allclose(displayed_pixels(header), apply_voi(stored, header) / 4095, atol=1e-6)


def test_equals_pydicom_through_a_modality_lut(make_header):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4095, (8, 9)).astype(np.uint16)
    modality = lut(100, 16, rng.integers(0, 65535, 3000).tolist())
    header = make_header(stored, BitsStored=12, ModalityLUTSequence=modality, WindowCenter=30000, WindowWidth=50000)
    reference = apply_windowing(apply_modality_lut(stored, header), header) / 65535
    np.testing.assert_allclose(displayed_pixels(header), reference, atol=1e-6)


def test_a_modality_lut_may_have_entries_of_twelve_bits():
    window = {"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}
    shown = shown_row(row(0, 1, 2), ModalityLUTSequence=lut(0, 12, [0, 1000, 4000]), **window)
    assert shown == pytest.approx([0, 0.25, 1])


def test_a_modality_lut_of_fluoroscopy_serves_subtraction_and_is_not_displayed():
    window = {"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}
    elements = {"ModalityLUTSequence": lut(0, 12, [4000, 4000]), "SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.2"}
    assert shown_row(row(0, 1000), **elements, **window) == pytest.approx([0, 0.25])


def test_a_voi_lut_maps_rescaled_negative_values():
    # modality values -100, -99, -98; the first value mapped is -100, written as 65436
    shown = shown_row(
        row(0, 1, 2),
        RescaleSlope=1,
        RescaleIntercept=-100,
        VOILUTSequence=lut(65436, 8, [0, 51, 255]),
    )
    assert shown == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("interpretation", "shape", "shown", "flags"),
    [
        ("MONOCHROME2", None, 0.25, ()),
        ("MONOCHROME1", None, 0.75, ()),
        ("MONOCHROME2", "IDENTITY", 0.25, ()),
        ("MONOCHROME1", "INVERSE", 0.75, ()),
        ("MONOCHROME2", "INVERSE", 0.75, ("polarity_contradiction",)),
        ("MONOCHROME1", "IDENTITY", 0.25, ("polarity_contradiction",)),
        ("MONOCHROME1", "LIN OD", 0.75, ()),
    ],
)
def test_the_presentation_lut_shape_decides_the_polarity_once(interpretation, shape, shown, flags):
    elements = {"PhotometricInterpretation": interpretation, "WindowCenter": 500, "WindowWidth": 1000}
    elements |= {"VOILUTFunction": "LINEAR_EXACT"} | ({"PresentationLUTShape": shape} if shape else {})
    assert shown_row(row(250), **elements) == pytest.approx([shown])
    assert flags_of(row(250), **elements) == flags


def test_decisions_are_flagged():
    stored = np.arange(1001, dtype=np.uint16)[None]
    window = {"WindowCenter": 10, "WindowWidth": 5}
    tables = {"VOILUTSequence": lut(0, 8, [0, 255])}
    assert flags_of(stored, **window) == ()
    assert flags_of(stored) == ("percentile_window",)
    assert flags_of(stored.astype(np.uint8), BitsStored=8) == ()
    assert flags_of(stored, WindowCenter=[10, 20], WindowWidth=[5, 5]) == ("several_windows",)
    assert flags_of(stored, **tables) == ()
    assert flags_of(stored, **window, **tables) == ("voi_lut_before_window",)
    assert flags_of(stored, VOILUTSequence=tables["VOILUTSequence"] * 2) == ("several_windows",)


def test_a_rescale_beyond_every_number_is_refused():
    with pytest.raises(ImageError, match="lead beyond every number"):
        shown_row(row(0, 4000), RescaleSlope=1e308, RescaleIntercept=0)
