import io

import numpy as np
import pytest
from PIL import Image

from arra_med.reporting.pictures import Panel, draw_board

GREY = np.full((4, 2), 200, dtype=np.uint8)
RED = np.zeros((8, 8, 3), dtype=np.uint8) + np.array([255, 0, 0], dtype=np.uint8)


def board(*panels: Panel, **settings: object) -> Image.Image:
    return Image.open(io.BytesIO(draw_board("A board", panels, panel_px=64, **settings)))  # type: ignore[arg-type]


def places(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of what has exactly a colour."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=-1))
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


def test_pictures_stand_side_by_side_in_their_own_proportions() -> None:
    picture = board(Panel("Grey", GREY), Panel("Red", RED))
    assert picture.width == 24 + 64 + 20 + 64 + 24
    left, top, *size = places(picture, (200, 200, 200))
    assert (left, size) == (24 + 16, [32, 64])  # half as wide as high, in the middle of its square
    assert places(picture, (255, 0, 0)) == (24 + 64 + 20, top, 64, 64)


def test_words_are_wrapped_to_the_width_of_their_panel() -> None:
    short = board(Panel("Red", RED, ("one",)), Panel("Empty", None))
    long = board(Panel("Red", RED, ("one two three four five six seven eight nine ten",)), Panel("Empty", None))
    assert long.height - short.height >= 3 * 20
    top, side = places(long, (255, 0, 0))[1], 64
    between = np.asarray(long)[top + side + 4 :, 24 + side : 24 + side + 20]
    assert len(np.unique(between.reshape(-1, 3), axis=0)) == 1  # the words stay out of the gap between the panels


def test_notes_and_the_warning_add_lines_and_the_file_carries_nothing_else() -> None:
    plain, full = board(Panel("Red", RED)), board(Panel("Red", RED), notes=("a", "b"), warning="Contains an image.")
    assert full.height > plain.height + 2 * 20
    assert (plain.info, full.info) == ({}, {"Comment": "Contains an image."})


def test_a_board_without_panels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        board()
