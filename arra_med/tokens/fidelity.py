"""How faithful an image tokenizer is: PSNR, MS-SSIM and how much of its codebook it uses."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from monai.metrics import MultiScaleSSIMMetric

from arra_med.tokens.protocol import ImageTokenizer

MS_SSIM_WINDOW_PX = 7
"""Side of the Gaussian window: five scales then need 112 px, so that 128 px images can be measured."""


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


def measure_fidelity(tokenizer: ImageTokenizer, batches: Iterable[torch.Tensor]) -> TokenizerFidelity:
    """Encodes and decodes images and compares.

    Args:
        tokenizer: The tokenizer to measure.
        batches: Images float32 (B, C, S, S) in [0, 1].
    """
    similarity = MultiScaleSSIMMetric(spatial_dims=2, kernel_size=MS_SSIM_WINDOW_PX, data_range=1.0)
    counts = torch.zeros(tokenizer.codebook_size, dtype=torch.long)
    psnr, ms_ssim = [], []
    for images in batches:
        codes = tokenizer.encode(images)
        decoded = tokenizer.decode(codes)
        counts += torch.bincount(codes.flatten().cpu(), minlength=tokenizer.codebook_size)
        error = (decoded.double() - images.double()).square().mean(dim=(1, 2, 3)).clamp(min=1e-12)
        psnr.append(-10 * error.log10())
        if images.shape[-1] >= 16 * MS_SSIM_WINDOW_PX:
            ms_ssim.append(similarity(decoded, images).flatten())
    frequencies = counts[counts > 0].double() / counts.sum()
    return TokenizerFidelity(
        psnr_db=float(torch.cat(psnr).mean()),
        ms_ssim=float(torch.cat(ms_ssim).mean()) if ms_ssim else float("nan"),
        codes_used=float((counts > 0).double().mean()),
        code_perplexity=float((-(frequencies * frequencies.log()).sum()).exp()),
        num_images=sum(len(part) for part in psnr),
    )
