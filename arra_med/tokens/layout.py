"""The one place that knows what a sequence looks like: `bos text boi [rep] image... eoi`, the image in raster order.

Every span that a loss, a trainer or a decoder needs comes from here. The position that predicts image token k is the
one before it: the paper's `<HYBNEXT>` positions are the image span moved one place to the left, so the first of them
is the position before the first image token and the last is the last image token but one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import model_validator

from arra_med.config import StrictModel
from arra_med.tokens.vocabulary import ImageVocabulary


class Span(NamedTuple):
    """Positions [start, stop) of a sequence."""

    start: int
    stop: int


class SequenceLayout(StrictModel):
    """Layout of the sequences of one model.

    Attributes:
        vocabulary: The ids in use.
        grid: Rows and columns of image tokens.
        max_text_tokens: Text tokens that fit; longer texts are cut at the end.
    """

    vocabulary: ImageVocabulary
    grid: tuple[int, int]
    max_text_tokens: int

    @model_validator(mode="after")
    def _check(self) -> "SequenceLayout":
        if min(self.grid) < 1 or self.max_text_tokens < 1:
            raise ValueError("grid and max_text_tokens must be positive")
        return self

    @property
    def num_image_tokens(self) -> int:
        """Image tokens of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def image_offsets(self) -> Sequence[int]:
        """Places of the image tokens in raster order, counted from the first one."""
        return range(self.num_image_tokens)

    @property
    def predicted_offsets(self) -> Sequence[int]:
        """Places, counted from the first image token, of all tokens that are learnt: the image tokens and `eoi`."""
        return range(self.num_image_tokens + 1)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.prompt_ids([0] * self.max_text_tokens)) + self.num_image_positions + 1

    def prompt_ids(self, text_ids: Sequence[int]) -> list[int]:
        """Text ids -> `bos text boi [rep]`: all that stands before the first image token."""
        vocabulary = self.vocabulary
        rep = [] if vocabulary.rep_id is None else [vocabulary.rep_id]
        return [vocabulary.bos_id, *text_ids[: self.max_text_tokens], vocabulary.boi_id, *rep]

    @property
    def unconditional_ids(self) -> list[int]:
        """The prompt without text, which prompt dropout trains and guidance uses: `bos boi [rep]`."""
        return self.prompt_ids([])

    def unconditional_beside(self, prompt_ids: Sequence[int]) -> list[int]:
        """The unconditional prompt that guidance sets against a conditional one."""
        return self.unconditional_ids

    def dropped_text_ids(self, text_ids: Sequence[int]) -> list[int]:
        """What takes the place of a text that prompt dropout dropped."""
        return []

    def first_position(self, num_prompt_tokens: int) -> int:
        """The position id of a sequence's first token."""
        return 0

    @property
    def row_end_ids(self) -> tuple[int, ...]:
        """Marks behind each row of image tokens; a decoder writes them itself."""
        return ()

    @property
    def num_image_positions(self) -> int:
        """Tokens from the first image token to the one before `eoi`, marks between rows included."""
        return self.predicted_offsets[-1]

    def text_ids(self, text_tokenizer: Any, text: str) -> list[int]:
        """Encodes a prompt with a Hugging Face tokenizer; a mark that stands in the text is read as plain text."""
        ids: list[int] = text_tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def training_ids(self, text_ids: Sequence[int], codes: Sequence[int]) -> tuple[list[int], Span]:
        """Builds `bos text boi [rep] image... eoi`.

        Args:
            text_ids: Ids of the prompt's text; empty for the unconditional sequence.
            codes: The image's codes in raster order, `num_image_tokens` of them.

        Returns:
            The ids, and the span of the image in them; its tokens stand at `image_offsets` from the span's start.

        Raises:
            ValueError: If the number of codes is another.
        """
        if len(codes) != self.num_image_tokens:
            raise ValueError(f"an image has {self.num_image_tokens} codes, found {len(codes)}")
        prompt = self.prompt_ids(text_ids)
        rows = self.vocabulary.image_ids(torch.tensor(codes).view(self.grid)).tolist()
        image = [token for row in rows for token in (*row, *self.row_end_ids)]
        return [*prompt, *image, self.vocabulary.eoi_id], Span(len(prompt), len(prompt) + len(image))

    def predicting_span(self, image_span: Span) -> Span:
        """The positions whose hidden state predicts an image token (`<HYBNEXT>`)."""
        return Span(image_span.start - 1, image_span.stop - 1)
