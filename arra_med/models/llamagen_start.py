"""LlamaGen's architecture as the start of a training: published weights (`arra-adapt`) or random ones (`arra-base`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arra_med.config import StrictModel

if TYPE_CHECKING:
    from arra_med.models.llamagen_checkpoint import LlamaGenParts

LlamaGenSize = Literal["B", "L", "XL", "XXL", "XXXL", "1B", "3B", "7B"]


class LlamaGenStart(StrictModel):
    """A LlamaGen model.

    Attributes:
        weights: A published file, such as `c2i_B_256.pt`; without it the weights are random and `size` says how many.
        size: Published size of a model with random weights.
        text_encoder: Frozen T5 encoder (folder or hub id), for prompts that are text; without it a prompt is a class.
        class_names: File with one class name a line; by default ImageNet's classes.
        num_heads: Of weights whose size was never published.
        seed: Of random weights.
    """

    kind: Literal["llamagen"] = "llamagen"
    weights: Path | None = None
    size: LlamaGenSize = "B"
    text_encoder: str | None = None
    class_names: Path | None = None
    num_heads: int | None = None
    seed: int = 0


def llamagen_start(
    config: LlamaGenStart, *, grid: tuple[int, int], codebook_size: int, max_text_tokens: int
) -> "LlamaGenParts":
    """Builds the model that a training starts from.

    Args:
        config: Which model.
        grid: Rows and columns of image tokens.
        codebook_size: Codes of the image tokenizer.
        max_text_tokens: Longest caption of a model with random weights; published weights have their own.

    Raises:
        BundleError: If a file cannot be opened or does not fit.
    """
    from arra_med.models.llamagen_checkpoint import random_llamagen, read_llamagen
    from arra_med.models.llamagen_prompts import read_class_names

    class_names = read_class_names(config.class_names) if config.class_names is not None else None
    if config.weights is not None:
        return read_llamagen(
            config.weights,
            grid=grid,
            codebook_size=codebook_size,
            text_encoder=config.text_encoder,
            class_names=class_names,
            num_heads=config.num_heads,
        )
    return random_llamagen(
        config.size,
        grid=grid,
        codebook_size=codebook_size,
        max_text_tokens=max_text_tokens,
        text_encoder=config.text_encoder,
        class_names=class_names,
        seed=config.seed,
    )
