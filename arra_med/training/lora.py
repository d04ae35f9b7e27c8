"""LoRA for models whose full weights are too many to train: low-rank additions, and the rows of the image vocabulary.

The additions are `peft`'s. After training they are merged, so that a bundle stays a plain `transformers` model.
"""

from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import nn

from arra_med.config import StrictModel
from arra_med.errors import ConfigError
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.alignment import decoder_blocks

if TYPE_CHECKING:
    from peft import PeftModel


class LoraSettings(StrictModel):
    """What LoRA trains; everything else of the language model is frozen.

    Attributes:
        rank: Of the additions.
        alpha: Additions are scaled by alpha / rank.
        dropout: Of what goes into the additions, in training.
        targets: Names of the matrices inside a decoder block, such as `q_proj`; `null` takes all of them.
        image_rows: Whether the rows of the image vocabulary, in embedding and head, are trained along. A language model
            that has just got them needs it; one that draws images already can do without.
        seed: Of the additions, a random generator of its own: fine-tuning and ARRA start from the same ones.
    """

    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = None
    image_rows: bool = True
    seed: int = 0


def add_lora(language_model: Any, vocabulary: ImageVocabulary, settings: LoraSettings) -> "PeftModel":
    """Puts LoRA into a causal LM, in place, and freezes the rest of it.

    Args:
        language_model: With its image vocabulary.
        vocabulary: Which rows are the image's.
        settings: What is trained.

    Returns:
        The handle whose `merge_and_unload` puts the additions into the weights.

    Raises:
        ConfigError: If a target is not there, or `peft` is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ConfigError("lora needs the package peft, which is not installed: pip install peft") from None
    matrices = _block_matrices(language_model)
    short = {name.rpartition(".")[2] for name in matrices}
    if unknown := sorted(set(settings.targets or ()) - short):
        raise ConfigError(f"lora.targets names {unknown[0]}; the decoder blocks have {', '.join(sorted(short))}")
    wanted = [name for name in matrices if settings.targets is None or name.rpartition(".")[2] in settings.targets]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type] # peft divides it by the rank
        lora_dropout=settings.dropout,
        target_modules=wanted,
        fan_in_fan_out=not isinstance(matrices[wanted[0]], nn.Linear),  # GPT-2 stores its matrices transposed
        trainable_token_indices=_image_rows(language_model, vocabulary) if settings.image_rows else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return get_peft_model(language_model, config)


def lora_parameters(language_model: Any, settings: LoraSettings, num_image_rows: int) -> int:
    """Returns how many parameters `add_lora` would train; the meta device is enough.

    Args:
        language_model: A causal LM.
        settings: What is trained.
        num_image_rows: Rows of the image vocabulary, the marks around an image included.
    """
    matrices = _block_matrices(language_model)
    wanted = [m for name, m in matrices.items() if not settings.targets or name.rpartition(".")[2] in settings.targets]
    additions = sum(settings.rank * sum(matrix.weight.shape) for matrix in wanted)
    embedding, head = language_model.get_input_embeddings().weight, language_model.get_output_embeddings().weight
    tables = 0 if not settings.image_rows else 1 if head is embedding else 2
    return additions + tables * num_image_rows * int(embedding.shape[1])


def _block_matrices(language_model: Any) -> dict[str, Any]:
    """The modules of the decoder blocks that multiply by a matrix, by their names in the model."""
    inside = {id(module) for block in decoder_blocks(language_model) for module in block.modules()}
    return {
        name: module
        for name, module in language_model.named_modules()
        if id(module) in inside and getattr(getattr(module, "weight", None), "ndim", 0) == 2
    }


def _image_rows(language_model: Any, vocabulary: ImageVocabulary) -> dict[str, list[int]]:
    """Ids of the image tokens and of the marks around them, for the embedding and for a head of its own."""
    marks = [vocabulary.boi_id, vocabulary.eoi_id, *([] if vocabulary.rep_id is None else [vocabulary.rep_id])]
    first = vocabulary.first_image_id
    rows = sorted({*marks, *range(first, first + vocabulary.codebook_size)})
    embedding, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    modules = [embedding] if head.weight is embedding.weight else [embedding, head]
    names = {id(module): name for name, module in language_model.named_modules()}
    return {names[id(module)]: rows for module in modules}
