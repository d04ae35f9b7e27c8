"""The layout's spans, written out by hand."""

import pytest
import torch
from pydantic import ValidationError

from arra_med.tokens.layout import SequenceLayout, Span
from arra_med.tokens.vocabulary import ImageVocabulary

VOCABULARY = ImageVocabulary(bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=8, vocab_size=32)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, grid=(2, 2), max_text_tokens=3)


def test_a_sequence_by_hand() -> None:
    ids, span = LAYOUT.training_ids([10, 11], [0, 7, 3, 1])
    #             0  1   2   3  4   5   6   7   8
    assert ids == [0, 10, 11, 2, 20, 27, 23, 21, 3]
    assert span == Span(4, 8)
    assert LAYOUT.predicting_span(span) == Span(3, 7)  # boi predicts the first image token


def test_the_predicting_positions_cover_every_row_of_the_image() -> None:
    """The first implementation's slice missed the first row and took in padding."""
    for num_text in range(4):
        ids, span = LAYOUT.training_ids([10] * num_text, [1, 2, 3, 4])
        predicting = LAYOUT.predicting_span(span)
        assert [ids[i + 1] - 20 for i in range(*predicting)] == [1, 2, 3, 4]


def test_the_unconditional_sequence_is_bos_boi() -> None:
    assert LAYOUT.unconditional_ids == [0, 2]
    assert LAYOUT.training_ids([], [0, 0, 0, 0])[0] == [0, 2, 20, 20, 20, 20, 3]


def test_the_rep_token_stands_right_before_the_image() -> None:
    vocabulary = VOCABULARY.model_copy(update={"rep_id": 4})
    layout = LAYOUT.model_copy(update={"vocabulary": vocabulary})
    assert layout.prompt_ids([10]) == [0, 10, 2, 4]
    ids, span = layout.training_ids([10], [1, 2, 3, 4])
    assert ids[span.start - 1] == 4


def test_long_texts_are_cut_and_the_longest_sequence_is_known() -> None:
    ids, _ = LAYOUT.training_ids([10] * 9, [1, 2, 3, 4])
    assert len(ids) == LAYOUT.max_tokens == 1 + 3 + 1 + 4 + 1


def test_another_number_of_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="an image has 4 codes, found 3"):
        LAYOUT.training_ids([10], [1, 2, 3])


def test_codes_and_ids_are_inverse_and_other_ids_are_refused() -> None:
    codes = torch.arange(8)
    assert torch.equal(VOCABULARY.codes(VOCABULARY.image_ids(codes)), codes)
    with pytest.raises(ValueError, match="no image token"):
        VOCABULARY.codes(torch.tensor([3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eoi_id": 2}, "must be different ids"),
        ({"eoi_id": 21}, "lies among the image ids"),
        ({"vocab_size": 27}, "lies outside the vocabulary"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageVocabulary(**{**VOCABULARY.model_dump(), **change})
