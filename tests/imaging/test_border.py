"""The near-constant frame around a radiograph: found with its markers, never taken for the picture."""

import numpy as np
import pytest

from arra_med.imaging.border import inside_border


def _film(height: int = 300, width: int = 280) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (1000 + 5 * x + 3 * y + np.random.default_rng(0).integers(0, 200, (height, width))).astype(np.uint16)


@pytest.mark.parametrize("level", [0, 4095])
def test_a_frame_of_unequal_sides_is_left_out(level):
    film = np.full((300, 280), level, dtype=np.uint16)
    film[20:270, 35:270] = _film()[20:270, 35:270]
    assert inside_border(film) == (slice(20, 270), slice(35, 270))


def test_of_a_large_image_a_few_lines_too_many_may_go_but_none_of_the_frame_stays():
    film = np.zeros((2100, 1900), dtype=np.uint16)
    film[101:2003, 77:1850] = _film(2100, 1900)[101:2003, 77:1850]
    rows, columns = inside_border(film)
    assert 101 <= rows.start < 101 + 8
    assert 2003 - 8 < rows.stop <= 2003
    assert 77 <= columns.start < 77 + 7
    assert 1850 - 7 < columns.stop <= 1850


def test_letters_and_noise_in_the_frame_do_not_count():
    film = np.full((300, 280), 100, dtype=np.uint16) + np.random.default_rng(1).integers(0, 20, (300, 280))
    film[40:260, 40:240] = _film()[40:260, 40:240]
    film[10:30, 100:110] = 4000  # 10 of 280 places in its rows
    assert inside_border(film) == (slice(40, 260), slice(40, 240))


def test_without_a_frame_the_whole_image_is_inside():
    assert inside_border(_film()) == (slice(0, 300), slice(0, 280))


def test_a_film_that_is_wide_open_at_one_side_keeps_it():
    film = _film()
    film[:, :50] = 0
    assert inside_border(film) == (slice(0, 300), slice(50, 280))


@pytest.mark.parametrize("pixels", [np.full((40, 40), 7), np.zeros((1, 1), dtype=np.uint8)])
def test_an_image_of_one_value_has_no_frame(pixels):
    assert inside_border(pixels) == (slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))


def test_what_would_leave_too_little_is_no_frame():
    film = np.zeros((300, 280), dtype=np.uint16)
    film[140:160, 130:150] = 4000
    assert inside_border(film) == (slice(0, 300), slice(0, 280))


def test_the_meaning_of_a_cell_counts_not_its_bits():
    film = np.full((300, 280), 100, dtype=np.uint16)
    film[20:270, 35:270] = _film()[20:270, 35:270] % 4096
    unused = np.random.default_rng(2).integers(0, 16, film.shape).astype(np.uint16) << 12
    assert inside_border(film | unused, np.arange(65536) & 4095) == (slice(20, 270), slice(35, 270))
