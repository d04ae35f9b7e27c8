"""Intervals whose unit of replication is the training seed, the smallest effect they could have found, and AUROC.

Two trainings that differ in one setting differ by luck as well; only more seeds tell the two apart. Images do not: a
thousand images of one training say how that one model draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from arra_med.errors import EvaluationError


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: The value.
        low: Lower bound.
        high: Upper bound.
        confidence: Share of such intervals that hold the true value, such as 0.95.
        num_units: How many independent units (seeds, patients, groups) stand behind it.
        method: How it was made, in words for a table's footnote.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    num_units: int
    method: str


@dataclass(frozen=True)
class Reduction:
    """By how much a distance fell, as a share of the baseline's: `1 - exp(mean log-ratio)`.

    Attributes:
        reduction: 0.25 means a quarter less; negative means more.
        low: Lower bound; above 0 the distance fell.
        high: Upper bound.
        confidence: Of the interval.
        num_seeds: Pairs.
        log_ratios: log(treated / baseline) of each seed, in order.
    """

    reduction: float
    low: float
    high: float
    confidence: float
    num_seeds: int
    log_ratios: tuple[float, ...]


@dataclass(frozen=True)
class DetectableEffect:
    """The smallest reduction that a study of this size would have found.

    Attributes:
        reduction: As a share of the baseline's distance.
        low: The same, were the seeds' spread at the lower end of its own 95% interval.
        high: At the upper end: a spread from few seeds is not well known itself.
        log_ratio: The reduction as a positive log-ratio, -log(1 - reduction).
        seed_spread: Standard deviation of the log distance between baseline seeds.
        num_baseline_seeds: Seeds that the spread comes from.
        num_seeds: Pairs that the study has.
        power: Probability of finding it.
        alpha: Two-sided level of the test.
        test: Which test, in words for a sentence.
    """

    reduction: float
    low: float
    high: float
    log_ratio: float
    seed_spread: float
    num_baseline_seeds: int
    num_seeds: int
    power: float
    alpha: float
    test: str


def student_interval(
    estimate: float, error: float, freedom: float, *, confidence: float, num_units: int, method: str
) -> Interval:
    """Returns Student's interval of an estimate, from its standard error and the error's degrees of freedom."""
    half = float(special.stdtrit(freedom, (1 + confidence) / 2) * error)
    return Interval(estimate, estimate - half, estimate + half, confidence, num_units, method)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Returns Student's interval of the mean of values that are independent, one for each seed.

    Raises:
        EvaluationError: If there are fewer than 2 values or one is not finite.
    """
    numbers = _finite(values, "values")
    num, error = len(numbers), float(numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return student_interval(
        float(numbers.mean()), error, num - 1, confidence=confidence, num_units=num, method="t over seeds"
    )


def reduction_interval(baseline: Sequence[float], treated: Sequence[float], confidence: float = 0.95) -> Reduction:
    """Returns the paired reduction of a positive distance: a t interval on log(treated / baseline) over seeds.

    Args:
        baseline: The distance of each seed's baseline.
        treated: The distance of the other arm, of the same seeds in the same order.
        confidence: Of the interval.

    Raises:
        EvaluationError: If the numbers of seeds differ, there are fewer than 2, or a distance is not positive (an
            unbiased KID can be negative: take a `t_interval` of its differences).
    """
    first, second = _finite(baseline, "baseline"), _finite(treated, "treated")
    if len(first) != len(second):
        raise EvaluationError(
            f"{len(first)} baseline and {len(second)} treated seeds do not pair: give the same seeds in the same order"
        )
    if min(first.min(), second.min()) <= 0:
        raise EvaluationError(
            "a distance is zero or negative and has no log-ratio: use differences for unbiased estimates such as KID"
        )
    log_ratios = np.log(second / first)
    found = t_interval(log_ratios.tolist(), confidence)
    return Reduction(
        reduction=float(0 - np.expm1(found.estimate)),  # never -0.0, which would be written as a rise
        low=float(0 - np.expm1(found.high)),
        high=float(0 - np.expm1(found.low)),
        confidence=confidence,
        num_seeds=len(log_ratios),
        log_ratios=tuple(log_ratios.tolist()),
    )


def smallest_detectable_reduction(
    baseline: Sequence[float],
    num_seeds: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    correlation: float = 0.0,
) -> DetectableEffect:
    """Returns the reduction that a paired t test over `num_seeds` seeds finds with the given power.

    Made from baseline seeds alone, before the other arm is looked at. The treated arm is taken to spread over seeds as
    much as the baseline.

    Args:
        baseline: The distance of each baseline seed.
        num_seeds: Pairs in the study.
        power: Probability of finding the effect.
        alpha: Two-sided level.
        correlation: Between the arms' log distances of one seed; 0, the cautious value, is what pairing gains nothing.

    Raises:
        EvaluationError: If there are fewer than 2 seeds, a distance is not positive, or a probability is not in (0, 1).
    """
    values = _finite(baseline, "baseline")
    if values.min() <= 0:
        raise EvaluationError("a baseline distance is zero or negative and has no logarithm: use a positive distance")
    if num_seeds < 2:
        raise EvaluationError(f"a study of {num_seeds} seeds has no interval: plan at least 2, better 5")
    if not (0 < alpha < power < 1 and 0 <= correlation < 1):
        raise EvaluationError(
            f"power {power:g}, alpha {alpha:g}, correlation {correlation:g}: alpha < power in (0, 1), correlation in [0, 1)"
        )
    spread = float(np.log(values).std(ddof=1))
    freedom = num_seeds - 1
    critical = stats.t.ppf(1 - alpha / 2, freedom)

    def excess_power(noncentrality: float) -> float:
        # the lower tail as the mirrored upper one: scipy's nct.cdf is NaN there for 2 seeds
        tails = stats.nct.sf(critical, freedom, noncentrality) + stats.nct.sf(critical, freedom, -noncentrality)
        return float(tails) - power

    upper = 1.0
    while excess_power(upper) < 0:
        upper *= 2
    noncentrality = optimize.brentq(excess_power, 0.0, upper)
    log_ratio = float(noncentrality * spread * np.sqrt(2 * (1 - correlation) / num_seeds))
    spread_freedom = len(values) - 1
    ends = np.sqrt(spread_freedom / stats.chi2.ppf([0.975, 0.025], spread_freedom))  # of the spread, as a share of it
    low, high = (float(-np.expm1(-log_ratio * end)) for end in ends)
    return DetectableEffect(
        reduction=float(-np.expm1(-log_ratio)),
        low=low,
        high=high,
        log_ratio=log_ratio,
        seed_spread=spread,
        num_baseline_seeds=len(values),
        num_seeds=num_seeds,
        power=power,
        alpha=alpha,
        test=f"two-sided paired t test over seeds, with a correlation of {correlation:g} between the arms of a seed",
    )


def auroc_interval(
    scores: np.ndarray, positive: np.ndarray, *, patients: Sequence[str] | None = None, confidence: float = 0.95
) -> Interval:
    """Returns the area under the ROC curve with DeLong's interval, on the logit scale so that it stays within [0, 1].

    Args:
        scores: (n,), higher for positive images.
        positive: (n,) bool.
        patients: (n,) whose image each is; images of one patient are then one unit of the variance.
        confidence: Of the interval.

    Returns:
        The interval. An area of exactly 0 or 1 has no estimate of variance; its inner bound is then that of as many
        right calls as there are images (or patients) in the smaller class, `(alpha / 2)^(1 / n)`. Where all scores
        are the same, as those of a collapsed generator, the area is 0.5 and so are both bounds.

    Raises:
        EvaluationError: If there are fewer than 2 positive or negative images, shapes differ, or a score is not finite.

    Source: DeLong et al. 1988; Obuchowski 1997 for several images of a patient.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    units = _patient_units(scores, positive, patients, num_axes=1)
    return _mean_area_interval(scores[:, None], positive[:, None], units, confidence)


def macro_auroc_interval(
    scores: np.ndarray, positive: np.ndarray, *, patients: Sequence[str] | None = None, confidence: float = 0.95
) -> Interval:
    """Returns the mean area of several findings, which share images: their covariance enters the interval.

    Args:
        scores: (n, F), one column for each finding.
        positive: (n, F) bool.
        patients: As for `auroc_interval`.
        confidence: Of the interval.

    Raises:
        EvaluationError: As `auroc_interval`, for any of the findings.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    return _mean_area_interval(scores, positive, _patient_units(scores, positive, patients, num_axes=2), confidence)


def _patient_units(
    scores: np.ndarray, positive: np.ndarray, patients: Sequence[str] | None, num_axes: int
) -> np.ndarray:
    units = np.arange(len(scores)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    if not (scores.ndim == num_axes and scores.size and scores.shape == positive.shape and len(units) == len(scores)):
        raise EvaluationError(
            f"scores, labels and patients have shapes {scores.shape}, {positive.shape} and {units.shape}: one of each "
            "for every image is required"
        )
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are NaN or infinite")
    return units


def _mean_area_interval(scores: np.ndarray, positive: np.ndarray, units: np.ndarray, confidence: float) -> Interval:
    areas, influences, fewest = [], [], len(scores)
    for column in range(scores.shape[1]):
        area, influence = _area_and_influence(scores[:, column], positive[:, column])
        areas.append(area)
        influences.append(influence)
        sides = (positive[:, column], ~positive[:, column])
        fewest = min(fewest, *(len(np.unique(units[side])) for side in sides))
    area, influence = float(np.mean(areas)), np.mean(influences, axis=0)
    error = float(np.sqrt((np.bincount(units, influence) ** 2).sum()))
    num_units = len(np.unique(units))
    if error == 0 and 0 < area < 1:
        return Interval(area, area, area, confidence, num_units, "all scores tie")
    if error == 0:
        inner = ((1 - confidence) / 2) ** (1 / fewest)
        low, high = (inner, 1.0) if area > 0.5 else (0.0, 1 - inner)
        return Interval(area, low, high, confidence, num_units, "exact separation")
    logit, half = np.log(area / (1 - area)), stats.norm.ppf((1 + confidence) / 2) * error / (area * (1 - area))
    low, high = (float(1 / (1 + np.exp(-bound))) for bound in (logit - half, logit + half))
    return Interval(area, low, high, confidence, num_units, "DeLong on the logit scale")


def _area_and_influence(scores: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns one finding's area and the influence of each image (n,) on it."""
    num_positive = int(positive.sum())
    num_negative = len(scores) - num_positive
    if min(num_positive, num_negative) < 2:
        raise EvaluationError(
            f"an AUROC needs 2 positive and 2 negative images, found {num_positive} and {num_negative}: not estimable"
        )
    ranks = stats.rankdata(scores)
    beaten = (ranks[positive] - stats.rankdata(scores[positive])) / num_negative
    lost_to = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / num_positive
    area = float(beaten.mean())
    influence = np.empty(len(scores))
    influence[positive] = (beaten - area) / num_positive * np.sqrt(num_positive / (num_positive - 1))
    influence[~positive] = (lost_to - area) / num_negative * np.sqrt(num_negative / (num_negative - 1))
    return area, influence


def _finite(values: Sequence[float], what: str) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise EvaluationError(f"the {what} come from {len(numbers)} seeds; an interval needs at least 2, better 5")
    if not np.isfinite(numbers).all():
        raise EvaluationError(f"{int((~np.isfinite(numbers)).sum())} of {len(numbers)} {what} are NaN or infinite")
    return numbers
