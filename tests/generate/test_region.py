import numpy as np
import pytest

from arra_med.errors import GenerationError
from arra_med.generate.region import box_mask, cell_pixels, laid_into, touched_cells


def test_a_code_is_touched_by_a_single_pixel():
    mask = np.zeros((12, 16), dtype=bool)
    mask[3, 3] = mask[11, 12] = True
    expected = np.zeros((3, 4), dtype=bool)
    expected[0, 0] = expected[2, 3] = True
    np.testing.assert_array_equal(touched_cells(mask, (3, 4)), expected)


def test_a_box_ends_before_its_right_and_bottom():
    cells = touched_cells(box_mask((4, 8, 8, 9), 16), (4, 4))
    assert np.argwhere(cells).tolist() == [[2, 1]]
    assert np.argwhere(touched_cells(box_mask((4, 8, 9, 9), 16), (4, 4))).tolist() == [[2, 1], [2, 2]]


@pytest.mark.parametrize("box", [(4, 4, 4, 8), (8, 0, 4, 4), (-1, 0, 4, 4), (0, 0, 17, 4)])
def test_a_box_that_is_empty_or_outside_is_one_sentence(box: tuple[int, int, int, int]):
    with pytest.raises(GenerationError, match="is empty or reaches beyond the picture of 16 x 16 pixels"):
        box_mask(box, 16)


def test_an_empty_mask_and_one_of_another_size_are_one_sentence():
    with pytest.raises(GenerationError, match="nothing is marked"):
        touched_cells(np.zeros((16, 16), dtype=bool), (4, 4))
    for shape in ((15, 16), (16, 16, 3)):
        with pytest.raises(GenerationError, match="no whole number of pixels for each of 4 x 4 codes"):
            touched_cells(np.ones(shape, dtype=bool), (4, 4))


def test_cells_and_their_pixels_are_inverse():
    cells = np.random.default_rng(0).random((4, 4)) < 0.5
    np.testing.assert_array_equal(touched_cells(cell_pixels(cells, 16), (4, 4)), cells)


@pytest.mark.parametrize("channels", [None, 3])
def test_the_outside_stays_and_the_seam_is_soft_within(channels: int | None):
    shape = (16, 16) if channels is None else (16, 16, channels)
    original, redrawn = np.full(shape, 10, np.uint8), np.full(shape, 110, np.uint8)
    region = np.zeros((16, 16), dtype=bool)
    region[4:12, 4:12] = True
    found = laid_into(original, redrawn, region, feather_px=4)
    assert (found[~region] == 10).all()
    column = found[8, 4:12] if channels is None else found[8, 4:12, 0]
    assert column.tolist() == [35, 60, 85, 110, 110, 85, 60, 35]  # 1 to 4 quarters of the way from 10 to 110
    assert (laid_into(original, redrawn, region, feather_px=0)[region] == 110).all()
    assert (laid_into(original, redrawn, np.ones((16, 16), dtype=bool), feather_px=4) == 110).all()
