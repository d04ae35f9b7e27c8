"""Distances between two floors: how far real images are from real ones, and from what the tokenizer makes of them.

A distance of 3.1 says little alone. Real against real at the same number of images is what estimation error gives; real
against reconstructed is what no model on this tokenizer can beat, whichever arm it comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.distances import (
    PRECISION_RECALL_NEIGHBOURS,
    cmmd,
    density_coverage,
    kernel_distance,
    precision_recall,
)
from arra_med.evaluate.feature_sets import checked_pair, require_equal_numbers
from arra_med.evaluate.frechet import FeatureProjection, frechet_distance, projected_frechet_distance

Distance = Callable[[np.ndarray, np.ndarray], float]
"""From real (n, D) and other (n, D) features to a value; lower is nearer, but for `neighbour_metrics`."""


@dataclass(frozen=True)
class JudgedSets:
    """One judge's features of the three sets that a comparison with floors needs, row by row for the same studies.

    Attributes:
        judge: Name of the encoder.
        real: (n, D), held-out real images.
        generated: (n, D), row i generated from the report of real image i.
        reconstructed: (n, D), row i real image i encoded and decoded by the image tokenizer.
        patients: (n,) whose image each row is; one patient's images never stand on both sides of a floor.

    Raises:
        EvaluationError: If the sets differ in number or width, or a value is not finite.
    """

    judge: str
    real: np.ndarray
    generated: np.ndarray
    reconstructed: np.ndarray
    patients: Sequence[str]

    def __post_init__(self) -> None:
        checked_pair(self.real, self.generated)
        require_equal_numbers(self.real, self.generated)
        if self.reconstructed.shape != self.real.shape or len(self.patients) != len(self.real):
            raise EvaluationError(
                f"there are {len(self.real)} real images, reconstructed features of shape {self.reconstructed.shape} and "
                f"{len(self.patients)} patients: reconstruct each real image once, and name each image's patient"
            )
        checked_pair(self.real, self.reconstructed)


@dataclass(frozen=True)
class FlooredDistance:
    """A distance, its two floors, and what lies above the second. `dataclasses.asdict` of it is JSON.

    The floors at half the images put other patients on the two sides, so that all three `half_` values are comparable
    with each other; they are not with `value`, which has twice as many images.

    Attributes:
        distance: Which one.
        judge: Whose features.
        num_images: On each side of `value` and `reconstruction_floor`.
        value: Generated against real.
        reconstruction_floor: Reconstructed against real, the same images.
        excess: `value - reconstruction_floor`, what the model adds to its tokenizer.
        half_num_images: On each side of the following three, means over random splits.
        half_real_floor: Real against real.
        half_real_floor_spread: Standard deviation over the splits.
        half_reconstruction_floor: Reconstructed against real: a perfect model on this tokenizer.
        half_value: Generated against real.
        num_splits: Splits.
    """

    distance: str
    judge: str
    num_images: int
    value: float
    reconstruction_floor: float
    excess: float
    half_num_images: int
    half_real_floor: float
    half_real_floor_spread: float
    half_reconstruction_floor: float
    half_value: float
    num_splits: int


def small_set_distances(projection: FeatureProjection) -> dict[str, Distance]:
    """Returns the distances of a small set by name: the projected Fréchet distance is primary, KID stands beside it.

    Args:
        projection: Fitted to real training images with the same judge.
    """
    return {
        f"frechet_{projection.num_dims}": partial(projected_frechet_distance, projection),
        "kid": kernel_distance,
        "frechet_full_width": frechet_distance,
        "cmmd": cmmd,
    }


def neighbour_metrics(num_neighbours: int = PRECISION_RECALL_NEIGHBOURS) -> dict[str, Distance]:
    """Returns the shares of neighbours by name; unlike of distances, a higher one is nearer.

    Args:
        num_neighbours: k of precision and recall; density and coverage have k = 5.
    """
    pair = partial(precision_recall, num_neighbours=num_neighbours)
    return {
        "precision": lambda real, other: pair(real, other).precision,
        "recall": lambda real, other: pair(real, other).recall,
        "density": lambda real, other: density_coverage(real, other).density,
        "coverage": lambda real, other: density_coverage(real, other).coverage,
    }


def measure_with_floors(
    sets: JudgedSets, distances: Mapping[str, Distance], *, num_splits: int = 10, seed: int = 0
) -> list[FlooredDistance]:
    """Measures each distance with both floors.

    Args:
        sets: The features.
        distances: By name, such as `small_set_distances` gives them.
        num_splits: Random splits of the patients into halves.
        seed: Of the splits.

    Raises:
        EvaluationError: If a distance cannot be taken, of all images or of halves (too few), or there is one patient.
    """
    rng = np.random.default_rng(seed)
    halves = [_patient_halves(sets.patients, rng) for _ in range(num_splits)]
    size = min(len(half) for halved in halves for half in halved)
    halves = [(rng.permutation(first)[:size], rng.permutation(second)[:size]) for first, second in halves]
    rows = []
    for name, distance in distances.items():
        value, floor = distance(sets.real, sets.generated), distance(sets.real, sets.reconstructed)
        try:
            by_split = np.array(
                [
                    [
                        distance(sets.real[first], others[second])
                        for others in (sets.real, sets.reconstructed, sets.generated)
                    ]
                    for first, second in halves
                ]
            )
        except EvaluationError as error:
            raise EvaluationError(
                f"{name} on halves of the real images, which its floor is made of: {error}"
            ) from error
        means = by_split.mean(axis=0)
        rows.append(
            FlooredDistance(
                distance=name,
                judge=sets.judge,
                num_images=len(sets.real),
                value=float(value),
                reconstruction_floor=float(floor),
                excess=float(value - floor),
                half_num_images=size,
                half_real_floor=float(means[0]),
                half_real_floor_spread=float(by_split[:, 0].std(ddof=1)) if num_splits > 1 else 0.0,
                half_reconstruction_floor=float(means[1]),
                half_value=float(means[2]),
                num_splits=num_splits,
            )
        )
    return rows


def _patient_halves(patients: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Deals patients in random order to whichever half has fewer images; returns the rows of both halves."""
    units = np.unique(np.asarray(patients), return_inverse=True)[1]
    num_images = np.bincount(units)
    if len(num_images) < 2:
        raise EvaluationError("the real images come from one patient: two halves need at least two")
    half_of_patient, counts = np.zeros(len(num_images), dtype=int), [0, 0]
    for patient in rng.permutation(len(num_images)):
        half = int(counts[1] < counts[0])
        half_of_patient[patient] = half
        counts[half] += num_images[patient]
    return np.flatnonzero(half_of_patient[units] == 0), np.flatnonzero(half_of_patient[units] == 1)
