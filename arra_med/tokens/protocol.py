"""What every image tokenizer offers, and how one is opened from a folder."""

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from arra_med.errors import TokenizerError


@runtime_checkable
class ImageTokenizer(Protocol):
    """Turns canonical views into grids of codes and back.

    Attributes:
        codebook_size: Number of codes; codes lie in [0, codebook_size).
        downsampling: Pixels per code along each side.
        channels: Channels of an image.
        size_px: Side of an image.
        grid: Rows and columns of codes of one image.
    """

    codebook_size: int
    downsampling: int
    channels: int
    size_px: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of one image."""
        ...

    @property
    def codebook(self) -> torch.Tensor:
        """What the decoder reads in the place of each code, (codebook_size, D)."""
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (B, C, H, W) in [0, 1] -> codes int64 (B, h, w)."""
        ...

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 (B, h, w) -> images float32 (B, C, H, W) in [0, 1]."""
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors."""
        ...


def load_image_tokenizer(folder: Path, device: str = "cpu") -> ImageTokenizer:
    """Opens the image tokenizer in a folder.

    Args:
        folder: Holds config.json (with its `kind`) and model.safetensors.
        device: Where its weights go.

    Raises:
        TokenizerError: If a part is missing, unreadable or does not fit the configuration.
    """
    from arra_med.tokens.vq import VQTokenizer

    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise TokenizerError(
            f"{folder}: has no readable config.json; an image tokenizer is a folder that `arra-med tokenizer train` wrote"
        ) from None
    except json.JSONDecodeError:
        raise TokenizerError(f"{path}: is not valid JSON; copy the tokenizer again or train it anew") from None
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind in ("llamagen-vq", "chameleon-vq"):
        from arra_med.tokens.llamagen_vq import LlamaGenVQ

        return LlamaGenVQ.from_pretrained(Path(folder), device)
    if kind != "fsq":
        raise TokenizerError(
            f"{path}: tokenizer kind {kind!r} is unknown; this version opens 'fsq', 'llamagen-vq' and 'chameleon-vq'"
        )
    return VQTokenizer.from_pretrained(Path(folder), device)
