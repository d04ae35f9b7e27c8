"""What a judge's features say of images: every fidelity metric with its floors and intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from arra_med.evaluate.distances import PRECISION_RECALL_NEIGHBOURS
from arra_med.evaluate.floors import (
    Distance,
    JudgedSets,
    measure_with_floors,
    neighbour_metrics,
    small_set_distances,
)
from arra_med.evaluate.frechet import FeatureProjection, frechet_infinity
from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.resampling import half_sample_interval, jackknife_interval

Role = Literal["primary", "secondary", "extrapolation"]

_NEIGHBOURS_NOTE = "a count of neighbours: it depends on n, and its interval is a rough guide"


@dataclass(frozen=True)
class FidelityRow:
    """One metric of one judge. `dataclasses.asdict` of it is JSON.

    Attributes:
        metric: Which one.
        judge: Whose features.
        role: `primary` for the projected Fréchet distance; FD-infinity is an `extrapolation`.
        higher_is_better: For precision, recall, density and coverage.
        num_images: On each side.
        value: Generated against real.
        interval: Of the value, over patients.
        reconstruction_floor: Reconstructed against real, the same images; `None` where there is no tokenizer.
        excess: `value - reconstruction_floor`, what the model adds to its tokenizer.
        excess_interval: Of the excess, over patients.
        half_num_images: Images on each side of the following, which are means over random halves of the patients and
            comparable with each other, not with `value`.
        half_real_floor: Real against real.
        half_real_floor_spread: Its standard deviation over the splits.
        half_reconstruction_floor: Reconstructed against real.
        half_value: Generated against real.
        note: What a reader must know of this metric.
    """

    metric: str
    judge: str
    role: Role
    higher_is_better: bool
    num_images: int
    value: float
    interval: Interval | None
    reconstruction_floor: float | None
    excess: float | None
    excess_interval: Interval | None
    half_num_images: int | None
    half_real_floor: float | None
    half_real_floor_spread: float | None
    half_reconstruction_floor: float | None
    half_value: float | None
    note: str = ""


def projection_dims(num_images: int, num_training_images: int, wanted: int) -> int:
    """Returns how many dimensions a projection can have: a quarter of the images, and fewer than the training images.

    Half of the images, which floors are measured on, then are still twice as many as dimensions.
    """
    return max(1, min(wanted, num_images // 4, num_training_images - 1))


def fidelity_rows(
    sets: JudgedSets,
    projection: FeatureProjection,
    *,
    seed: int = 0,
    precision_recall_neighbours: int = PRECISION_RECALL_NEIGHBOURS,
) -> list[FidelityRow]:
    """Measures everything that one judge's features tell, with both floors and intervals over patients.

    Args:
        sets: The features.
        projection: Fitted to real training images with the same judge.
        seed: Of the splits, of the groups of patients and of the subsets behind FD-infinity.
        precision_recall_neighbours: k of precision and recall; density and coverage have k = 5.

    Returns:
        The primary distance first.

    Raises:
        EvaluationError: If images or patients are too few for a metric; the message says how many there are.
    """
    primary = f"frechet_{projection.num_dims}"
    distances = small_set_distances(projection)
    neighbours = neighbour_metrics(precision_recall_neighbours)
    metrics: Mapping[str, Distance] = {**distances, **neighbours}
    rows = []
    for floored in measure_with_floors(sets, metrics, seed=seed):
        metric = metrics[floored.distance]
        interval_of = half_sample_interval if floored.distance in neighbours else jackknife_interval
        interval = interval_of(partial(_value, metric, sets), sets.patients, seed=seed)
        if floored.distance in neighbours:  # shares are never negative; density alone may pass 1
            highest = np.inf if floored.distance == "density" else 1.0
            interval = replace(interval, low=max(0.0, interval.low), high=min(highest, interval.high))
        rows.append(
            FidelityRow(
                metric=floored.distance,
                judge=sets.judge,
                role="primary" if floored.distance == primary else "secondary",
                higher_is_better=floored.distance in neighbours,
                num_images=floored.num_images,
                value=floored.value,
                interval=interval,
                reconstruction_floor=floored.reconstruction_floor,
                excess=floored.excess,
                excess_interval=interval_of(partial(_excess, metric, sets), sets.patients, seed=seed),
                half_num_images=floored.half_num_images,
                half_real_floor=floored.half_real_floor,
                half_real_floor_spread=floored.half_real_floor_spread,
                half_reconstruction_floor=floored.half_reconstruction_floor,
                half_value=floored.half_value,
                note=_NEIGHBOURS_NOTE if floored.distance in neighbours else "",
            )
        )
    return [*rows, _infinity_row(sets, projection, seed)]


def _value(metric: Callable[[np.ndarray, np.ndarray], float], sets: JudgedSets, rows: np.ndarray) -> float:
    return metric(sets.real[rows], sets.generated[rows])


def _excess(metric: Callable[[np.ndarray, np.ndarray], float], sets: JudgedSets, rows: np.ndarray) -> float:
    return metric(sets.real[rows], sets.generated[rows]) - metric(sets.real[rows], sets.reconstructed[rows])


def _infinity_row(sets: JudgedSets, projection: FeatureProjection, seed: int) -> FidelityRow:
    """FD-infinity on the projection: the end of a line, without an interval."""
    real = projection.apply(sets.real, "real")
    value = frechet_infinity(real, projection.apply(sets.generated, "generated"), seed=seed).value
    floor = frechet_infinity(real, projection.apply(sets.reconstructed, "reconstructed"), seed=seed).value
    return FidelityRow(
        metric=f"frechet_{projection.num_dims}_infinity",
        judge=sets.judge,
        role="extrapolation",
        higher_is_better=False,
        num_images=len(sets.real),
        value=value,
        interval=None,
        reconstruction_floor=floor,
        excess=value - floor,
        excess_interval=None,
        half_num_images=None,
        half_real_floor=None,
        half_real_floor_spread=None,
        half_reconstruction_floor=None,
        half_value=None,
        note="an extrapolation to infinitely many images: nobody measured it",
    )
