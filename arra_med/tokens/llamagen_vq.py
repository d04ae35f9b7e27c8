"""LlamaGen's image tokenizer (VQ-16 and VQ-8) from its published weights.

Source: Sun et al., arXiv 2406.06525, section 2.1: a VQGAN whose codebook has 16,384 vectors of 8 channels on the unit
sphere; a latent vector takes the code that points the same way best.
"""

import json
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator
from safetensors.torch import save_file
from torch import nn

from arra_med.config import StrictModel
from arra_med.errors import TokenizerError
from arra_med.published_weights import read_published_weights, require_names_and_shapes
from arra_med.runs import atomic_file, write_json
from arra_med.tokens.llamagen_vq_network import Decoder, Encoder

_KEYS = ("model", "module", "state_dict", "ema")  # the language models were trained on the codes of "model"
_USAGE_STATISTIC = "quantize.codebook_used"  # of its training; decides no code


class LlamaGenVQConfig(StrictModel):
    """Shape of a `LlamaGenVQ`; the defaults are the published VQ-16.

    Attributes:
        kind: LlamaGen's; or Chameleon's (`chameleon-vq`), which has attention in the middle alone and a Euclidean codebook.
        size_px: Side of the images; the weights fit any multiple of the downsampling.
        channels: 3 (RGB), or 1: grayscale images are encoded as RGB with equal channels and decoded to their mean.
        stem: Channels of the first convolution.
        widths: Channels of each level; a level halves the side of the one before.
        blocks: Residual blocks of a level of the encoder; the decoder has one more.
        latent_channels: Channels between the networks and the codebook's projections.
        codebook_size: Number of codes.
        codebook_channels: Channels of a code's vector.
    """

    kind: Literal["llamagen-vq", "chameleon-vq"] = "llamagen-vq"
    size_px: int = Field(default=256, gt=0)
    channels: Literal[1, 3] = 3
    stem: int = Field(default=128, gt=0)
    widths: tuple[int, ...] = (128, 128, 256, 256, 512)
    blocks: int = Field(default=2, gt=0)
    latent_channels: int = Field(default=256, gt=0)
    codebook_size: int = Field(default=16384, gt=0)
    codebook_channels: int = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "LlamaGenVQConfig":
        if not self.widths or any(width < 1 or width % 32 for width in (self.stem, *self.widths)):
            raise ValueError("stem and widths must be multiples of 32")
        if self.size_px % self.downsampling:
            raise ValueError(f"size_px {self.size_px} must be a multiple of the downsampling {self.downsampling}")
        return self

    @property
    def downsampling(self) -> int:
        """Pixels per code along each side."""
        return int(2 ** (len(self.widths) - 1))


class _Codebook(nn.Module):
    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, channels)


class LlamaGenVQ(nn.Module):
    """An `ImageTokenizer` with LlamaGen's or Chameleon's weights, in float32 so that its codes are the published ones."""

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size, self.downsampling = config.codebook_size, config.downsampling
        self.channels: int = config.channels
        self.size_px = config.size_px
        self._is_spherical = config.kind == "llamagen-vq"
        shape = (config.widths, config.blocks, config.latent_channels)
        self.encoder = Encoder(*shape, config.stem, attends=self._is_spherical)
        self.decoder = Decoder(*shape, attends=self._is_spherical)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.codebook_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.codebook_channels, config.latent_channels, 1)
        self.quantize = _Codebook(config.codebook_size, config.codebook_channels)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of one image."""
        side = self.size_px // self.downsampling
        return side, side

    @property
    def codebook(self) -> torch.Tensor:
        """The codes' vectors (codebook_size, codebook_channels), LlamaGen's each of length 1."""
        vectors: torch.Tensor = self.quantize.embedding.weight
        return F.normalize(vectors, dim=-1) if self._is_spherical else vectors

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (B, C, size_px, size_px) in [0, 1] -> codes int64 (B, h, w).

        Raises:
            TokenizerError: If the images have another shape.
        """
        expected = (self.channels, self.size_px, self.size_px)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise TokenizerError(f"images have shape {tuple(images.shape)}; this tokenizer takes (B, {expected})")
        latent = self.quant_conv(self.encoder(images.expand(-1, 3, -1, -1) * 2 - 1))
        # between vectors of length 1 the nearest one has the largest product; the latent's own length changes nothing
        nearness = latent.movedim(1, -1) @ self.codebook.T
        if not self._is_spherical:  # |z - e|^2 is |e|^2 - 2ze and a number that all codes share
            nearness = nearness - self.codebook.square().sum(dim=1) / 2
        return nearness.argmax(dim=-1)

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 (B, h, w) -> images float32 (B, C, H, W) in [0, 1].

        Raises:
            TokenizerError: If a code lies outside the codebook.
        """
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise TokenizerError(f"codes must lie in [0, {self.codebook_size}); decode only this tokenizer's own codes")
        images = self.decoder(self.post_quant_conv(self.codebook[codes].movedim(-1, 1))) / 2 + 0.5
        images = images.mean(dim=1, keepdim=True) if self.channels == 1 else images
        return images.float().clamp(0, 1)

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (float32) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "model.safetensors") as partial:
            save_file({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, partial)
        write_json(folder / "config.json", self.config.model_dump(mode="json"))

    @classmethod
    def from_pretrained(cls, folder: Path, device: str = "cpu") -> "LlamaGenVQ":
        """Opens what `save_pretrained` wrote, in eval mode.

        Raises:
            TokenizerError: If a part is missing or does not fit.
        """
        try:
            config = LlamaGenVQConfig.model_validate(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError, ValidationError):
            raise TokenizerError(f"{folder}: config.json is missing or not valid; copy the tokenizer again") from None
        path = folder / "model.safetensors"
        return filled_tokenizer(config, path, read_published_weights(path, (), TokenizerError)).to(device)


def read_llamagen_vq(path: Path, size_px: int = 256, channels: Literal[1, 3] = 3) -> LlamaGenVQ:
    """Opens a published file such as `vq_ds16_c2i.pt`; its tensors tell its shape.

    Args:
        path: The file.
        size_px: Side of the images, a multiple of the file's downsampling.
        channels: 3, or 1 for grayscale images.

    Raises:
        TokenizerError: If the file is none of LlamaGen's tokenizers, or the side does not fit.
    """
    tensors = read_published_weights(path, _KEYS, TokenizerError)
    levels = {int(name.split(".")[2]) for name in tensors if name.startswith("encoder.conv_blocks.")}
    try:
        widths = [tensors[f"encoder.conv_blocks.{level}.res.0.conv1.weight"].shape[0] for level in sorted(levels)]
        codebook_size, codebook_channels = tensors["quantize.embedding.weight"].shape
        config = LlamaGenVQConfig(
            size_px=size_px,
            channels=channels,
            stem=tensors["encoder.conv_in.weight"].shape[0],
            widths=tuple(widths),
            blocks=len({name.split(".")[4] for name in tensors if name.startswith("encoder.conv_blocks.0.res.")}),
            latent_channels=tensors["encoder.conv_out.weight"].shape[0],
            codebook_size=codebook_size,
            codebook_channels=codebook_channels,
        )
    except (KeyError, IndexError) as error:
        raise TokenizerError(
            f"{path}: is no LlamaGen image tokenizer, {error} is missing; give vq_ds16_c2i.pt, vq_ds16_t2i.pt or vq_ds8_c2i.pt"
        ) from None
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise TokenizerError(f"{path}: cannot be used so: {problem}") from None
    return filled_tokenizer(config, path, tensors)


def filled_tokenizer(config: LlamaGenVQConfig, path: Path, tensors: dict[str, torch.Tensor]) -> LlamaGenVQ:
    """A tokenizer with exactly these tensors, in eval mode and without gradients.

    Raises:
        TokenizerError: If a tensor is missing, left over or of another shape.
    """
    with torch.device("meta"):
        tokenizer = LlamaGenVQ(config)
    shapes = {name: tuple(value.shape) for name, value in tokenizer.state_dict().items()}
    require_names_and_shapes(path, tensors, shapes, TokenizerError, ignored=(_USAGE_STATISTIC,))
    tokenizer.load_state_dict({name: tensors[name].float() for name in shapes}, strict=True, assign=True)
    return tokenizer.eval().requires_grad_(False)
