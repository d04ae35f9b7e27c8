"""Writing in the pixels: drawn at several sizes, beside markers, bones and noise."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from arra_med.imaging.burned_in import count_letters_in_lines


def _written(
    text: str, size_px: float, side: int = 512, background: int = 40, at: tuple[int, int] = (10, 20)
) -> np.ndarray:
    image = Image.new("L", (side, side), background)
    ImageDraw.Draw(image).multiline_text(at, text, fill=255, font=ImageFont.load_default(size_px))
    return np.asarray(image, dtype=np.float32) / 255


@pytest.mark.parametrize("size_px", [14, 18, 24, 32])
def test_the_letters_of_lines_are_counted(size_px):
    text = "EXAMPLE PATIENT\nUNIT 00123 459"  # 14 and 12 letters; some touch
    assert 20 <= count_letters_in_lines(_written(text, size_px)) <= 28


def test_colour_is_read_by_its_brightest_channel():
    gray = _written("EXAMPLE PATIENT", 20)
    red = np.zeros((*gray.shape, 3), dtype=np.float32)
    red[..., 0] = gray
    assert count_letters_in_lines(red) == count_letters_in_lines(gray) > 10


def test_large_images_are_searched_in_a_thinner_copy():
    large = np.asarray(Image.fromarray(_written("EXAMPLE PATIENT", 20)).resize((2048, 2048), Image.Resampling.BICUBIC))
    assert 11 <= count_letters_in_lines(large) <= 14


@pytest.mark.parametrize("marker", ["L", "R", "PA", "AP", "L  ERECT"])
def test_markers_do_not_make_a_line(marker):
    expected = 0 if len(marker) < 3 else 6
    assert count_letters_in_lines(_written(marker, 28)) <= expected


def test_noise_wires_ribs_and_flat_pictures_have_no_letters():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:400, 0:400]
    ribs = (0.5 + 0.4 * np.sin(y / 9 + np.cos(x / 60))).astype(np.float32)
    wires = np.full((400, 400), 0.2, dtype=np.float32)
    wires[(np.abs(np.hypot(x - 200, y - 200) - 90) < 2) | (np.abs(x - y) < 2)] = 1
    for picture in (
        rng.random((400, 400), np.float32),
        ribs,
        wires,
        np.zeros((30, 40), np.float32),
        np.ones((3, 3), np.float32),
    ):
        assert count_letters_in_lines(picture) == 0


def test_letters_of_unlike_height_or_level_make_no_line():
    image = Image.new("L", (512, 512), 0)
    pen = ImageDraw.Draw(image)
    for i in range(8):
        pen.text((20 + 55 * i, 40 + 30 * (i % 3)), "H", fill=255, font=ImageFont.load_default(14 + 20 * (i % 2)))
    assert count_letters_in_lines(np.asarray(image, dtype=np.float32) / 255) == 0
