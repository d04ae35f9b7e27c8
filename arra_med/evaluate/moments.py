"""Mean and covariance of a set of features, in float64: all that a Fréchet distance needs, and what sites can add up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_features

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
            symmetric.
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

    def root(self) -> np.ndarray:
        """Returns A (D, D) with AA' = the covariance.

        Raises:
            EvaluationError: If the covariance is not positive semidefinite.
        """
        values, vectors = linalg.eigh(self.covariance)
        if values[0] < -_NEGATIVE_EIGENVALUE * max(values[-1], np.finfo(float).tiny):
            raise EvaluationError("the covariance of the moments is not positive semidefinite: export them again")
        return vectors * np.sqrt(np.clip(values, 0, None))
