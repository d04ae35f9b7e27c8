"""Chameleon's image tokenizer from Meta's `vqgan.ckpt`, whose tensors are named as in taming-transformers.

It is LlamaGen's network without attention on a level (only in the middle), and with a code for the nearest vector in
Euclidean space: 512 px, 32 x 32 tokens of 8,192 codes of 256 channels.

Source: Chameleon, arXiv 2405.09818, section 2.1; Make-A-Scene, arXiv 2203.13131.
"""

import re
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from arra_med.errors import TokenizerError
from arra_med.published_weights import read_published_weights, require_names_and_shapes
from arra_med.tokens.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig, filled_tokenizer

_KEYS = ("state_dict",)
_TRAINING_LOSS = "loss."  # discriminator and perceptual network, which Lightning saves with the model
_MIDDLE = {"0": "block_1", "1": "attn_1", "2": "block_2"}


def read_chameleon_vq(path: Path, size_px: int = 512, channels: Literal[1, 3] = 3) -> LlamaGenVQ:
    """Opens Meta's `vqgan.ckpt`; its tensors tell its shape.

    Args:
        path: The file.
        size_px: Side of the images, a multiple of the downsampling: 512, as published, or another.
        channels: 3, or 1 for grayscale images, which are encoded as RGB with equal channels and decoded to their mean.

    Raises:
        TokenizerError: If the file is another one, lacks tensors (the language model's folder has no decoder), or the
            side does not fit.
    """
    found = read_published_weights(path, _KEYS, TokenizerError)
    tensors = {name: value for name, value in found.items() if not name.startswith(_TRAINING_LOSS)}
    levels = sorted({int(name.split(".")[2]) for name in tensors if re.match(r"encoder\.down\.\d+\.", name)})
    try:
        codebook_size, codebook_channels = tensors["quantize.embedding.weight"].shape
        config = LlamaGenVQConfig(
            kind="chameleon-vq",
            size_px=size_px,
            channels=channels,
            stem=tensors["encoder.conv_in.weight"].shape[0],
            widths=tuple(tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in levels),
            blocks=len({name.split(".")[4] for name in tensors if name.startswith("encoder.down.0.block.")}),
            latent_channels=tensors["encoder.conv_out.weight"].shape[0],
            codebook_size=codebook_size,
            codebook_channels=codebook_channels,
        )
    except (KeyError, ValueError) as error:
        if isinstance(error, ValidationError):
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise TokenizerError(f"{path}: cannot be used so: {problem}") from None
        raise TokenizerError(
            f"{path}: is no image tokenizer of Chameleon, {error} is missing or of another shape; give Meta's vqgan.ckpt"
        ) from None
    shapes = tokenizer_shapes(config)
    names = {ours: published_name(ours, len(levels)) for ours in shapes}
    require_names_and_shapes(path, tensors, {names[ours]: shape for ours, shape in shapes.items()}, TokenizerError)
    return filled_tokenizer(config, path, {ours: tensors[theirs] for ours, theirs in names.items()})


def tokenizer_shapes(config: LlamaGenVQConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by this package's names."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in LlamaGenVQ(config).state_dict().items()}


def published_name(name: str, num_levels: int) -> str:
    """A tensor's name in taming-transformers; its decoder counts levels from the highest resolution."""
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.(\d)\.(.+)", name):
        half, place, rest = match.groups()
        return f"{half}.mid.{_MIDDLE[place]}.{rest}"
    if match := re.fullmatch(r"(encoder|decoder)\.conv_blocks\.(\d+)\.(.+)", name):
        half, place, rest = match.groups()
        rest = rest.replace("res.", "block.", 1)
        return (
            f"encoder.down.{place}.{rest}" if half == "encoder" else f"decoder.up.{num_levels - 1 - int(place)}.{rest}"
        )
    return name
