"""Distances without a Gaussian assumption: KID and CMMD (kernels), precision, recall, density and coverage (neighbours).

All in float64, on features (n, D) of real and (m, D) of generated images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_pair

KID_DEGREE = 3
CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0
PRECISION_RECALL_NEIGHBOURS = 3
DENSITY_COVERAGE_NEIGHBOURS = 5

_BLOCK_ROWS = 1024  # rows of a kernel or distance matrix held at once


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the kernel distance (KID): the squared MMD of the kernel `(x . y / D + 1)^3`.

    The U-statistic over all images: unbiased at any number of images, so it can be negative. (The source averages over
    subsets of 1,000 instead, which a small set does not have.)

    Raises:
        EvaluationError: If a side has fewer than 2 images, the widths differ or a value is not finite.

    Source: Bińkowski et al., arXiv 1801.01401.
    """
    real, generated = checked_pair(real, generated, at_least=2)
    width = real.shape[1]

    def kernel(products: np.ndarray) -> np.ndarray:
        return (products / width + 1) ** KID_DEGREE

    return (
        _off_diagonal_mean(real, kernel)
        + _off_diagonal_mean(generated, kernel)
        - 2 * _kernel_sum(real, generated, kernel) / (len(real) * len(generated))
    )


def cmmd(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns 1,000 times the squared MMD of a Gaussian kernel of width 10 on features scaled to length 1.

    The original takes CLIP ViT-L/14 image embeddings; with another encoder it is the same formula and another number.
    The V-statistic (diagonals included), as the authors' program has it: never negative, and biased upwards by about
    1 / n, so compare values at equal numbers only.

    Raises:
        EvaluationError: If a side is empty, the widths differ, or a feature is zero or not finite.

    Source: Jayasumana et al., arXiv 2401.09603, and the program that goes with it.
    """
    real, generated = checked_pair(real, generated)
    real, generated = _unit_length(real, "real"), _unit_length(generated, "generated")

    def kernel(cosines: np.ndarray) -> np.ndarray:  # |x - y|^2 = 2 - 2 cos
        return np.exp((cosines - 1) / CMMD_SIGMA**2)

    return CMMD_SCALE * (
        _kernel_sum(real, real, kernel) / len(real) ** 2
        + _kernel_sum(generated, generated, kernel) / len(generated) ** 2
        - 2 * _kernel_sum(real, generated, kernel) / (len(real) * len(generated))
    )


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of images inside the other side's neighbourhoods.

    Attributes:
        precision: Share of generated images within a real image's distance to its k-th real neighbour.
        recall: Share of real images within a generated image's distance to its k-th generated neighbour.
    """

    precision: float
    recall: float


def precision_recall(
    real: np.ndarray, generated: np.ndarray, num_neighbours: int = PRECISION_RECALL_NEIGHBOURS
) -> PrecisionRecall:
    """Returns improved precision and recall.

    Copies of one image within a set make radii of zero: compare sets without duplicates.

    Args:
        real: (n, D).
        generated: (m, D).
        num_neighbours: k; an image is not its own neighbour.

    Raises:
        EvaluationError: If a side has no k-th neighbour, the widths differ or a value is not finite.

    Source: Kynkäänniemi et al., arXiv 1904.06991, equations 1 and 2.
    """
    real, generated = checked_pair(real, generated, at_least=num_neighbours + 1)
    real_radii, generated_radii = _radii(real, num_neighbours), _radii(generated, num_neighbours)
    precise, recalled = 0, 0
    for rows in _blocks(generated):
        precise += int((cdist(generated[rows], real) <= real_radii).any(axis=1).sum())
    for rows in _blocks(real):
        recalled += int((cdist(real[rows], generated) <= generated_radii).any(axis=1).sum())
    return PrecisionRecall(precise / len(generated), recalled / len(real))


@dataclass(frozen=True)
class DensityCoverage:
    """Precision and recall that one outlier cannot move much.

    Attributes:
        density: Mean number of real neighbourhoods that hold a generated image, divided by k; 1 is expected of real
            images, and more is possible.
        coverage: Share of real neighbourhoods that hold a generated image; about 1 - 2^-k is expected of as many real
            images.
    """

    density: float
    coverage: float


def density_coverage(
    real: np.ndarray, generated: np.ndarray, num_neighbours: int = DENSITY_COVERAGE_NEIGHBOURS
) -> DensityCoverage:
    """Returns density and coverage.

    Args:
        real: (n, D).
        generated: (m, D).
        num_neighbours: k; an image is not its own neighbour.

    Raises:
        EvaluationError: If the real side has no k-th neighbour, the widths differ or a value is not finite.

    Source: Naeem et al., arXiv 2002.09797; a neighbourhood does not hold its boundary, as in the authors' program.
    """
    real, generated = checked_pair(real, generated, at_least=num_neighbours + 1)
    radii = _radii(real, num_neighbours)
    inside, covered = 0, 0
    for rows in _blocks(real):
        held = cdist(real[rows], generated) < radii[rows, None]
        inside += int(held.sum())
        covered += int(held.any(axis=1).sum())
    return DensityCoverage(inside / (num_neighbours * len(generated)), covered / len(real))


def _blocks(values: np.ndarray) -> list[slice]:
    return [slice(start, start + _BLOCK_ROWS) for start in range(0, len(values), _BLOCK_ROWS)]


def _kernel_sum(first: np.ndarray, second: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]) -> float:
    return float(sum(kernel(first[rows] @ second.T).sum() for rows in _blocks(first)))


def _off_diagonal_mean(values: np.ndarray, kernel: Callable[[np.ndarray], np.ndarray]) -> float:
    diagonal = float(kernel((values**2).sum(axis=1)).sum())
    return (_kernel_sum(values, values, kernel) - diagonal) / (len(values) * (len(values) - 1))


def _unit_length(values: np.ndarray, side: str) -> np.ndarray:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not lengths.all():
        raise EvaluationError(
            f"{int((lengths == 0).sum())} of the {side} features are zero and have no direction: use another feature"
        )
    return values / lengths


def _radii(values: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Returns the distance (n,) of each row to its k-th other row; column 0 of a sorted row is the row itself."""
    return np.concatenate(
        [
            np.partition(cdist(values[rows], values), num_neighbours, axis=1)[:, num_neighbours]
            for rows in _blocks(values)
        ]
    )
