"""Chameleon's vocabulary and sequences, written out by hand."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from arra_med.errors import BundleError
from arra_med.tokens.chameleon_layout import ChameleonLayout, read_chameleon_layout
from arra_med.tokens.chameleon_vocabulary import image_token_ids, lumina_size_name
from arra_med.tokens.layout import Span

# the published ids of the marks are others; what counts is that they are read by name
NAMES = {
    "<s>": 0,
    "<pad>": 1,
    "IMGIMGBZ": 4,  # code 1
    "IMGIMGAZ": 5,  # code 0
    "IMGIMGDZ": 6,  # code 3
    "IMGIMGCZ": 7,  # code 2
    "<eoss>": 8,
    "<racm3:break>": 9,
    "<reserved08706>": 10,
    "<reserved08708>": 11,
    "<reserved08799>": 12,
    "<reserved08801>": 13,
    "word": 14,
}
IN_ORDER = {**NAMES, "IMGIMGAZ": 4, "IMGIMGBZ": 5, "IMGIMGCZ": 6, "IMGIMGDZ": 7}


def layout(names: dict[str, int] | None = IN_ORDER, **changes: Any) -> ChameleonLayout:
    settings = {"image_layout": "plain", "grid": (2, 2), "codebook_size": 4, "vocab_size": 16, "max_text_tokens": 3}
    return read_chameleon_layout("folder", names, **{**settings, **changes})


def test_letters_of_a_name_are_the_digits_of_its_code() -> None:
    assert image_token_ids({"IMGIMGAZ": 4, "IMGIMGBJCDZ": 9, "IMGIMGIBJBZ": 7, "IMGIMGKZ": 1, "word": 2}) == {
        0: 4,
        1923: 9,
        8191: 7,
    }
    assert [lumina_size_name(side) for side in (32, 48, 64)] == [
        "<reserved08816>",
        "<reserved08824>",
        "<reserved08832>",
    ]


def test_a_plain_sequence_by_hand() -> None:
    plain = layout()
    ids, span = plain.training_ids([14, 14], [0, 3, 2, 1])
    #              s  word word end boi  0  3  2  1  eoi
    assert ids == [0, 14, 14, 10, 9, 4, 7, 6, 5, 8]
    assert span == Span(5, 9)
    assert plain.predicting_span(span) == Span(4, 8)
    assert list(plain.image_offsets) == [0, 1, 2, 3]
    assert list(plain.predicted_offsets) == [0, 1, 2, 3, 4]
    assert plain.training_ids([], [0, 0, 0, 0])[0] == [0, 9, 4, 4, 4, 4, 8]
    assert plain.max_tokens == len(plain.training_ids([14] * 9, [0, 0, 0, 0])[0]) == 11


def test_a_lumina_sequence_has_sizes_and_ends_of_rows() -> None:
    lumina = layout(image_layout="lumina")
    ids, span = lumina.training_ids([14, 14], [0, 3, 2, 1])
    #              s  word word end boi  h   w   0  3  row 2  1  row eoi
    assert ids == [0, 14, 14, 10, 9, 13, 13, 4, 7, 12, 6, 5, 12, 8]
    assert span == Span(7, 13)
    # what is aligned predicts an image token: the width's mark, 0, the first row's end, and 2
    assert [ids[span.start + offset] for offset in lumina.image_offsets] == [4, 7, 6, 5]
    assert [span.start - 1 + offset for offset in lumina.image_offsets] == [6, 7, 9, 10]
    # what is learnt is all behind the head, ends of rows and eoi included
    assert [ids[span.start + offset] for offset in lumina.predicted_offsets] == ids[7:]
    assert lumina.row_end_ids == (12,)
    assert lumina.unconditional_ids == [9, 13, 13]
    assert lumina.max_tokens == len(lumina.training_ids([14] * 9, [0, 0, 0, 0])[0]) == 15


def test_the_rep_token_stands_right_before_the_image() -> None:
    for image_layout in ("plain", "lumina"):
        ids, span = layout(rep=True, image_layout=image_layout).training_ids([14], [0, 3, 2, 1])
        assert (ids[span.start - 1], ids[span.start]) == (11, 4)


def test_codes_whose_ids_do_not_follow_their_order() -> None:
    vocabulary = layout(NAMES).vocabulary
    assert vocabulary.image_order == (1, 0, 3, 2)
    assert vocabulary.image_ids(torch.tensor([[0, 1], [2, 3]])).tolist() == [[5, 4], [7, 6]]
    assert vocabulary.codes(torch.tensor([5, 4, 7, 6])).tolist() == [0, 1, 2, 3]
    assert vocabulary.image_rows == [5, 4, 7, 6]
    assert layout(NAMES).training_ids([], [0, 1, 2, 3])[0] == [0, 9, 5, 4, 7, 6, 8]
    assert layout().vocabulary.image_rows == slice(4, 8)


def without(name: str) -> dict[str, int]:
    return {other: token for other, token in IN_ORDER.items() if other != name}


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (None, {}, "names no image tokens"),
        ({"<s>": 0, "word": 1}, {}, "names no image tokens"),
        (without("IMGIMGBZ"), {}, "are not one for each code"),
        ({**IN_ORDER, "IMGIMGDZ": 15}, {}, "are not one for each code"),
        (IN_ORDER, {"codebook_size": 8}, "names 4 image tokens, the image tokenizer has 8 codes"),
        (IN_ORDER, {"vocab_size": 9}, "goes beyond the 9 rows"),
        (without("<eoss>"), {}, "lacks <eoss>"),
        (without("<reserved08799>"), {"image_layout": "lumina"}, "lacks <reserved08799>"),
        (IN_ORDER, {"image_layout": "lumina", "grid": (4, 4)}, "lacks <reserved08802>"),
        (IN_ORDER, {"image_layout": "lumina", "grid": (3, 3)}, "an even number of tokens a side, found 3"),
        (IN_ORDER, {"grid": (2, 3)}, "form a square, the corpus has 2 x 3"),
    ],
)
def test_a_map_or_grid_that_does_not_fit_is_refused(
    names: dict[str, int] | None, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        layout(names, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"grid": (2, 3)}, "grid must be square"), ({"vocabulary": {"image_order": (0, 0, 1, 2)}}, "once")],
)
def test_a_stored_layout_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    values = layout().model_dump()
    values["vocabulary"].update(change.pop("vocabulary", {}))
    with pytest.raises(ValidationError, match=message):
        ChameleonLayout(**{**values, **change})
