"""How faithful an image tokenizer is: PSNR, MS-SSIM and how much of its codebook it uses."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from monai.metrics import MultiScaleSSIMMetric

from arra_med.tokens.protocol import ImageTokenizer

MS_SSIM_WINDOW_PX = 7
"""Side of the Gaussian window: five scales then need 112 px, so that 128 px images can be measured."""

MS_SSIM_SCALES = 5

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first


@dataclass(frozen=True)
class TokenizerFidelity:
    """Fidelity on a set of images, means over images.

    Attributes:
        psnr_db: Mean peak signal-to-noise ratio, for the range [0, 1].
        ms_ssim: Mean multi-scale SSIM (five scales, window `MS_SSIM_WINDOW_PX`); NaN under 112 px.
        codes_used: Share of the codebook that occurs at all.
        code_perplexity: exp of the entropy of the codes' frequencies, in codes.
        num_images: Images measured.
    """

    psnr_db: float
    ms_ssim: float
    codes_used: float
    code_perplexity: float
    num_images: int


def ms_ssim_scales(size_px: int) -> int:
    """Returns how many scales, at most five, fit images of a side: the coarsest must still hold the window; 0 if none."""
    fitting = 0
    for scales in range(1, MS_SSIM_SCALES + 1):
        # MONAI's own condition is the second one; halving asks for the first.
        if min(size_px // 2 ** (scales - 1), size_px // max(1, scales - 1) ** 2) >= MS_SSIM_WINDOW_PX:
            fitting = scales
    return fitting


def multi_scale_ssim(first: torch.Tensor, second: torch.Tensor, num_scales: int = MS_SSIM_SCALES) -> torch.Tensor:
    """Returns the multi-scale SSIM of each pair of images, by MONAI with a Gaussian window of `MS_SSIM_WINDOW_PX`.

    Args:
        first: (B, C, S, S) in [0, 1].
        second: The same shape.
        num_scales: Scales, at most `ms_ssim_scales(S)`. Of fewer than five the weights are scaled to the sum of five;
            values of different numbers of scales cannot be compared.

    Returns:
        (B,) float32, 1 for equal images.

    Source: Wang et al. 2003, "Multiscale structural similarity for image quality assessment".
    """
    kept = _SCALE_WEIGHTS[:num_scales]
    weights = tuple(weight * sum(_SCALE_WEIGHTS) / sum(kept) for weight in kept)
    metric = MultiScaleSSIMMetric(
        spatial_dims=2, kernel_size=MS_SSIM_WINDOW_PX, data_range=1.0, weights=weights, reduction="none"
    )
    return metric(first, second).flatten()


def psnr_db(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Returns the peak signal-to-noise ratio of each image in dB, float64 (B,), of (B, C, S, S) in [0, 1]."""
    error = (decoded.double() - images.double()).square().mean(dim=(1, 2, 3)).clamp(min=1e-12)
    return -10 * error.log10()


def measure_fidelity(tokenizer: ImageTokenizer, batches: Iterable[torch.Tensor]) -> TokenizerFidelity:
    """Encodes and decodes images and compares.

    Args:
        tokenizer: The tokenizer to measure.
        batches: Images float32 (B, C, S, S) in [0, 1].
    """
    counts = torch.zeros(tokenizer.codebook_size, dtype=torch.long)
    psnr, ms_ssim = [], []
    for images in batches:
        codes = tokenizer.encode(images)
        decoded = tokenizer.decode(codes)
        counts += torch.bincount(codes.flatten().cpu(), minlength=tokenizer.codebook_size)
        psnr.append(psnr_db(decoded, images))
        if ms_ssim_scales(images.shape[-1]) == MS_SSIM_SCALES:
            ms_ssim.append(multi_scale_ssim(decoded, images))
    frequencies = counts[counts > 0].double() / counts.sum()
    return TokenizerFidelity(
        psnr_db=float(torch.cat(psnr).mean()),
        ms_ssim=float(torch.cat(ms_ssim).mean()) if ms_ssim else float("nan"),
        codes_used=float((counts > 0).double().mean()),
        code_perplexity=float((-(frequencies * frequencies.log()).sum()).exp()),
        num_images=sum(len(part) for part in psnr),
    )
