"""The convolutional encoder and decoder of LlamaGen's and Chameleon's image tokenizers, named as in LlamaGen's weights.

The design is VQGAN's (arXiv 2012.09841, section 3.1 and appendix): levels of residual blocks, self-attention at the
lowest resolution only, half the side from level to level.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _conv(channels: int, out_channels: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, stride=stride, padding=padding)


class _ResidualBlock(nn.Module):
    """(B, C, H, W) -> (B, C', H, W): two normalised convolutions beside a shortcut, 1 x 1 where the width changes."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), _conv(channels, out_channels)
        self.norm2, self.conv2 = _norm(out_channels), _conv(out_channels, out_channels)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        change = self.conv1(F.silu(self.norm1(values)))
        change = self.conv2(F.silu(self.norm2(change)))
        return change + (self.nin_shortcut(values) if hasattr(self, "nin_shortcut") else values)


class _Attention(nn.Module):
    """(B, C, H, W) -> same: one head of self-attention over all places, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        normed = self.norm(values)
        query, key, value = (conv(normed).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(values.shape)
        return values + self.proj_out(attended)


class _Halve(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2); a row and a column of zeros are added at the bottom and the right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, stride=2, padding=0)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(values, (0, 1, 0, 1)))


class _Double(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): every place four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(values, scale_factor=2.0, mode="nearest"))


class _Level(nn.Module):
    """The blocks of one resolution and, behind them, the step to the next one."""

    def __init__(self, channels: int, out_channels: int, num_blocks: int, *, attends: bool) -> None:
        super().__init__()
        widths = [channels, *[out_channels] * num_blocks]
        self.res = nn.ModuleList(_ResidualBlock(*pair) for pair in itertools.pairwise(widths))
        self.attn = nn.ModuleList(_Attention(out_channels) for _ in range(num_blocks if attends else 0))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for index, block in enumerate(self.res):
            values = block(values)
            if len(self.attn):
                values = self.attn[index](values)
        for step in ("downsample", "upsample"):
            if hasattr(self, step):
                values = getattr(self, step)(values)
        return values


def _middle(channels: int) -> nn.ModuleList:
    return nn.ModuleList([_ResidualBlock(channels, channels), _Attention(channels), _ResidualBlock(channels, channels)])


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> latent values (B, latent_channels, H / 2^(n-1), W / 2^(n-1)) for n levels.

    Args:
        widths: Channels of each level, from the image's resolution downwards.
        num_blocks: Residual blocks of a level.
        latent_channels: Channels that leave it.
        stem: Channels of the first convolution.
        attends: Whether the lowest level has self-attention; the middle has it always.
    """

    def __init__(
        self, widths: Sequence[int], num_blocks: int, latent_channels: int, stem: int, *, attends: bool = True
    ) -> None:
        super().__init__()
        self.conv_in = _conv(3, stem)
        self.conv_blocks = nn.ModuleList()
        for index, (before, width) in enumerate(zip((stem, *widths), widths, strict=False)):
            last = index + 1 == len(widths)
            level = _Level(before, width, num_blocks, attends=attends and last)
            if not last:
                level.downsample = _Halve(width)
            self.conv_blocks.append(level)
        self.mid = _middle(widths[-1])
        self.norm_out, self.conv_out = _norm(widths[-1]), _conv(widths[-1], latent_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the latent values."""
        values = self.conv_in(images)
        for part in (*self.conv_blocks, *self.mid):
            values = part(values)
        latent: torch.Tensor = self.conv_out(F.silu(self.norm_out(values)))
        return latent


class Decoder(nn.Module):
    """Latent values (B, latent_channels, h, w) -> images (B, 3, H, W) around [-1, 1], not clamped.

    Args:
        widths: As the encoder's; the decoder goes through them from the last to the first.
        num_blocks: As the encoder's; the decoder has one more on each level.
        latent_channels: Channels that enter.
        attends: As the encoder's.
    """

    def __init__(self, widths: Sequence[int], num_blocks: int, latent_channels: int, *, attends: bool = True) -> None:
        super().__init__()
        self.conv_in = _conv(latent_channels, widths[-1])
        self.mid = _middle(widths[-1])
        self.conv_blocks = nn.ModuleList()
        upwards = list(reversed(widths))
        for index, (before, width) in enumerate(zip((widths[-1], *upwards), upwards, strict=False)):
            level = _Level(before, width, num_blocks + 1, attends=attends and index == 0)
            if index + 1 < len(widths):
                level.upsample = _Double(width)
            self.conv_blocks.append(level)
        self.norm_out, self.conv_out = _norm(widths[0]), _conv(widths[0], 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Computes the images."""
        values = self.conv_in(values)
        for part in (*self.mid, *self.conv_blocks):
            values = part(values)
        images: torch.Tensor = self.conv_out(F.silu(self.norm_out(values)))
        return images
