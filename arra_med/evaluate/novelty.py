"""How far an image is from what real images look like: a Gaussian on principal directions, no stored neighbours.

Two descriptions are compared, because each is blind where the other sees: a frozen encoder's mean feature tells tissue
from noise and other kinds of pictures but hardly notices that a chest stands on its head; the layout, 8 x 8 block means
without brightness and contrast, notices that and no texture.

Source of the distance: Tipping and Bishop, "Probabilistic principal component analysis", J. R. Statist. Soc. B 61(3),
1999: what is left beside the directions counts with one variance. A mean and a few directions of many images are kept
instead of features of single ones, since the file may travel with a model.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_features
from arra_med.evaluate.frechet import FeatureProjection

LAYOUT_SIDE = 8

_FLAT_SPREAD = 0.02  # of pixels in [0, 1]: what varies less is as good as uniform
_FEWEST_RESIDUAL_DIMS = 1


@dataclass(frozen=True)
class PrincipalGaussian:
    """A Gaussian with its own variance along k directions and one common variance in all others.

    Attributes:
        mean: (D,) float32.
        components: (k, D) float32, orthonormal rows.
        variances: (k,) float32, along the directions.
        residual_variance: Mean variance of the other D - k directions.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    residual_variance: float

    @classmethod
    def fit(cls, features: np.ndarray, num_dims: int) -> "PrincipalGaussian":
        """Fits it to features (n, D) of real training images.

        Raises:
            EvaluationError: If a feature is not finite, or the features have no more directions than `num_dims`.
        """
        projection = FeatureProjection.fit(features, num_dims)
        values = checked_features(features, "training")
        total = float(((values - projection.mean) ** 2).sum()) / (len(values) - 1)
        rest = total * (1 - projection.explained_share) / max(values.shape[1] - num_dims, _FEWEST_RESIDUAL_DIMS)
        if projection.num_dims < num_dims or values.shape[1] <= num_dims or rest <= 0:
            raise EvaluationError(
                f"{len(values)} features of width {values.shape[1]} have no more than {num_dims} directions: ask for "
                "fewer, or give more and different real images"
            )
        variances = projection.apply(values, "training").var(axis=0, ddof=1)
        return cls(
            projection.mean.astype(np.float32),
            projection.components.astype(np.float32),
            variances.astype(np.float32),
            float(np.float32(rest)),
        )

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Returns the Mahalanobis distances of features (n, D), divided by the root of D: float64 (n,), about 1.

        Raises:
            EvaluationError: If the width is another one, or a value is not finite.
        """
        values = checked_features(features, "given")
        if values.shape[1] != len(self.mean):
            raise EvaluationError(
                f"features of width {values.shape[1]} were compared with a reference of width {len(self.mean)}: describe "
                "both alike"
            )
        centred = values - self.mean.astype(np.float64)
        along = centred @ self.components.T.astype(np.float64)
        beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squared = (along**2 / self.variances).sum(axis=1) + beside / self.residual_variance
        return np.asarray(np.sqrt(squared / values.shape[1]))


def layout_features(views: np.ndarray) -> np.ndarray:
    """Describes where views are bright and dark, whatever their brightness and contrast.

    Args:
        views: uint8 (n, C, S, S).

    Returns:
        float32 (n, C * 64): block means of each channel, all of an image shifted to mean 0 and scaled to spread 1.
    """
    pixels = torch.from_numpy(np.array(views)).float() / 255  # a copy: decoded files are read-only
    blocks = F.adaptive_avg_pool2d(pixels, LAYOUT_SIDE).flatten(1)
    centred = blocks - blocks.mean(dim=1, keepdim=True)
    return np.asarray((centred / (centred.std(dim=1, correction=0, keepdim=True) + _FLAT_SPREAD)).numpy())


def passing_threshold(distances: np.ndarray, pass_rate: float) -> float:
    """Returns the lowest distance at or below which at least this share of real images lies.

    Args:
        distances: (n,) of held-out real images.
        pass_rate: In (0, 1).

    Raises:
        EvaluationError: If so few images cannot tell: `n * (1 - pass_rate)` must reach 1.
    """
    if not 0 < pass_rate < 1:
        raise EvaluationError(f"a share of {pass_rate:g} real images shall pass; it must lie between 0 and 1")
    needed = int(np.ceil(round(1 / (1 - pass_rate), 6)))
    if len(distances) < needed:
        raise EvaluationError(
            f"a threshold that {pass_rate:.1%} of real images pass needs {needed} held-out images, found "
            f"{len(distances)}: ingest more, or choose another --pass-rate"
        )
    allowed = int(np.floor(round(len(distances) * (1 - pass_rate), 6)))
    return float(np.sort(distances)[len(distances) - 1 - allowed])
