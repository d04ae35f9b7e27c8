"""Finite scalar quantisation: a codebook without learned vectors, which therefore cannot collapse.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", ICLR 2024, arXiv 2309.15505, section 3.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn


class FiniteScalarQuantizer(nn.Module):
    """Rounds each of a few channels to a few levels; a code is the mixed-radix number of its digits.

    Args:
        levels: Levels of each channel, three or more; (8, 8, 6, 5) gives 1,920 codes. The first channel is the
            fastest digit.
    """

    _levels: torch.Tensor
    _radix: torch.Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.codebook_size = math.prod(self.levels)
        radix = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
        self.register_buffer("_levels", torch.tensor(self.levels), persistent=False)
        self.register_buffer("_radix", torch.tensor(radix), persistent=False)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Quantises with the straight-through gradient.

        Args:
            latent: (B, len(levels), h, w), unbounded.

        Returns:
            The same shape, each channel on its grid in [-1, 1].
        """
        bounded = self._bound(latent.float())
        half = self._half_width()
        return (bounded + (bounded.round() - bounded).detach()) / half

    def codes(self, latent: torch.Tensor) -> torch.Tensor:
        """Latent (B, len(levels), h, w) -> codes int64 (B, h, w)."""
        digits = (self._bound(latent.float()).round() + self._half_width()).long()
        return (digits * self._radix[:, None, None]).sum(1)

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 (B, h, w) -> quantised channels float32 (B, len(levels), h, w) in [-1, 1]."""
        digits = (codes[:, None] // self._radix[:, None, None]) % self._levels[:, None, None]
        half = self._half_width()
        return (digits - half) / half

    def _half_width(self) -> torch.Tensor:
        return (self._levels // 2)[:, None, None].float()

    def _bound(self, latent: torch.Tensor) -> torch.Tensor:
        """Squeezes each channel so that rounding gives exactly its number of levels (equation 1 and its even case)."""
        levels = self._levels[:, None, None].float()
        half = (levels - 1) * (1 - 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half)
        return torch.tanh(latent + shift) * half - offset
