"""Fréchet distances between features: of moments, of features, and on a projection that small sets can bear.

All in float64. The primary distance of a small set is the projected one, at equal n on both sides: a covariance of 1,280
dimensions estimated from 400 images is mostly estimation error, one of 64 dimensions is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_features, checked_pair, require_equal_numbers

MAX_PROJECTED_DIMS = 64

_NEGATIVE_EIGENVALUE = 1e-6  # relative to the largest: more than rounding


@dataclass(frozen=True)
class Moments:
    """All that a Fréchet distance needs of a set of features: what a site may give away that shares no image.

    Attributes:
        num_images: Number of images, at least 2.
        mean: (D,) float64.
        covariance: (D, D) float64, the unbiased estimate (divided by n - 1).

    Raises:
        EvaluationError: If shapes do not fit, a value is not finite, images are fewer than 2, or the covariance is not
            symmetric and positive semidefinite.
    """

    num_images: int
    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.mean.shape != (width,) or self.covariance.shape != (width, width):
            raise EvaluationError(
                f"moments hold a mean of shape {self.mean.shape} and a covariance of shape {self.covariance.shape}; "
                "(D,) and (D, D) are required: export them again"
            )
        if self.num_images < 2:
            raise EvaluationError(f"moments come from {self.num_images} images; a covariance needs at least 2")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise EvaluationError("moments hold NaN or infinity: export them again from finite features")
        if not np.allclose(self.covariance, self.covariance.T):
            raise EvaluationError("the covariance of the moments is not symmetric: export them again")

    @classmethod
    def of(cls, features: np.ndarray, side: str = "given") -> "Moments":
        """Computes the moments of features (n, D).

        Args:
            features: (n, D).
            side: What to call the set in a message.

        Raises:
            EvaluationError: If there are fewer than 2 rows, or a value is not finite.
        """
        values = checked_features(features, side, at_least=2)
        return cls(len(values), values.mean(axis=0), np.cov(values, rowvar=False, ddof=1).reshape(values.shape[1], -1))

    @classmethod
    def merged(cls, sites: Sequence["Moments"]) -> "Moments":
        """Returns the moments of all sites' images together, exactly as if they had been in one set.

        Raises:
            EvaluationError: If there is no site, or the widths differ.
        """
        widths = sorted({len(site.mean) for site in sites})
        if len(widths) != 1:
            raise EvaluationError(f"moments of one width are required, found widths {widths}: use one judge everywhere")
        num_images = sum(site.num_images for site in sites)
        mean = sum((site.num_images * site.mean for site in sites), np.zeros(widths[0])) / num_images
        scatter = np.zeros((widths[0], widths[0]))
        for site in sites:
            shift = site.mean - mean
            scatter += (site.num_images - 1) * site.covariance + site.num_images * np.outer(shift, shift)
        return cls(num_images, mean, scatter / (num_images - 1))


@dataclass(frozen=True)
class FeatureProjection:
    """Principal components of real *training* features; both sides of a comparison are then projected alike.

    Neither the test images nor the generated ones take part in the choice of the directions. Nothing is whitened: a
    distance keeps the judge's own scale.

    Attributes:
        mean: (D,) float64, of the training features.
        components: (k, D) float64, orthonormal rows, the direction of most variance first.
        explained_share: Share of the training features' variance that the k directions hold.
        num_training_images: Images that it was fitted to.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_share: float
    num_training_images: int

    @classmethod
    def fit(cls, training_features: np.ndarray, num_dims: int = MAX_PROJECTED_DIMS) -> "FeatureProjection":
        """Fits the projection.

        Args:
            training_features: (n, D) of real training images.
            num_dims: Directions wanted; fewer are kept where the features have a lower rank.

        Raises:
            EvaluationError: If `num_dims` is not between 1 and `MAX_PROJECTED_DIMS`, or the features do not vary.
        """
        if not 1 <= num_dims <= MAX_PROJECTED_DIMS:
            raise EvaluationError(f"a projection has 1 to {MAX_PROJECTED_DIMS} dimensions, {num_dims} were asked for")
        values = checked_features(training_features, "training", at_least=2)
        mean = values.mean(axis=0)
        centred = values - mean
        triangle = linalg.qr(centred, mode="r")[0] if len(values) > values.shape[1] else centred
        _, singular, directions = linalg.svd(triangle, full_matrices=False)
        rank = int((singular > singular[0] * max(values.shape) * np.finfo(float).eps).sum())
        if rank == 0:
            raise EvaluationError(f"all {len(values)} training features are equal: give different real images")
        kept = min(num_dims, rank)
        share = float((singular[:kept] ** 2).sum() / (singular**2).sum())
        return cls(mean, directions[:kept], share, len(values))

    @property
    def num_dims(self) -> int:
        """Number of directions k."""
        return len(self.components)

    def apply(self, features: np.ndarray, side: str = "given") -> np.ndarray:
        """Projects features (n, D) -> (n, k).

        Raises:
            EvaluationError: If the width is not that of the training features, or a value is not finite.
        """
        values = checked_features(features, side)
        if values.shape[1] != len(self.mean):
            raise EvaluationError(
                f"the projection was fitted to features of width {len(self.mean)}, the {side} ones have width "
                f"{values.shape[1]}: use one judge for all"
            )
        return (values - self.mean) @ self.components.T


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the squared Fréchet distance between Gaussians fitted to features, at the features' full width.

    `|m1 - m2|^2 + tr(S1 + S2) - 2 tr((S1 S2)^(1/2))`. The last term is the sum of the singular values of A'B for any
    S1 = AA', S2 = BB'; A and B come from the features, so that covariances are never formed nor their roots taken, and a
    rank below D does no harm.

    Args:
        real: (n, D).
        generated: (m, D). The value depends on n and m (it is biased upwards): compare values at equal numbers only.

    Raises:
        EvaluationError: If a side has fewer than 2 images, the widths differ or a value is not finite.

    Source: Heusel et al., arXiv 1706.08500, equation 6.
    """
    real, generated = checked_pair(real, generated, at_least=2)
    return _distance(real.mean(axis=0), _factor(real), generated.mean(axis=0), _factor(generated))


def frechet_distance_of_moments(real: Moments, generated: Moments) -> float:
    """Returns the squared Fréchet distance between two Gaussians, as `frechet_distance` does from features.

    Raises:
        EvaluationError: If the widths differ or a covariance is not positive semidefinite.
    """
    if len(real.mean) != len(generated.mean):
        raise EvaluationError(
            f"the real moments have width {len(real.mean)} and the generated ones {len(generated.mean)}: use one judge"
        )
    return _distance(real.mean, _root(real.covariance), generated.mean, _root(generated.covariance))


def projected_frechet_distance(projection: FeatureProjection, real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the Fréchet distance on the projection: the primary distance of a small set.

    Args:
        projection: Fitted to real training images.
        real: (n, D) of held-out real images.
        generated: (n, D), as many.

    Raises:
        EvaluationError: If the numbers differ, or are not above the projection's dimensions.
    """
    real, generated = checked_pair(real, generated, at_least=projection.num_dims + 1)
    require_equal_numbers(real, generated)
    return frechet_distance(projection.apply(real, "real"), projection.apply(generated, "generated"))


@dataclass(frozen=True)
class ExtrapolatedDistance:
    """A Fréchet distance extrapolated to infinitely many images. Nobody measured it: it is the end of a fitted line.

    Attributes:
        value: The line's value at 1/n = 0; it can be negative.
        slope: Change of the distance with 1/n.
        sizes: Numbers of images on each side that were measured.
        distances: Mean distance at each size.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(
    real: np.ndarray, generated: np.ndarray, *, num_sizes: int = 8, num_draws: int = 20, seed: int = 0
) -> ExtrapolatedDistance:
    """Extrapolates the distance linearly in 1/n, from subsets of half the images to all of them.

    Unlike the source, both sides are subsampled, since the real set is small too.

    Args:
        real: (n, D), usually projected: half of n must be above D, or the line does not hold.
        generated: (n, D).
        num_sizes: Points on the line, evenly spaced in 1/n.
        num_draws: Subsets, without replacement, that each point is the mean of.
        seed: Of the draws.

    Raises:
        EvaluationError: If the numbers differ or are not above 2 D + 1.

    Source: Chong and Forsyth, arXiv 1911.07023.
    """
    width = checked_features(real, "real").shape[1]
    real, generated = checked_pair(real, generated, at_least=2 * (width + 1))
    require_equal_numbers(real, generated)
    rng = np.random.default_rng(seed)
    num = len(real)
    sizes = sorted({round(1 / inverse) for inverse in np.linspace(2 / num, 1 / num, num_sizes)})
    distances = []
    for size in sizes:
        draws = [
            frechet_distance(rng.permutation(real)[:size], rng.permutation(generated)[:size])
            for _ in range(1 if size == num else num_draws)
        ]
        distances.append(float(np.mean(draws)))
    slope, value = np.polyfit(1 / np.asarray(sizes), distances, 1)
    return ExtrapolatedDistance(float(value), float(slope), tuple(sizes), tuple(distances))


def _factor(features: np.ndarray) -> np.ndarray:
    """Returns A with AA' = the covariance, (D, min(n, D))."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return (linalg.qr(centred, mode="r")[0][: features.shape[1]] if len(features) > features.shape[1] else centred).T


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = linalg.eigh(covariance)
    if values[0] < -_NEGATIVE_EIGENVALUE * max(values[-1], np.finfo(float).tiny):
        raise EvaluationError("the covariance of the moments is not positive semidefinite: export them again")
    return vectors * np.sqrt(np.clip(values, 0, None))


def _distance(mean_1: np.ndarray, root_1: np.ndarray, mean_2: np.ndarray, root_2: np.ndarray) -> float:
    shift = mean_1 - mean_2
    common = float(linalg.svdvals(root_1.T @ root_2).sum())
    return max(0.0, float(shift @ shift + (root_1**2).sum() + (root_2**2).sum() - 2 * common))
