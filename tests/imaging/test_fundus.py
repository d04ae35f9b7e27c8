"""The field of view of fundus photographs: made ones with a known circle, odd ones, and real ones."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arra_med.imaging.fundus import crop_field_of_view, find_field_of_view


def _photograph(height: int, width: int, cx: float, cy: float, radius: float, *, noise: float = 0.01) -> np.ndarray:
    """A reddish disc, brighter to the right, on camera black."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    light = 0.35 + 0.4 * np.clip((x - cx) / radius, -0.6, 0.9)
    disc = (np.hypot(x + 0.5 - cx, y + 0.5 - cy) <= radius) * light
    rgb = disc[..., None] * np.array([1.0, 0.55, 0.25]) + rng.uniform(0, noise, (height, width, 3))
    return np.clip(rgb, 0, 1).astype(np.float32)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shift_x=st.floats(-0.2, 0.2),
    shift_y=st.floats(-0.1, 0.1),
    size=st.floats(0.35, 0.62),
    width=st.integers(160, 420),
)
def test_the_circle_is_found_off_centre_and_cut(shift_x, shift_y, size, width):
    height = 200
    cx, cy, radius = width * (0.5 + shift_x * 0.5), height * (0.5 + shift_y), height * size
    if not radius * 0.9 < cx < width - radius * 0.9:
        return  # more than a sliver of the circle is outside on a side
    field = find_field_of_view(_photograph(height, width, cx, cy, radius))
    assert field.circular
    assert field.radius_px == pytest.approx(radius, rel=0.03)
    assert field.cx == pytest.approx(cx, abs=0.03 * radius)
    assert field.cy == pytest.approx(cy, abs=0.03 * radius)


FRAMINGS = {
    # radius, centre across and down: ranges in fractions of the photograph's shorter side
    "whole": ((0.36, 0.48), (-0.02, 0.02), (-0.02, 0.02)),
    "off centre": ((0.25, 0.38), (-0.11, 0.11), (-0.11, 0.11)),
    "cut at the top and bottom": ((0.52, 0.60), (-0.03, 0.03), (-0.03, 0.03)),
    "cut on the right": ((0.35, 0.48), (0.15, 0.28), (-0.02, 0.02)),
    "cut at the bottom": ((0.35, 0.48), (-0.02, 0.02), (0.15, 0.28)),
    "cut in a corner": ((0.38, 0.48), (-0.18, -0.12), (-0.18, -0.12)),
    "small": ((0.17, 0.25), (-0.2, 0.2), (-0.2, 0.2)),
}


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_circle_of_any_camera_is_found(framing, seed):
    """Landscape and portrait, unequal light, dark retinas, grey blacks, noise, soft edges, print in a corner."""
    rng = np.random.default_rng(seed)
    short = int(rng.integers(200, 420))
    shape = [(short, short), (short, short * 4 // 3), (short * 3 // 2, short)][seed % 3]
    height, width = shape if "cut" not in framing else (short, short)
    radius, across, down = (rng.uniform(*bounds) * short for bounds in FRAMINGS[framing])
    cx, cy = width / 2 + across, height / 2 + down
    y, x = np.mgrid[0:height, 0:width] + 0.5
    distance, angle = np.hypot(x - cx, y - cy), rng.uniform(0, 2 * np.pi)
    slope = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
    light = (
        rng.uniform(0.15, 1)
        * (0.75 + 0.25 * rng.uniform() * slope)
        * (1 - rng.uniform(0, 0.45) * (distance / radius) ** 2)
    )
    disc = np.clip((radius - distance) / rng.uniform(0.5, 2.5) + 0.5, 0, 1) * np.clip(light, 0, 1)
    rgb = (
        disc[..., None] * [1, 0.55, 0.25] + rng.uniform(0, 0.08) + rng.normal(0, rng.uniform(0, 0.01), (*disc.shape, 3))
    )
    rgb[4:9, 4:30] = 1
    field = find_field_of_view(np.clip(rgb, 0, 1).astype(np.float32))
    assert field.circular
    np.testing.assert_allclose(field[:3], (cx, cy, radius), atol=max(0.02 * radius, 2.0))


def test_a_bar_of_a_screenshot_is_made_black_and_the_circle_it_touches_found():
    rgb = _photograph(300, 300, 150, 158, 142)
    rgb[:15] = 0.8
    field = find_field_of_view(rgb)
    assert field.circular
    np.testing.assert_allclose(field[:3], (150, 158, 142), atol=3)
    assert crop_field_of_view(rgb)[:, :, 2].max() < 0.5  # the retina's blue; the bar's is 0.8


def test_large_photographs_are_measured_in_their_own_pixels():
    field = find_field_of_view(_photograph(1200, 1800, 930, 590, 640))
    np.testing.assert_allclose(field[:3], (930, 590, 640), atol=10)


def test_the_crop_is_square_centred_and_padded_black_where_the_circle_is_cut():
    rgb = _photograph(200, 300, 150, 100, 130)
    crop = crop_field_of_view(rgb)
    side = crop.shape[0]
    assert crop.shape == (side, side, 3)
    assert side == pytest.approx(260, abs=6)
    assert crop.dtype == np.float32
    assert np.all(crop[:25] == 0)  # 30 rows are missing at the top and at the bottom
    assert np.all(crop[-25:] == 0)
    np.testing.assert_allclose(crop[side // 2, side // 2], rgb[100, 150], atol=0.03)


def test_nothing_is_stretched_turned_or_flipped():
    rgb = _photograph(240, 320, 170, 110, 100)
    rgb[60:66, 190:196] = [0, 0, 1]
    crop = crop_field_of_view(rgb)
    y, x = np.argwhere(crop[..., 2] - crop[..., 0] > 0.5).T
    assert (y.max() - y.min(), x.max() - x.min()) == (5, 5)
    side = crop.shape[0]
    assert (x.mean() - side / 2, y.mean() - side / 2) == pytest.approx((192.5 - 170, 62.5 - 110), abs=3)


def test_what_a_camera_prints_beside_the_circle_is_made_black():
    rgb = _photograph(200, 200, 100, 100, 90)
    rgb[4:10, 4:40] = 1.0
    crop = crop_field_of_view(rgb)
    assert crop[:25, :25].max() == 0


def test_a_squeezed_circle_is_kept_whole_within_its_bounding_square():
    y, x = np.mgrid[0:256, 0:256]
    oval = ((x - 128) / 80) ** 2 + ((y - 128) / 120) ** 2 <= 1
    rgb = (oval[..., None] * np.array([0.8, 0.4, 0.2])).astype(np.float32)
    rgb[2:8, 5:30] = 1.0
    field = find_field_of_view(rgb)
    assert not field.circular
    assert (field.cx, field.cy, field.radius_px) == pytest.approx((128, 128, 120), abs=3)
    crop = crop_field_of_view(rgb)
    assert (crop[..., 0] > 0.5).sum() == pytest.approx(oval.sum(), rel=0.01)
    assert crop[:9, :30].max() == 0  # the letters


def test_a_picture_without_black_gives_its_central_square():
    rgb = np.random.default_rng(0).uniform(0.3, 0.9, (120, 200, 3)).astype(np.float32)
    assert find_field_of_view(rgb) == (100, 60, 60, False)
    np.testing.assert_array_equal(crop_field_of_view(rgb), rgb[:, 40:160])


def test_a_white_page_around_the_photograph_becomes_black():
    page = np.ones((300, 300, 3), dtype=np.float32)
    page[40:260, 40:260] = _photograph(220, 220, 110, 110, 100)
    field = find_field_of_view(page)
    assert field[:3] == pytest.approx((150, 150, 100), abs=4)
    assert crop_field_of_view(page)[:20, :20].max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (50, 3), (300, 300)])
def test_tiny_dark_and_odd_pictures_give_a_square(shape):
    for rgb in (np.zeros((*shape, 3), np.float32), np.random.default_rng(1).random((*shape, 3), np.float32)):
        crop = crop_field_of_view(rgb)
        assert crop.shape[0] == crop.shape[1] >= 1
        assert np.isfinite(crop).all()


def test_the_same_photograph_gives_the_same_circle():
    rgb = _photograph(200, 260, 120, 105, 95, noise=0.05)
    assert find_field_of_view(rgb) == find_field_of_view(rgb.copy())


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("source", "least_circular", "smallest", "largest"),
    [("chase_db1", 1.0, 0.45, 0.49), ("srahim_dr", 1.0, 0.56, 0.66), ("odir5k", 0.75, 0.45, 0.53)],
)
def test_real_photographs(real_data, source, least_circular, smallest, largest):
    with (real_data / "fundus" / "studies.csv").open(newline="") as table:
        paths = [row["path"] for row in csv.DictReader(table) if row["source"] == source]
    num_circular = 0
    chosen = paths[:: max(1, len(paths) // 8)]
    for path in chosen:
        with Image.open(real_data / "fundus" / path) as image:
            rgb = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
        field = find_field_of_view(rgb)
        num_circular += field.circular
        if field.circular:
            assert smallest < field.radius_px / rgb.shape[0] < largest, path
            assert 0.3 < field.cx / rgb.shape[1] < 0.7
    assert num_circular >= least_circular * len(chosen)
