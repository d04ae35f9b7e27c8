"""Gives any Hugging Face causal language model an image vocabulary."""

from typing import Any

import torch

from arra_med.errors import BundleError
from arra_med.tokens.vocabulary import ImageVocabulary

BEGIN_OF_TEXT, PADDING = "<|text_begin|>", "<|padding|>"
BEGIN_OF_IMAGE, END_OF_IMAGE, REPRESENTATION = "<|image_begin|>", "<|image_end|>", "<|rep|>"


def add_image_vocabulary(
    model: Any,
    text_tokenizer: Any,
    codebook_size: int,
    *,
    rep: bool = False,
    spread: float = 0.1,
    pad_to_multiple_of: int = 64,
    seed: int = 0,
) -> ImageVocabulary:
    """Adds marks and image codes to a model and its tokenizer, in place.

    The marks (begin and end of image, padding, begin of text where the tokenizer has none) become special tokens with
    names. The image codes get consecutive ids behind them and no names, so that no text can be read as an image. New
    rows start at the mean of the old ones plus noise; old rows, and a head that is not tied, are kept as they are.

    Args:
        model: A `transformers` causal LM, tied or untied.
        text_tokenizer: Its tokenizer.
        codebook_size: Number of image codes.
        rep: Whether to add the `<REP>` mark.
        spread: Standard deviation of the noise, in standard deviations of the old rows (1 for a random start).
        pad_to_multiple_of: The number of rows is rounded up to a multiple of this; the last rows are never used.
        seed: Seed of the noise.

    Returns:
        The ids.

    Raises:
        BundleError: If the tokenizer already holds an image vocabulary.
    """
    if BEGIN_OF_IMAGE in text_tokenizer.get_vocab():
        raise BundleError("this model already has an image vocabulary; start from it with start.kind: bundle")
    num_old = model.get_input_embeddings().weight.shape[0]
    marks = [BEGIN_OF_IMAGE, END_OF_IMAGE, PADDING, *([REPRESENTATION] if rep else [])]
    if text_tokenizer.bos_token is None:
        marks.append(BEGIN_OF_TEXT)
        text_tokenizer.add_special_tokens({"bos_token": BEGIN_OF_TEXT})
    text_tokenizer.add_special_tokens({"additional_special_tokens": [m for m in marks if m != BEGIN_OF_TEXT]})
    text_tokenizer.pad_token = PADDING
    first_image_id = max(num_old, len(text_tokenizer))
    used = first_image_id + codebook_size
    vocab_size = -(-used // pad_to_multiple_of) * pad_to_multiple_of
    with torch.random.fork_rng():  # transformers draws the rows that are overwritten below
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    tokens = text_tokenizer.convert_tokens_to_ids
    vocabulary = ImageVocabulary(
        bos_id=text_tokenizer.bos_token_id,
        pad_id=tokens(PADDING),
        boi_id=tokens(BEGIN_OF_IMAGE),
        eoi_id=tokens(END_OF_IMAGE),
        rep_id=tokens(REPRESENTATION) if rep else None,
        first_image_id=first_image_id,
        codebook_size=codebook_size,
        vocab_size=vocab_size,
    )
    new_rows = sorted({*tokens(marks), *range(first_image_id, vocab_size)})
    old_rows = sorted(set(range(num_old)) - set(new_rows))
    generator = torch.Generator().manual_seed(seed)
    _start_rows(model.get_input_embeddings().weight, old_rows, new_rows, spread, generator)
    head = model.get_output_embeddings()
    if head.weight is not model.get_input_embeddings().weight:
        _start_rows(head.weight, old_rows, new_rows, spread, generator)
    _set_ids(model, vocabulary)
    return vocabulary


@torch.no_grad()
def _start_rows(
    weight: torch.Tensor, old_rows: list[int], new_rows: list[int], spread: float, generator: torch.Generator
) -> None:
    old = weight[old_rows].float()
    noise = torch.randn(len(new_rows), weight.shape[1], generator=generator)
    weight[new_rows] = (old.mean(0) + spread * old.std(0) * noise.to(old.device)).to(weight.dtype)


def _set_ids(model: Any, vocabulary: ImageVocabulary) -> None:
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = vocabulary.bos_id
        settings.eos_token_id = vocabulary.eoi_id
        settings.pad_token_id = vocabulary.pad_id
