"""How different the images of one prompt are: the mean multi-scale SSIM of pairs within prompt groups.

Lower is more diverse. Pairs across prompts would measure how different the prompts are; the same figure of real images
that share a report is the value to compare with, not 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from arra_med.errors import EvaluationError
from arra_med.imaging.view import from_uint8
from arra_med.tokens.fidelity import MS_SSIM_WINDOW_PX, ms_ssim_scales, multi_scale_ssim

_BATCH_PAIRS = 32


@dataclass(frozen=True)
class PromptDiversity:
    """Similarity of the images of one prompt, mean over prompts.

    Attributes:
        ms_ssim: Mean over groups of the mean over their pairs, so that a prompt with many images weighs no more.
        num_groups: Prompts with at least two images.
        num_pairs: Pairs measured.
        num_scales: Scales of the SSIM; five from 112 px on. Values of different numbers cannot be compared.
        window_px: Side of its Gaussian window.
    """

    ms_ssim: float
    num_groups: int
    num_pairs: int
    num_scales: int
    window_px: int


def measure_prompt_diversity(
    images: np.ndarray, prompts: Sequence[str], *, max_pairs: int = 45, seed: int = 0
) -> PromptDiversity:
    """Measures the similarity of images within groups of one prompt.

    Args:
        images: uint8 (n, C, S, S).
        prompts: (n,), what each image was generated from; only equality counts.
        max_pairs: Pairs of a group; of a larger group that many are drawn without replacement.
        seed: Of the draw.

    Raises:
        EvaluationError: If shape or type is another one, no prompt has two images, or images are under
            `MS_SSIM_WINDOW_PX` px.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise EvaluationError(
            f"images have shape {images.shape} and type {images.dtype}: give square uint8 images of one size (n, C, S, S)"
        )
    if len(prompts) != len(images):
        raise EvaluationError(f"there are {len(images)} images and {len(prompts)} prompts: give each image its prompt")
    num_scales = ms_ssim_scales(images.shape[-1])
    if num_scales == 0:
        raise EvaluationError(
            f"images of {images.shape[-1]} px are smaller than the SSIM window of {MS_SSIM_WINDOW_PX} px: give larger ones"
        )
    groups: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(row)
    rng = np.random.default_rng(seed)
    means, num_pairs = [], 0
    for rows in groups.values():
        pairs = list(combinations(rows, 2))
        if not pairs:
            continue
        if len(pairs) > max_pairs:
            pairs = [pairs[index] for index in rng.permutation(len(pairs))[:max_pairs]]
        means.append(_mean_similarity(images, pairs, num_scales))
        num_pairs += len(pairs)
    if not means:
        raise EvaluationError(
            f"none of {len(groups)} prompts has two images, and diversity is between images of one prompt: generate at "
            "least two of each"
        )
    return PromptDiversity(float(np.mean(means)), len(means), num_pairs, num_scales, MS_SSIM_WINDOW_PX)


def _mean_similarity(images: np.ndarray, pairs: Sequence[tuple[int, int]], num_scales: int) -> float:
    total = 0.0
    for start in range(0, len(pairs), _BATCH_PAIRS):
        first, second = (list(rows) for rows in zip(*pairs[start : start + _BATCH_PAIRS], strict=True))
        left, right = (torch.from_numpy(from_uint8(images[rows])) for rows in (first, second))
        total += float(multi_scale_ssim(left, right, num_scales).double().sum())
    return total / len(pairs)
