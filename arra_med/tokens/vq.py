"""The trainable image tokenizer: a convolutional autoencoder on MONAI's blocks around a finite scalar codebook.

Most of the work is done at a quarter of the image's side (space to depth at the entrance, depth to space at the exit),
which makes it fast on a CPU.
"""

import json
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from monai.networks.nets.autoencoderkl import AEKLResBlock
from pydantic import ValidationError, model_validator
from safetensors.torch import load_file, save_file
from torch import nn

from arra_med.config import StrictModel
from arra_med.errors import TokenizerError
from arra_med.runs import atomic_file, write_json
from arra_med.tokens.fsq import FiniteScalarQuantizer

_STEM = 4  # pixels per side that the entrance folds into channels
_NORM_GROUPS = 16


class VQConfig(StrictModel):
    """Shape of a `VQTokenizer`.

    Attributes:
        size_px: Side of the images.
        channels: 1 (grayscale) or 3 (RGB).
        downsampling: Pixels per code along each side, a power of two from 4.
        width: Channels at a quarter of the side; each further halving doubles them, up to `max_width`.
        max_width: Upper bound of the channels.
        encoder_blocks: Residual blocks at each resolution of the encoder.
        decoder_blocks: Residual blocks at each resolution of the decoder.
        levels: Levels of the finite scalar codebook.
    """

    kind: Literal["fsq"] = "fsq"
    size_px: int = 128
    channels: Literal[1, 3] = 1
    downsampling: Literal[4, 8, 16, 32] = 8
    width: int = 128
    max_width: int = 256
    encoder_blocks: int = 2
    decoder_blocks: int = 2
    levels: tuple[int, ...] = (8, 8, 6, 5)

    @model_validator(mode="after")
    def _check(self) -> "VQConfig":
        if self.size_px % self.downsampling:
            raise ValueError(f"size_px {self.size_px} must be a multiple of downsampling {self.downsampling}")
        if self.width % (2 * _NORM_GROUPS) or self.max_width % _NORM_GROUPS:
            raise ValueError(f"width must be a multiple of {2 * _NORM_GROUPS}, max_width of {_NORM_GROUPS}")
        if not self.levels or min(self.levels) < 3:
            raise ValueError("levels must name at least one channel, each of three or more levels")
        return self

    @property
    def stage_widths(self) -> list[int]:
        """Channels at each resolution, from a quarter of the side downwards."""
        num_halvings = (self.downsampling // _STEM).bit_length() - 1
        return [min(self.width * 2**i, self.max_width) for i in range(num_halvings + 1)]


class VQTokenizer(nn.Module):
    """An `ImageTokenizer` that `arra-med tokenizer train` trains."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FiniteScalarQuantizer(config.levels)
        self.codebook_size = self.quantizer.codebook_size
        self.downsampling: int = config.downsampling
        self.channels: int = config.channels
        self.size_px = config.size_px
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of one image."""
        side = self.size_px // self.downsampling
        return side, side

    @property
    def codebook(self) -> torch.Tensor:
        """The codes' quantised channels (codebook_size, number of levels) in [-1, 1]."""
        device = next(self.parameters()).device
        return self.quantizer.values(torch.arange(self.codebook_size, device=device)[:, None, None])[..., 0, 0]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstructs images (B, C, H, W) in [0, 1] with gradients; the result is not clamped."""
        return self._decode_values(self.quantizer(self._latent(images)))

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (B, C, size_px, size_px) in [0, 1] -> codes int64 (B, h, w).

        Raises:
            TokenizerError: If the images have another shape.
        """
        expected = (self.channels, self.size_px, self.size_px)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise TokenizerError(f"images have shape {tuple(images.shape)}; this tokenizer takes (B, {expected})")
        return self.quantizer.codes(self._latent(images))

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 (B, h, w) -> images float32 (B, C, H, W) in [0, 1].

        Raises:
            TokenizerError: If a code lies outside the codebook.
        """
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise TokenizerError(f"codes must lie in [0, {self.codebook_size}); decode only this tokenizer's own codes")
        return self._decode_values(self.quantizer.values(codes)).float().clamp(0, 1)

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (bf16: half the size, no visible change) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().bfloat16().contiguous() for name, value in self.state_dict().items()}
        with atomic_file(folder / "model.safetensors") as partial:
            save_file(tensors, partial)
        write_json(folder / "config.json", self.config.model_dump(mode="json"))

    @classmethod
    def from_pretrained(cls, folder: Path, device: str = "cpu") -> "VQTokenizer":
        """Opens what `save_pretrained` wrote, in eval mode and float32.

        Raises:
            TokenizerError: If a part is missing or does not fit.
        """
        try:
            config = VQConfig.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError, ValidationError):
            raise TokenizerError(f"{folder}: config.json is missing or not valid; copy the tokenizer again") from None
        tokenizer = cls(config)
        try:
            state = load_file(folder / "model.safetensors")
            tokenizer.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
        except FileNotFoundError:
            raise TokenizerError(f"{folder}: model.safetensors is missing; copy the tokenizer again") from None
        except Exception as error:  # noqa: BLE001 - safetensors raises its own unexported type, torch a RuntimeError
            kind = type(error).__name__
            raise TokenizerError(
                f"{folder}: model.safetensors does not fit config.json ({kind}); copy it again"
            ) from None
        return tokenizer.to(device).eval().requires_grad_(False)

    def _latent(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(F.pixel_unshuffle(images * 2 - 1, _STEM))

    def _decode_values(self, values: torch.Tensor) -> torch.Tensor:
        return self.decoder(values) / 2 + 0.5


def _block(channels: int) -> nn.Module:
    return AEKLResBlock(2, channels, _NORM_GROUPS, 1e-6, channels)


def _encoder(config: VQConfig) -> nn.Sequential:
    widths = config.stage_widths
    layers: list[nn.Module] = [nn.Conv2d(config.channels * _STEM**2, widths[0], 3, padding=1)]
    for stage, width in enumerate(widths):
        layers += [_block(width) for _ in range(config.encoder_blocks)]
        if stage + 1 < len(widths):
            layers.append(nn.Conv2d(width, widths[stage + 1], 4, stride=2, padding=1))
    return nn.Sequential(*layers, _norm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], len(config.levels), 1))


def _decoder(config: VQConfig) -> nn.Sequential:
    widths = config.stage_widths[::-1]
    layers: list[nn.Module] = [nn.Conv2d(len(config.levels), widths[0], 3, padding=1)]
    for stage, width in enumerate(widths):
        layers += [_block(width) for _ in range(config.decoder_blocks)]
        if stage + 1 < len(widths):
            layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(width, widths[stage + 1], 3, padding=1)]
    half = widths[-1] // 2
    layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(widths[-1], half, 3, padding=1), _block(half), _norm(half)]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(half, config.channels * 4, 3, padding=1), nn.PixelShuffle(2))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_NORM_GROUPS, channels, eps=1e-6)
