"""Intervals over patients, and over seeds and patients together, that never put one image into a set twice.

A bootstrap of images draws copies. Copies bias a Fréchet distance (the covariance of a set with copies is another one)
and make neighbour radii zero, so patients are drawn without replacement here, and the spread is scaled accordingly.
"""

from collections.abc import Callable, Sequence

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval, student_interval

MIN_PATIENTS = 10


def jackknife_interval(
    statistic: Callable[[np.ndarray], float],
    patients: Sequence[str],
    *,
    num_groups: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns the delete-a-group jackknife interval of a statistic over patients.

    Patients are dealt at random into groups; each group is left out once. Apt for smooth statistics (Fréchet, KID, CMMD,
    means); for medians and counts of neighbours it is a rough guide.

    Args:
        statistic: From rows (indices into the images, ascending) to a value. Take the rows on both sides of a distance,
            so that the numbers stay equal.
        patients: Whose image each row is.
        num_groups: Groups; at most one for each patient.
        confidence: Of the interval.
        seed: Deals the patients.

    Raises:
        EvaluationError: If there are fewer than `MIN_PATIENTS` patients or the statistic is not finite.

    Source: Kott 2001, "The delete-a-group jackknife".
    """
    units, num_patients = _patient_numbers(patients)
    num_groups = min(num_groups, num_patients)
    group_of_patient = np.random.default_rng(seed).permutation(np.arange(num_patients) % num_groups)
    groups = group_of_patient[units]
    estimate = _value(statistic(np.arange(len(units))))
    left_out = np.array([_value(statistic(np.flatnonzero(groups != group))) for group in range(num_groups)])
    error = np.sqrt((num_groups - 1) / num_groups * ((left_out - left_out.mean()) ** 2).sum())
    method = f"jackknife over patients, {num_groups} groups"
    return student_interval(
        estimate, error, num_groups - 1, confidence=confidence, num_units=num_patients, method=method
    )


def half_sample_interval(
    statistic: Callable[[np.ndarray], float],
    patients: Sequence[str],
    *,
    num_draws: int = 60,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns the interval of a statistic over patients from halves of them, drawn without replacement.

    Apt where a jackknife is not: shares of neighbourhoods jump when a few images are left out. The standard deviation
    over halves of P patients estimates that of the statistic at all P, as in `hierarchical_interval`; only the spread
    is taken from the halves, not their bias.

    Args:
        statistic: From rows (indices into the images, ascending) to a value.
        patients: Whose image each row is.
        num_draws: Halves.
        confidence: Of the interval.
        seed: Of the draws.

    Raises:
        EvaluationError: If there are fewer than `MIN_PATIENTS` patients or the statistic is not finite.

    Source: McCarthy 1969 (half-samples); Politis and Romano 1994 (subsampling).
    """
    units, num_patients = _patient_numbers(patients)
    rng = np.random.default_rng(seed)
    estimate = _value(statistic(np.arange(len(units))))
    drawn = [_value(statistic(_rows_of_half(units, num_patients, rng))) for _ in range(num_draws)]
    error, freedom = float(np.std(drawn, ddof=1)), min(num_patients, num_draws) - 1
    method = f"{num_draws} half-samples of patients without replacement"
    return student_interval(estimate, error, freedom, confidence=confidence, num_units=num_patients, method=method)


def hierarchical_interval(
    statistic: Callable[[int, np.ndarray], float],
    num_seeds: int,
    patients: Sequence[str],
    *,
    num_replicates: int = 400,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns the interval of a mean over seeds when both the training seeds and the test patients are a sample.

    Each replicate draws `num_seeds - 1` seeds with replacement, and half of the patients without. Both choices give a mean
    its unbiased variance: of S values, the mean of S - 1 draws varies by s^2 / S; of P patients, the mean of a half by
    s^2 / P. All seeds are judged on the same patients, as in the study, so one half is drawn for all. The bounds are
    the estimate plus and minus Student's t times the replicates' standard deviation, since percentiles of five seeds'
    bootstrap are too narrow; the degrees of freedom are Satterthwaite's, S - 1 where the seeds are all of the variance
    and P - 1 where they are none of it. A statistic's bias at half the images does not enter.

    Args:
        statistic: From a seed's number (0 to S - 1) and rows (indices into the images, ascending) to that seed's value,
            such as a log-ratio of two arms' distances, both taken on these rows.
        num_seeds: Training seeds S.
        patients: Whose image each row is.
        num_replicates: Draws.
        confidence: Of the interval.
        seed: Of the draws.

    Raises:
        EvaluationError: If there are fewer than 2 seeds or `MIN_PATIENTS` patients, or the statistic is not finite.

    Source: Rao and Wu 1988 (S - 1 draws); McCarthy 1969 (half-samples); Owen 2007 (crossed units);
    Satterthwaite 1946.
    """
    if num_seeds < 2:
        raise EvaluationError(f"the values come from {num_seeds} seeds; an interval needs at least 2, better 5")
    units, num_patients = _patient_numbers(patients)
    rng = np.random.default_rng(seed)
    by_seed = np.array([_value(statistic(number, np.arange(len(units)))) for number in range(num_seeds)])
    estimate = float(by_seed.mean())
    replicates = np.empty(num_replicates)
    for replicate in range(num_replicates):
        rows = _rows_of_half(units, num_patients, rng)
        drawn, times = np.unique(rng.integers(num_seeds, size=num_seeds - 1), return_counts=True)
        values = [_value(statistic(int(number), rows)) for number in drawn]
        replicates[replicate] = np.average(values, weights=times)
    variance = float(replicates.var(ddof=1))
    of_seeds = min(float(by_seed.var(ddof=1)) / num_seeds, variance)
    inverse_freedom = of_seeds**2 / (num_seeds - 1) + (variance - of_seeds) ** 2 / (num_patients - 1)
    freedom = variance**2 / inverse_freedom if inverse_freedom else num_seeds - 1
    error = float(np.sqrt(variance))
    method = f"hierarchical bootstrap, {num_seeds} seeds, halves of {num_patients} patients"
    return student_interval(estimate, error, freedom, confidence=confidence, num_units=num_seeds, method=method)


def _patient_numbers(patients: Sequence[str]) -> tuple[np.ndarray, int]:
    units = np.unique(np.asarray(patients), return_inverse=True)[1]
    num_patients = int(units.max()) + 1 if len(units) else 0
    if num_patients < MIN_PATIENTS:
        raise EvaluationError(
            f"the images come from {num_patients} patients; an interval over patients needs at least {MIN_PATIENTS}: "
            "give more patients"
        )
    return units, num_patients


def _rows_of_half(units: np.ndarray, num_patients: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of the images of half of the patients."""
    chosen = np.zeros(num_patients, dtype=bool)
    chosen[rng.permutation(num_patients)[: num_patients // 2]] = True
    return np.flatnonzero(chosen[units])


def _value(value: float) -> float:
    if not np.isfinite(value):
        raise EvaluationError("the statistic is NaN or infinite on a subset of the patients: give more images")
    return float(value)
