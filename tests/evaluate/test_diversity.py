"""MS-SSIM within prompt groups: by hand where there is a hand, smaller for different images, defined for small ones."""

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric

from arra_med.errors import EvaluationError
from arra_med.evaluate.diversity import measure_prompt_diversity
from arra_med.tokens.fidelity import ms_ssim_scales, multi_scale_ssim


def images(num: int, size: int = 112, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num, 1, 7, 7)).repeat(size // 7, axis=2).repeat(size // 7, axis=3)
    return coarse.astype(np.uint8)


def test_copies_have_no_diversity_and_other_prompts_do_not_count() -> None:
    different = images(2)
    copies = different[[0, 0, 1, 1, 1]]
    result = measure_prompt_diversity(copies, ["a", "a", "b", "b", "b"])
    assert result.ms_ssim == pytest.approx(1.0, abs=1e-5)
    assert (result.num_groups, result.num_pairs, result.num_scales, result.window_px) == (2, 4, 5, 7)
    assert measure_prompt_diversity(different, ["a", "a"]).ms_ssim < 0.3


def test_it_is_monai_s_value_and_each_prompt_weighs_the_same() -> None:
    views = images(5)
    units = torch.from_numpy(views).float() / 255
    metric = MultiScaleSSIMMetric(spatial_dims=2, kernel_size=7)

    def similarity(i: int, j: int) -> float:
        return float(metric(units[i : i + 1], units[j : j + 1]))

    three = np.mean([similarity(0, 1), similarity(0, 2), similarity(1, 2)])
    result = measure_prompt_diversity(views, ["a", "a", "a", "b", "b"])
    assert result.ms_ssim == pytest.approx((three + similarity(3, 4)) / 2, rel=1e-5)


def test_of_a_large_group_some_pairs_are_drawn() -> None:
    views, prompts = images(6), ["a"] * 6
    first, again, other = (measure_prompt_diversity(views, prompts, max_pairs=4, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.num_pairs == 4
    assert first.ms_ssim != other.ms_ssim


@pytest.mark.parametrize(
    ("size", "scales"), [(6, 0), (7, 1), (14, 2), (28, 3), (62, 3), (63, 4), (111, 4), (112, 5), (128, 5)]
)
def test_small_images_have_fewer_scales_which_monai_can_take(size: int, scales: int) -> None:
    assert ms_ssim_scales(size) == scales
    if scales:
        first, second = torch.rand(2, 2, 1, size, size, generator=torch.Generator().manual_seed(0))
        assert multi_scale_ssim(first, first, scales) == pytest.approx([1.0, 1.0], abs=1e-4)
        assert (multi_scale_ssim(first, second, scales) < 0.9).all()


def test_sets_without_pairs_or_of_other_kinds_are_refused() -> None:
    with pytest.raises(EvaluationError, match="none of 2 prompts has two images, .* generate at least two of each"):
        measure_prompt_diversity(images(2), ["a", "b"])
    with pytest.raises(EvaluationError, match="2 images and 3 prompts: give each image its prompt"):
        measure_prompt_diversity(images(2), ["a"] * 3)
    with pytest.raises(EvaluationError, match="images of 6 px are smaller than the SSIM window of 7 px"):
        measure_prompt_diversity(np.zeros((2, 1, 6, 6), np.uint8), ["a", "a"])
    with pytest.raises(EvaluationError, match=r"shape \(2, 1, 112, 112\) and type float32: give square uint8"):
        measure_prompt_diversity(images(2).astype(np.float32), ["a", "a"])
