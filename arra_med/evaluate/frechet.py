"""Fréchet distances between features: of moments, of features, and on a projection that small sets can bear.

All in float64. The primary distance of a small set is the projected one, at equal n on both sides: a covariance of 1,280
dimensions estimated from 400 images is mostly estimation error, one of 64 dimensions is not.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_features, checked_pair, require_equal_numbers
from arra_med.evaluate.moments import Moments

MAX_PROJECTED_DIMS = 64


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
        _require_projected_dims(num_dims)
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

    @classmethod
    def of_moments(cls, training: Moments, num_dims: int = MAX_PROJECTED_DIMS) -> "FeatureProjection":
        """Returns the projection that `fit` gives for the features that these moments are of.

        Each direction's sign is set (its largest component is positive), so that all who hold the moments get the same
        one. Directions whose variance is rounding are not kept.

        Args:
            training: Moments of real training images.
            num_dims: As for `fit`.

        Raises:
            EvaluationError: As `fit`, or if the covariance is not positive semidefinite.
        """
        _require_projected_dims(num_dims)
        directions, singular, _ = linalg.svd(training.root(), full_matrices=False)
        rank = int((singular > singular[0] * np.sqrt(len(singular) * np.finfo(float).eps)).sum())
        if rank == 0:
            raise EvaluationError(
                f"all {training.num_images} training features are equal: give moments of different real images"
            )
        components = directions.T[: min(num_dims, rank)]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        share = float((singular[: len(components)] ** 2).sum() / (singular**2).sum())
        return cls(training.mean, components * np.sign(largest), share, training.num_images)

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
        self._require_width(values.shape[1], side)
        return (values - self.mean) @ self.components.T

    def apply_to_moments(self, moments: Moments, side: str = "given") -> Moments:
        """Returns the moments that the projected features have, from those of the features (D) -> (k).

        Raises:
            EvaluationError: If the width is not that of the training features.
        """
        self._require_width(len(moments.mean), side)
        covariance = self.components @ moments.covariance @ self.components.T
        mean = self.components @ (moments.mean - self.mean)
        return Moments(moments.num_images, mean, (covariance + covariance.T) / 2)

    def _require_width(self, width: int, side: str) -> None:
        if width != len(self.mean):
            raise EvaluationError(
                f"the projection was fitted to features of width {len(self.mean)}, the {side} ones have width "
                f"{width}: use one judge for all"
            )


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
    return _distance(real.mean, real.root(), generated.mean, generated.root())


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


def _require_projected_dims(num_dims: int) -> None:
    if not 1 <= num_dims <= MAX_PROJECTED_DIMS:
        raise EvaluationError(f"a projection has 1 to {MAX_PROJECTED_DIMS} dimensions, {num_dims} were asked for")


def _distance(mean_1: np.ndarray, root_1: np.ndarray, mean_2: np.ndarray, root_2: np.ndarray) -> float:
    shift = mean_1 - mean_2
    common = float(linalg.svdvals(root_1.T @ root_2).sum())
    return max(0.0, float(shift @ shift + (root_1**2).sum() + (root_2**2).sum() - 2 * common))
