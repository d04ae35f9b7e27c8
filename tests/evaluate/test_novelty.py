import numpy as np
import pytest
from scipy.stats import multivariate_normal

from arra_med.errors import EvaluationError
from arra_med.evaluate.novelty import PrincipalGaussian, layout_features, passing_threshold


def features(num: int, seed: int = 0) -> np.ndarray:
    """Six dimensions: two of much variance, along mixed axes."""
    rng = np.random.default_rng(seed)
    mixed = np.linalg.qr(np.random.default_rng(9).normal(size=(6, 6)))[0]
    return (rng.normal(size=(num, 6)) * [9, 5, 1, 1, 1, 1] + 3) @ mixed


def test_the_distance_is_that_of_the_maximum_likelihood_covariance():
    """Tipping and Bishop, equation 7: W W' + s^2 I from the eigenvalues; compared through scipy's density."""
    real = features(400)
    fitted = PrincipalGaussian.fit(real, 2)
    values, vectors = np.linalg.eigh(np.cov(real, rowvar=False))
    covariance = vectors @ np.diag([values[:4].mean()] * 4 + list(values[4:])) @ vectors.T
    model = multivariate_normal(real.mean(axis=0), covariance)
    others = features(20, seed=1) * 1.5
    squared = 2 * (model.logpdf(real.mean(axis=0)) - model.logpdf(others))
    np.testing.assert_allclose(fitted.distances(others), np.sqrt(squared / 6), rtol=1e-4)
    assert fitted.distances(real).mean() == pytest.approx(1, abs=0.1)


def test_layout_ignores_brightness_and_contrast_but_not_where_things_are():
    rng = np.random.default_rng(0)
    view = rng.integers(60, 120, (1, 1, 8, 8)).repeat(4, axis=2).repeat(4, axis=3).astype(np.uint8)
    plain, brighter = layout_features(view), layout_features((view * 1.5 + 20).astype(np.uint8))
    assert plain.shape == (1, 64)
    np.testing.assert_allclose(plain, brighter, atol=0.2)
    assert np.abs(plain - layout_features(view[:, :, ::-1])).max() > 1
    by_hand = view[0, 0, ::4, ::4] / 255
    expected = (by_hand - by_hand.mean()) / (by_hand.std() + 0.02)
    np.testing.assert_allclose(plain[0], expected.ravel(), atol=1e-5)


def test_a_uniform_image_has_a_layout_of_zeros():
    assert not layout_features(np.full((1, 3, 16, 16), 90, np.uint8)).any()


def test_the_threshold_lets_the_asked_share_pass_and_no_lower_one_does():
    distances = np.random.default_rng(0).permutation(np.arange(200.0))
    assert passing_threshold(distances, 0.99) == 197
    assert (distances <= 197).mean() == 0.99
    assert passing_threshold(np.arange(209.0), 0.99) == 206  # 2 of 209 above


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(EvaluationError, match="have no more than 6 directions"):
        PrincipalGaussian.fit(features(30), 6)
    with pytest.raises(EvaluationError, match="1 of 30 rows of the training features hold NaN"):
        PrincipalGaussian.fit(np.where(np.arange(180).reshape(30, 6) == 7, np.nan, features(30)), 2)
    fitted = PrincipalGaussian.fit(features(30), 2)
    with pytest.raises(EvaluationError, match="width 5 were compared with a reference of width 6"):
        fitted.distances(features(3)[:, :5])
    with pytest.raises(EvaluationError, match="needs 100 held-out images, found 99"):
        passing_threshold(np.arange(99.0), 0.99)
    with pytest.raises(EvaluationError, match="a share of 1 real images shall pass"):
        passing_threshold(np.arange(99.0), 1.0)
