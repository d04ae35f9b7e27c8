"""Which ids of a language model's vocabulary are image tokens and image marks."""

import torch
from pydantic import model_validator

from arra_med.config import StrictModel


class ImageVocabulary(StrictModel):
    """The ids that an image vocabulary added to a language model.

    Image codes [0, codebook_size) stand at the consecutive ids from `first_image_id` on.

    Attributes:
        bos_id: Begin of sequence.
        pad_id: Padding; never seen by the loss or by attention.
        boi_id: Begin of image.
        eoi_id: End of image.
        rep_id: The fixed `<REP>` token that ARRA may align in place of the image positions; `None` where unused.
        first_image_id: Id of code 0.
        codebook_size: Number of codes.
        vocab_size: Rows of the embedding, padding of the vocabulary included.
    """

    bos_id: int
    pad_id: int
    boi_id: int
    eoi_id: int
    rep_id: int | None = None
    first_image_id: int
    codebook_size: int
    vocab_size: int

    @model_validator(mode="after")
    def _check(self) -> "ImageVocabulary":
        marks = [i for i in (self.bos_id, self.pad_id, self.boi_id, self.eoi_id, self.rep_id) if i is not None]
        if len(set(marks)) != len(marks):
            raise ValueError("bos, pad, boi, eoi and rep must be different ids")
        if any(self.first_image_id <= i < self.end_image_id for i in marks):
            raise ValueError("a mark lies among the image ids")
        if max([*marks, self.end_image_id - 1]) >= self.vocab_size:
            raise ValueError("an id lies outside the vocabulary")
        return self

    @property
    def end_image_id(self) -> int:
        """One past the id of the last code."""
        return self.first_image_id + self.codebook_size

    @property
    def image_rows(self) -> slice | list[int]:
        """Rows of the embedding and of the head that belong to the codes, in the codes' order."""
        return slice(self.first_image_id, self.end_image_id)

    def image_ids(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes in [0, codebook_size) -> token ids, same shape."""
        return codes + self.first_image_id

    def codes(self, ids: torch.Tensor) -> torch.Tensor:
        """Image token ids -> codes, same shape.

        Raises:
            ValueError: If an id is no image token.
        """
        if ids.numel() and not self.first_image_id <= int(ids.min()) <= int(ids.max()) < self.end_image_id:
            raise ValueError("an id is no image token")
        return ids - self.first_image_id
