import numpy as np
import pytest

from arra_med.generate.marks import Marks, draw_visible_mark
from arra_med.generate.watermark import THRESHOLD, watermark_statistic


@pytest.mark.parametrize("shape", [(128, 128), (128, 128, 3), (1024, 1024)])
def test_the_mark_stands_in_the_lower_left_corner_and_leaves_the_rest_alone(shape: tuple[int, ...]):
    picture = np.full(shape, 60, dtype=np.uint8)
    marked = draw_visible_mark(picture)
    changed = marked != picture if len(shape) == 2 else (marked != picture).any(axis=2)
    rows, columns = np.nonzero(changed)
    side = shape[0]
    assert rows.min() > 0.85 * side
    assert columns.max() < 0.6 * side
    assert 0.01 < changed.mean() < 0.08
    assert (picture == 60).all()
    assert marked.min() == 0
    assert marked.max() > 200


def test_without_marks_the_pixels_are_the_models_own():
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    drawn, told = Marks(visible=False, watermark=False).draw(picture)
    np.testing.assert_array_equal(drawn, picture)
    assert told == {"visible": False, "watermark": None}


def test_both_marks_are_drawn_and_told_and_a_small_image_is_not_said_to_hold_the_watermark():
    picture = np.random.default_rng(0).integers(90, 130, (96, 96), dtype=np.uint8)
    drawn, told = Marks().draw(picture)
    assert told == {"visible": True, "watermark": "arra-med-1"}
    assert watermark_statistic(drawn) >= THRESHOLD
    assert Marks().draw(picture[:64, :64])[1] == {"visible": True, "watermark": None}
