"""Kernel and neighbour distances: worked out by hand, against plain references, and with known expectations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from arra_med.errors import EvaluationError
from arra_med.evaluate import distances
from arra_med.evaluate.distances import cmmd, density_coverage, kernel_distance, precision_recall


def features(num: int, width: int = 6, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)) + shift


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_kid_by_hand() -> None:
    # One dimension, kernel (xy + 1)^3: within 0, 1 it is 1; within 1, 2 it is 27; across 1, 1, 8, 27.
    assert kernel_distance(column(0, 1), column(1, 2)) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kid_agrees_with_a_double_loop_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = features(11), features(8, seed=1, shift=0.4)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 6 + 1) ** 3)

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (real, generated)
    ]
    across = np.mean([kernel(x, y) for x in real for y in generated])
    for rows in (3, 1024):
        monkeypatch.setattr(distances, "_BLOCK_ROWS", rows)
        assert kernel_distance(real, generated) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_kid_is_unbiased_where_the_v_statistic_is_not() -> None:
    values = [kernel_distance(features(12, seed=2 * s), features(12, seed=2 * s + 1)) for s in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0


def test_cmmd_by_hand_and_by_the_published_formula() -> None:
    # Unit vectors at a right angle are sqrt(2) apart: 1000 (1 + 1 - 2 exp(-2 / 200)).
    assert cmmd(np.array([[3.0, 0.0]]), np.array([[0.0, 0.5]])) == pytest.approx(2000 * (1 - np.exp(-0.01)))
    real, generated = features(20), features(15, seed=1, shift=0.4)
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (real, generated)]

    def mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-cdist(x, y, "sqeuclidean") / 200).mean())

    expected = 1000 * (mean_kernel(units[0], units[0]) + mean_kernel(units[1], units[1]) - 2 * mean_kernel(*units))
    assert cmmd(real, generated) == pytest.approx(expected, rel=1e-9)
    assert cmmd(real, real[::-1] * 2) == pytest.approx(0.0, abs=1e-9)


def test_precision_and_recall_by_hand() -> None:
    # k = 1. Radii of 0, 1, 5: 1, 1, 4. Radii of 0.5, 20: 19.5 each.
    result = precision_recall(column(0, 1, 5), column(0.5, 20), num_neighbours=1)
    assert result.precision == 0.5  # 0.5 is near 0 and 1; 20 is near none
    assert result.recall == 1.0
    # A point on the edge of a ball is inside: 2 is exactly 1 away from 1.
    assert precision_recall(column(0, 1), column(2, 30), num_neighbours=1).precision == 0.5


def test_density_and_coverage_by_hand() -> None:
    # k = 1. 0.5 lies in the balls of 0 and 1 (radius 1 each) but 4.5 away from 5 (radius 4): density 2 / (1 * 2).
    result = density_coverage(column(0, 1, 5), column(0.5, 20), num_neighbours=1)
    assert result.density == 1.0
    assert result.coverage == pytest.approx(2 / 3)
    # A point on the edge of a ball is outside.
    assert density_coverage(column(0, 1), column(2, -1), num_neighbours=1).density == 0.0


def test_real_images_have_the_expected_density_and_coverage() -> None:
    results = [density_coverage(features(200, 4, seed=2 * s), features(200, 4, seed=2 * s + 1)) for s in range(12)]
    assert np.mean([r.density for r in results]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([r.coverage for r in results]) == pytest.approx(1 - 2**-5, abs=0.01)


def test_a_collapsed_generator_keeps_its_precision_and_loses_recall_and_coverage() -> None:
    real = features(300, 4)
    collapsed = real[:1] + 0.01 * features(300, 4, seed=1)
    result, cover = precision_recall(real, collapsed), density_coverage(real, collapsed)
    assert result.precision > 0.95
    assert result.recall < 0.02
    assert cover.coverage < 0.1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(8, 30))
def test_a_set_against_itself_is_perfect_and_all_are_blind_to_order(seed: int, num: int) -> None:
    real, generated = features(num, seed=seed), features(num, seed=seed + 1, shift=0.3)
    order = np.random.default_rng(seed).permutation(num)
    same = precision_recall(real, real[order])
    assert (same.precision, same.recall) == (1.0, 1.0)
    assert density_coverage(real, real[order]).coverage == 1.0
    assert precision_recall(real, generated) == precision_recall(real[order], generated[order])
    assert density_coverage(real, generated) == density_coverage(real[order], generated[order])
    assert kernel_distance(real, generated) == pytest.approx(
        kernel_distance(generated, real[order]), rel=1e-9, abs=1e-12
    )
    assert cmmd(real, generated) >= 0


def test_neighbours_are_the_same_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = features(40), features(30, seed=1, shift=0.2)
    whole = precision_recall(real, generated), density_coverage(real, generated)
    monkeypatch.setattr(distances, "_BLOCK_ROWS", 7)
    assert (precision_recall(real, generated), density_coverage(real, generated)) == whole


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(EvaluationError, match="real set has 1 images and this measure needs at least 2"):
        kernel_distance(features(1), features(9))
    with pytest.raises(EvaluationError, match="real set has 3 images and this measure needs at least 4"):
        precision_recall(features(3), features(9))
    with pytest.raises(EvaluationError, match="generated set has 5 images and this measure needs at least 6"):
        density_coverage(features(9), features(5))
    with pytest.raises(EvaluationError, match="1 of 9 rows of the real features hold NaN"):
        cmmd(np.where(np.arange(54).reshape(9, 6) == 7, np.nan, 1.0), features(9))
    with pytest.raises(EvaluationError, match="2 of the generated features are zero and have no direction"):
        cmmd(features(9), np.vstack([features(9), np.zeros((2, 6))]))
    with pytest.raises(EvaluationError, match="real features have width 6 and the generated ones 7"):
        kernel_distance(features(9), features(9, 7))
