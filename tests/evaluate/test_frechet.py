"""Fréchet distances: closed forms, float64 references, what small sets can bear, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from arra_med.errors import EvaluationError
from arra_med.evaluate.frechet import (
    FeatureProjection,
    frechet_distance,
    frechet_distance_of_moments,
    frechet_infinity,
    projected_frechet_distance,
)
from arra_med.evaluate.moments import Moments


def features(num: int, width: int, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)) * scale + shift


def reference(real: np.ndarray, generated: np.ndarray) -> float:
    """The textbook form with scipy's matrix root."""
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    return float(((real.mean(0) - generated.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


def test_two_gaussians_by_hand() -> None:
    # Diagonal: the sum of (difference of means)^2 and (difference of standard deviations)^2 = 9 + 16 + (2-1)^2 + (3-5)^2.
    first = Moments(10, np.array([0.0, 0.0]), np.diag([4.0, 9.0]))
    second = Moments(10, np.array([3.0, -4.0]), np.diag([1.0, 25.0]))
    assert frechet_distance_of_moments(first, second) == pytest.approx(30.0, abs=1e-12)


def test_features_whose_covariances_do_not_commute_agree_with_the_matrix_root() -> None:
    rng = np.random.default_rng(1)
    real, generated = (
        features(200, 12) @ rng.normal(size=(12, 12)),
        features(150, 12, 2, 0.3) @ rng.normal(size=(12, 12)),
    )
    assert frechet_distance(real, generated) == pytest.approx(reference(real, generated), rel=1e-10)


def test_one_dimension_is_the_difference_of_mean_and_spread() -> None:
    real, generated = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]])
    assert frechet_distance(real, generated) == pytest.approx(1.0)  # means 2 and 2, standard deviations 2 and 1


def test_fewer_images_than_dimensions_are_exact() -> None:
    # The covariances have rank 1 and are orthogonal: the distance is |m1 - m2|^2 + tr S1 + tr S2.
    real, generated = np.zeros((2, 500)), np.zeros((2, 500))
    real[:, 0], generated[:, 1] = [1.0, -1.0], [2.0, -2.0]
    assert frechet_distance(real, generated) == pytest.approx(2.0 + 8.0, rel=1e-12)
    wide = features(20, 300), features(25, 300, 3)
    assert frechet_distance(*wide) == pytest.approx(
        frechet_distance_of_moments(Moments.of(wide[0]), Moments.of(wide[1])), rel=1e-6
    )


def test_a_set_has_no_distance_to_itself_even_with_a_constant_feature() -> None:
    for shape in ((50, 8), (8, 50)):
        values = features(*shape)
        values[:, 0] = 3.0
        assert frechet_distance(values, values[::-1]) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 6), num=st.integers(2, 12))
def test_it_is_symmetric_not_negative_and_blind_to_rotation(seed: int, width: int, num: int) -> None:
    real, generated = features(num, width, seed), features(num + 1, width, seed + 1, 0.5)
    rotation = linalg.qr(features(width, width, seed + 2))[0]
    value = frechet_distance(real, generated)
    assert value >= 0
    assert frechet_distance(generated, real) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet_distance(real @ rotation, generated @ rotation) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert frechet_distance(3 * real, 3 * generated) == pytest.approx(9 * value, rel=1e-9, abs=1e-9)


def test_sites_merge_into_the_moments_of_all_images() -> None:
    values = features(90, 5) * np.arange(1, 6)
    merged = Moments.merged([Moments.of(part) for part in (values[:10], values[10:40], values[40:])])
    whole = Moments.of(values)
    assert merged.num_images == 90
    np.testing.assert_allclose(merged.mean, whole.mean)
    np.testing.assert_allclose(merged.covariance, whole.covariance)


def test_the_projection_is_that_of_training_reals_alone() -> None:
    spread = np.array([5.0, 3.0, 0.1, 0.1])
    projection = FeatureProjection.fit(features(4000, 4) * spread + 7, num_dims=2)
    np.testing.assert_allclose(np.abs(projection.components), np.eye(2, 4), atol=0.05)
    np.testing.assert_allclose(projection.components @ projection.components.T, np.eye(2), atol=1e-12)
    assert projection.explained_share == pytest.approx(34 / 34.02, abs=1e-3)
    assert projection.apply(projection.mean[None]) == pytest.approx(np.zeros((1, 2)))
    # A shift along a direction that training reals do not vary in is not seen; one along the first is.
    real = features(300, 4, 1) * spread
    unseen, seen = real + np.array([0, 0, 50, 0]), real + np.array([2, 0, 0, 0])
    assert projected_frechet_distance(projection, real, unseen) < 0.01 * 50**2
    assert projected_frechet_distance(projection, real, seen) == pytest.approx(4.0, rel=1e-2)


def test_the_projection_agrees_with_scikit_learn_and_keeps_at_most_the_rank() -> None:
    from sklearn.decomposition import PCA

    for shape in ((100, 20), (20, 100)):
        values = features(*shape) * np.linspace(1, 5, shape[1])
        projection, expected = FeatureProjection.fit(values, 6), PCA(6, svd_solver="full").fit(values)
        np.testing.assert_allclose(np.abs(projection.components @ expected.components_.T), np.eye(6), atol=1e-9)
        assert projection.explained_share == pytest.approx(expected.explained_variance_ratio_.sum())
    assert FeatureProjection.fit(features(10, 100)).num_dims == 9


def test_the_extrapolation_comes_nearer_to_the_known_distance() -> None:
    truth = 8 * 0.5**2  # equal covariances, means 0.5 apart in 8 dimensions
    errors = []
    for seed in range(6):
        real, generated = features(240, 8, seed), features(240, 8, 100 + seed, 0.5)
        line = frechet_infinity(real, generated, seed=seed)
        assert line.sizes[0] == 120
        assert line.sizes[-1] == 240
        assert line.distances[-1] == pytest.approx(frechet_distance(real, generated))
        assert line.slope > 0
        errors.append((line.distances[-1] - truth, line.value - truth))
    measured, extrapolated = np.mean(errors, axis=0)
    assert measured > 0.1
    assert abs(extrapolated) < measured / 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (np.zeros((0, 4)), "generated set has 0 images and this measure needs at least 2: give more images"),
        (np.zeros((1, 4)), "generated set has 1 images and this measure needs at least 2"),
        (np.zeros(4), r"generated features have shape \(4,\): give one row for each image"),
        (np.full((9, 4), np.nan), "9 of 9 rows of the generated features hold NaN or infinity: encode those images"),
        (np.zeros((9, 5)), "real features have width 4 and the generated ones 5: encode both sides with the same"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(broken: np.ndarray, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        frechet_distance(features(9, 4), broken)


def test_a_projection_refuses_too_few_images_other_numbers_and_another_width() -> None:
    projection = FeatureProjection.fit(features(100, 20), num_dims=8)
    with pytest.raises(EvaluationError, match="real set has 8 images and this measure needs at least 9"):
        projected_frechet_distance(projection, features(8, 20), features(8, 20))
    with pytest.raises(EvaluationError, match="30 real and 29 generated images, .* draw as many from both sides"):
        projected_frechet_distance(projection, features(30, 20), features(29, 20))
    with pytest.raises(EvaluationError, match="fitted to features of width 20, the real ones have width 19"):
        projected_frechet_distance(projection, features(30, 19), features(30, 19))
    with pytest.raises(EvaluationError, match="1 to 64 dimensions, 65 were asked for"):
        FeatureProjection.fit(features(100, 80), num_dims=65)
    with pytest.raises(EvaluationError, match="all 5 training features are equal"):
        FeatureProjection.fit(np.ones((5, 3)))


def test_an_extrapolation_needs_twice_the_dimensions() -> None:
    with pytest.raises(EvaluationError, match="real set has 17 images and this measure needs at least 18"):
        frechet_infinity(features(17, 8), features(17, 8))
    with pytest.raises(EvaluationError, match="draw as many from both sides"):
        frechet_infinity(features(30, 8), features(31, 8))


@pytest.mark.parametrize(
    ("num", "mean", "covariance", "message"),
    [
        (9, np.zeros(2), np.eye(3), r"mean of shape \(2,\) and a covariance of shape \(3, 3\)"),
        (1, np.zeros(2), np.eye(2), "moments come from 1 images; a covariance needs at least 2"),
        (9, np.array([0.0, np.inf]), np.eye(2), "moments hold NaN or infinity"),
        (9, np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), "not symmetric"),
        (9, np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), "not positive semidefinite"),
    ],
)
def test_moments_that_are_none_are_refused(num: int, mean: np.ndarray, covariance: np.ndarray, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        frechet_distance_of_moments(Moments(num, mean, covariance), Moments.of(features(9, 2)))


def test_moments_of_other_widths_are_refused() -> None:
    two, three = Moments.of(features(9, 2)), Moments.of(features(9, 3))
    with pytest.raises(EvaluationError, match="real moments have width 2 and the generated ones 3: use one judge"):
        frechet_distance_of_moments(two, three)
    with pytest.raises(EvaluationError, match=r"found widths \[2, 3\]: use one judge everywhere"):
        Moments.merged([two, three])
    with pytest.raises(EvaluationError, match=r"found widths \[\]"):
        Moments.merged([])
