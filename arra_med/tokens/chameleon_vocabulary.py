"""Chameleon's own image vocabulary, read from the `vocabulary_map` of a published configuration.

Image tokens are named `IMGIMG<digits>Z`, the digits of the code written as letters (A is 0, J is 9). Begin and end of an
image, the end of a turn and Lumina-mGPT's tokens for sizes and rows have names too, so no id stands in this code.

Source: Chameleon, arXiv 2405.09818, and the tokenizer published with it; Lumina-mGPT, arXiv 2408.02657, section 3.2.
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import model_validator

from arra_med.errors import BundleError
from arra_med.tokens.vocabulary import ImageVocabulary

ImageLayout = Literal["plain", "lumina"]

BEGIN_OF_SEQUENCE, PADDING, END_OF_TURN = "<s>", "<pad>", "<reserved08706>"
BEGIN_OF_IMAGE, END_OF_IMAGE = "<racm3:break>", "<eoss>"
REPRESENTATION = "<reserved08708>"  # published without a use; ARRA's <REP> where it is asked for
LUMINA_END_OF_ROW = "<reserved08799>"
MARKS = (BEGIN_OF_SEQUENCE, PADDING, END_OF_TURN, BEGIN_OF_IMAGE, END_OF_IMAGE)
_IMAGE_TOKEN = re.compile(r"IMGIMG([A-J]+)Z")
_LUMINA_FIRST_SIZE = 8800
_TOKENS_PER_SIZE = 2  # Lumina-mGPT counts a side in patches of two by two tokens


class ChameleonVocabulary(ImageVocabulary):
    """Image ids that are consecutive, but need not follow the order of the codes.

    Attributes:
        image_order: For each code its id's distance from `first_image_id`; `None` where ids follow the codes.
    """

    image_order: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _check_order(self) -> "ChameleonVocabulary":
        if self.image_order is not None and sorted(self.image_order) != list(range(self.codebook_size)):
            raise ValueError("image_order must hold each place of the image vocabulary once")
        return self

    @property
    def image_rows(self) -> slice | list[int]:
        """Rows of the embedding and of the head that belong to the codes, in the codes' order."""
        if self.image_order is None:
            return super().image_rows
        return [self.first_image_id + place for place in self.image_order]

    def image_ids(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes in [0, codebook_size) -> token ids, same shape."""
        places = codes if self.image_order is None else torch.tensor(self.image_order, device=codes.device)[codes]
        return super().image_ids(places)

    def codes(self, ids: torch.Tensor) -> torch.Tensor:
        """Image token ids -> codes, same shape.

        Raises:
            ValueError: If an id is no image token.
        """
        places = super().codes(ids)
        return places if self.image_order is None else torch.tensor(self.image_order).argsort().to(ids.device)[places]


def image_token_ids(vocabulary_map: Mapping[str, int]) -> dict[int, int]:
    """Returns the token id of each code that the map names."""
    found = {}
    for name, token in vocabulary_map.items():
        if match := _IMAGE_TOKEN.fullmatch(name):
            found[int("".join(str(ord(letter) - ord("A")) for letter in match[1]))] = token
    return found


def read_chameleon_vocabulary(
    where: str, vocabulary_map: Mapping[str, int] | None, *, codebook_size: int, vocab_size: int, rep: bool = False
) -> ChameleonVocabulary:
    """Finds the image vocabulary in a published map.

    Args:
        where: The model, for messages.
        vocabulary_map: Name -> id.
        codebook_size: Codes of the image tokenizer.
        vocab_size: Rows of the model's embedding.
        rep: Whether the sequence holds the `<REP>` token.

    Raises:
        BundleError: If image tokens or marks are missing, are not consecutive, or do not fit the image tokenizer.
    """
    ids = image_token_ids(vocabulary_map or {})
    if vocabulary_map is None or not ids:
        raise BundleError(
            f"{where}: its configuration names no image tokens (IMGIMG...Z in vocabulary_map); give a Chameleon model as "
            "transformers writes it"
        )
    if sorted(ids) != list(range(len(ids))) or sorted(ids.values()) != list(
        range(min(ids.values()), min(ids.values()) + len(ids))
    ):
        raise BundleError(f"{where}: its image tokens are not one for each code on consecutive ids; download it again")
    if len(ids) != codebook_size:
        raise BundleError(
            f"{where}: names {len(ids)} image tokens, the image tokenizer has {codebook_size} codes; give Chameleon's own "
            "image tokenizer"
        )
    names = (*MARKS, *((REPRESENTATION,) if rep else ()))
    marks = {name: token_id(where, vocabulary_map, name) for name in names}
    first = min(ids.values())
    order = tuple(ids[code] - first for code in range(codebook_size))
    if max(*marks.values(), first + codebook_size - 1) >= vocab_size:
        raise BundleError(
            f"{where}: vocabulary_map goes beyond the {vocab_size} rows of the embedding; download it again"
        )
    return ChameleonVocabulary(
        bos_id=marks[BEGIN_OF_SEQUENCE],
        pad_id=marks[PADDING],
        boi_id=marks[BEGIN_OF_IMAGE],
        eoi_id=marks[END_OF_IMAGE],
        rep_id=marks.get(REPRESENTATION),
        first_image_id=first,
        codebook_size=codebook_size,
        vocab_size=vocab_size,
        image_order=None if order == tuple(range(codebook_size)) else order,
    )


def token_id(where: str, vocabulary_map: Mapping[str, int], name: str) -> int:
    """Returns the id of a named token.

    Raises:
        BundleError: If the map does not name it.
    """
    if name not in vocabulary_map:
        raise BundleError(f"{where}: its vocabulary_map lacks {name}; give a model with Chameleon's vocabulary")
    return vocabulary_map[name]


def lumina_size_name(num_tokens: int) -> str:
    """Returns the name of the token by which Lumina-mGPT tells a side of `num_tokens` image tokens."""
    return f"<reserved{_LUMINA_FIRST_SIZE + num_tokens // _TOKENS_PER_SIZE:05d}>"
