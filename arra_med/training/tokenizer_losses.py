"""What the image tokenizer is trained on: pixels, spectrum, the features of a frozen network, and an adversary."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import nn

from arra_med.config import StrictModel
from arra_med.encoders.efficientnet_lite import load_efficientnet_lite


class TokenizerLossConfig(StrictModel):
    """Weights of the terms; a weight of 0 leaves a term out.

    Attributes:
        pixel: Mean absolute difference.
        spectral: Mean squared difference of Fourier amplitudes, which keeps texture.
        perceptual: Difference of unit-length features of a frozen network.
        perceptual_network: EfficientNet-Lite0 with ImageNet weights, at the view's own size; Lite2 is kept for judging.
        adversarial: Least-squares PatchGAN, from `adversarial_start` (fraction of the steps) on.
        adversarial_start: See above.
        discriminator_width: Channels of the discriminator's first layer.
    """

    pixel: float = 1.0
    spectral: float = 0.5
    perceptual: float = 0.5
    perceptual_network: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    adversarial: float = 0.05
    adversarial_start: float = 0.4
    discriminator_width: int = 32


@dataclass
class TokenizerLosses:
    """Named losses of one step; `total` is what the tokenizer descends."""

    total: torch.Tensor
    parts: dict[str, float]


class PerceptualLoss(nn.Module):
    """Distance of unit-length feature maps at several depths of a frozen network, as LPIPS without learned weights.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Literal["efficientnet_lite0"], depths: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        encoder = load_efficientnet_lite(network)
        self.network: Any = encoder.network
        self.register_buffer("mean", encoder.mean, persistent=False)
        self.register_buffer("std", encoder.std, persistent=False)
        self.depths = list(depths)

    def forward(self, reconstructed: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Mean distance of two batches (B, C, S, S) in about [0, 1]; gradients reach only `reconstructed`."""
        with torch.no_grad():
            wanted = self._features(images)
        found = self._features(reconstructed)
        distances = [(a.float() - b.float()).square().sum(1).mean() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(distances).mean()

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        rgb = images.expand(-1, 3, -1, -1)
        maps = self.network.forward_intermediates(
            (rgb - self.mean) / self.std, indices=self.depths, intermediates_only=True
        )
        return [F.normalize(features, dim=1) for features in maps]


def spectral_loss(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the amplitudes of the two-dimensional spectra (orthonormal) of (B, C, S, S).

    The value of MONAI's JukeboxLoss for one channel; there, an amplitude of exactly zero has no finite gradient.

    Source: Dhariwal et al., "Jukebox", arXiv 2005.00341, section 3.3.
    """
    amplitude = torch.fft.fft2(decoded, norm="ortho").abs()  # the gradient of a complex absolute value is 0 at 0
    return F.mse_loss(amplitude, torch.fft.fft2(images, norm="ortho").abs())


class TokenizerObjective(nn.Module):
    """The generator's and the discriminator's losses; holds the discriminator and the frozen perceptual network."""

    def __init__(self, config: TokenizerLossConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.discriminator = PatchDiscriminator(
            spatial_dims=2, channels=config.discriminator_width, in_channels=channels, num_layers_d=3, norm="INSTANCE"
        )
        self.perceptual = PerceptualLoss(config.perceptual_network) if config.perceptual else None
        self.adversarial = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def tokenizer_losses(self, decoded: torch.Tensor, images: torch.Tensor, adversarial: bool) -> TokenizerLosses:
        """Losses of the tokenizer for decoded and original images (B, C, S, S) in [0, 1]."""
        weights = self.config
        terms = {"pixel": (weights.pixel, (decoded.float() - images).abs().mean())}
        if weights.spectral:
            terms["spectral"] = (weights.spectral, spectral_loss(decoded.float(), images))
        if self.perceptual is not None:
            terms["perceptual"] = (weights.perceptual, self.perceptual(decoded, images))
        if adversarial:
            verdict = self.discriminator(decoded)[-1].float()
            fooled = self.adversarial(verdict, target_is_real=True, for_discriminator=False)
            terms["adversarial"] = (weights.adversarial, fooled)
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return TokenizerLosses(total, {name: float(value.detach()) for name, (_, value) in terms.items()})

    def discriminator_loss(self, decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Loss of the discriminator; no gradient reaches the tokenizer."""
        on_decoded = self.discriminator(decoded.detach())[-1].float()
        on_images = self.discriminator(images)[-1].float()
        return 0.5 * (
            self.adversarial(on_decoded, target_is_real=False, for_discriminator=True)
            + self.adversarial(on_images, target_is_real=True, for_discriminator=True)
        )
