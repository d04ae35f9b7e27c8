"""The sequences of Chameleon's family: `bos text end-of-turn boi image... eoi`.

Chameleon and Anole put all image tokens in a row. Lumina-mGPT tells height and width before them and ends each row of
tokens with a mark: `bos text end-of-turn boi height width (row... end-of-row)... eoi` (arXiv 2408.02657, section 3.2).
These marks are no image tokens: no alignment looks at what predicts them, and no drawing chooses them; the decoder writes
them itself. Training learns the ends of rows like every other token behind `boi`, as Lumina-mGPT's own does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import model_validator

from arra_med.errors import BundleError
from arra_med.tokens.chameleon_vocabulary import (
    END_OF_TURN,
    LUMINA_END_OF_ROW,
    ChameleonVocabulary,
    ImageLayout,
    lumina_size_name,
    read_chameleon_vocabulary,
    token_id,
)
from arra_med.tokens.layout import SequenceLayout

_PX_PER_TOKEN = 16
_LUMINA_REQUEST = "Generate an image of {width}x{height} according to the following prompt:\n{text}"


class ChameleonLayout(SequenceLayout):
    """Layout of a model of Chameleon's family.

    Attributes:
        kind: Tells it from the plain layout where one is read.
        vocabulary: The ids in use.
        turn_end_id: Ends the prompt's text.
        row_end_id: Ends each row of image tokens (Lumina-mGPT); `None` where rows follow each other without a mark.
        size_ids: Height and width (Lumina-mGPT); empty where the size is not told.
    """

    kind: Literal["chameleon"]
    vocabulary: ChameleonVocabulary
    turn_end_id: int
    row_end_id: int | None = None
    size_ids: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _check_square(self) -> "ChameleonLayout":
        if self.grid[0] != self.grid[1]:
            raise ValueError("grid must be square")
        return self

    @property
    def row_end_ids(self) -> tuple[int, ...]:
        """Marks behind each row of image tokens."""
        return () if self.row_end_id is None else (self.row_end_id,)

    @property
    def image_offsets(self) -> Sequence[int]:
        """Places of the image tokens in raster order, counted from the first one; ends of rows are left out."""
        rows, columns = self.grid
        width = columns + len(self.row_end_ids)
        return [row * width + column for row in range(rows) for column in range(columns)]

    @property
    def predicted_offsets(self) -> Sequence[int]:
        """Places, counted from the first image token, of all that is learnt: image tokens, ends of rows and `eoi`."""
        rows, columns = self.grid
        return range(rows * (columns + len(self.row_end_ids)) + 1)

    def prompt_ids(self, text_ids: Sequence[int]) -> list[int]:
        """Text ids -> all that stands before the first image token.

        Without text it is the unconditional prompt: `bos boi`, and for Lumina-mGPT `boi height width`, as its own
        training and guidance have it.
        """
        vocabulary = self.vocabulary
        rep = [] if vocabulary.rep_id is None else [vocabulary.rep_id]
        image_head = [vocabulary.boi_id, *self.size_ids, *rep]
        if text_ids:
            return [vocabulary.bos_id, *text_ids[: self.max_text_tokens], self.turn_end_id, *image_head]
        return image_head if self.size_ids else [vocabulary.bos_id, *image_head]

    def text_ids(self, text_tokenizer: Any, text: str) -> list[int]:
        """Encodes a prompt; for Lumina-mGPT within the sentence that its weights were trained to draw from."""
        if self.size_ids:
            rows, columns = self.grid
            text = _LUMINA_REQUEST.format(width=columns * _PX_PER_TOKEN, height=rows * _PX_PER_TOKEN, text=text)
        return super().text_ids(text_tokenizer, text)


def read_chameleon_layout(
    where: str,
    vocabulary_map: Mapping[str, int] | None,
    *,
    image_layout: ImageLayout,
    grid: tuple[int, int],
    codebook_size: int,
    vocab_size: int,
    max_text_tokens: int,
    rep: bool = False,
) -> ChameleonLayout:
    """Builds the layout from a published `vocabulary_map`.

    Args:
        where: The model, for messages.
        vocabulary_map: Name -> id.
        image_layout: `plain` (Chameleon, Anole) or `lumina` (Lumina-mGPT); the files do not tell.
        grid: Rows and columns of image tokens.
        codebook_size: Codes of the image tokenizer.
        vocab_size: Rows of the model's embedding.
        max_text_tokens: Longest prompt.
        rep: Whether the sequence holds the `<REP>` token.

    Raises:
        BundleError: If the map lacks a token, or the grid cannot be told by the layout.
    """
    rows, columns = grid
    if rows != columns:
        raise BundleError(f"{where}: Chameleon's image tokens form a square, the corpus has {rows} x {columns}")
    if image_layout == "lumina" and columns % 2:
        raise BundleError(
            f"{where}: Lumina-mGPT tells the size of an image by an even number of tokens a side, found {columns}: use an "
            "image tokenizer of a size that is a multiple of 32 px, or image_layout: plain"
        )
    vocabulary = read_chameleon_vocabulary(
        where, vocabulary_map, codebook_size=codebook_size, vocab_size=vocab_size, rep=rep
    )
    names = vocabulary_map or {}
    is_lumina = image_layout == "lumina"
    return ChameleonLayout(
        kind="chameleon",
        vocabulary=vocabulary,
        grid=grid,
        max_text_tokens=max_text_tokens,
        turn_end_id=token_id(where, names, END_OF_TURN),
        row_end_id=token_id(where, names, LUMINA_END_OF_ROW) if is_lumina else None,
        size_ids=tuple(token_id(where, names, lumina_size_name(side)) for side in grid) if is_lumina else (),
    )
