"""The sequences of LlamaGen's language models: `prompt image... eoi`, the prompt a class or a caption.

The image always starts at the same position id, `max_text_tokens`, and a shorter caption ends there: LlamaGen pads
captions on the left, and its rotary positions count places of the image alone (arXiv 2406.06525, section 2.2). `eoi` is
ours: the published models end an image by its length.
"""

from collections.abc import Sequence
from typing import Any, Literal

from arra_med.errors import ReportError
from arra_med.tokens.layout import SequenceLayout


class LlamaGenLayout(SequenceLayout):
    """Layout of a class- or caption-conditional LlamaGen model.

    The prompt's ids lie behind the vocabulary: `vocab_size + k` is class k, or token k of the caption's T5 tokenizer.
    The unconditional prompt is made of `vocabulary.bos_id`, as many as the conditional prompt has tokens.

    Attributes:
        kind: Tells it from the plain layout where one is read.
        num_classes: Of a class-conditional model; `None` where captions are read.
    """

    kind: Literal["llamagen"]
    num_classes: int | None

    def prompt_ids(self, text_ids: Sequence[int]) -> list[int]:
        """Ids of a text -> the prompt; no text -> the unconditional prompt; a long one loses tokens before its last."""
        if not text_ids:
            return [self.vocabulary.bos_id] * self.max_text_tokens
        if len(text_ids) <= self.max_text_tokens:
            return list(text_ids)
        return [*text_ids[: self.max_text_tokens - 1], text_ids[-1]]  # T5's end-of-text stays

    def unconditional_beside(self, prompt_ids: Sequence[int]) -> list[int]:
        """The unconditional prompt has the conditional one's length: in LlamaGen both rows share one padding mask."""
        return [self.vocabulary.bos_id] * len(prompt_ids)

    def dropped_text_ids(self, text_ids: Sequence[int]) -> list[int]:
        """A dropped caption keeps its length, as in LlamaGen's own training and as guidance asks for it."""
        return [self.vocabulary.bos_id] * len(text_ids)

    def first_position(self, num_prompt_tokens: int) -> int:
        """The position id of a prompt's first token, so that the image starts at `max_text_tokens`."""
        return self.max_text_tokens - num_prompt_tokens

    def text_ids(self, text_tokenizer: Any, text: str) -> list[int]:
        """Encodes a class name or number, or a caption (in lower case, as LlamaGen's captions were).

        Raises:
            ReportError: If a class-conditional model does not know the class.
        """
        first = self.vocabulary.vocab_size
        if self.num_classes is None:
            ids = text_tokenizer(text.lower().strip(), split_special_tokens=True)["input_ids"]
            return [first + token for token in ids]
        ids = text_tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if len(ids) != 1 or ids[0] >= 2 * self.num_classes:
            raise ReportError(
                f"this model draws one of {self.num_classes:,} classes and knows no class of that name: give the name of "
                f"a class, such as 'golden retriever' or 'a photo of a tench', or its number from 0 to {self.num_classes - 1}"
            )
        return [first + ids[0] % self.num_classes]  # a class has two spellings, its name and its number
