"""Statistics of several readers who read the same cases: intervals that hold for other readers and cases, and agreement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval, student_interval, t_interval
from arra_med.evaluate.proportions import share_interval


@dataclass(frozen=True)
class SignTest:
    """A preference, tested exactly.

    Source: the binomial ("sign") test, two-sided, as `scipy.stats.binomtest`.

    Attributes:
        wins: Cases in which most readers preferred the arm.
        losses: In which most preferred the other one.
        ties: Cases without a majority; not in the test.
        p_value: Two-sided; `None` without a case.
    """

    wins: int
    losses: int
    ties: int
    p_value: float | None


def share_of(values: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """Returns the share of ones with an interval clustered by case and, of several readers, by reader.

    One reader, or a single case: Wilson's interval. More: Wilson's interval at the effective number of answers, which
    the variance over readers and cases tells, with Student's quantile for as many degrees of freedom as stand behind it.

    Args:
        values: (R, C) 1, 0 or NaN where a reader has no answer.
        confidence: Of the interval.

    Returns:
        `None` without an answer.

    Source: Wilson 1927; Rao and Scott 1992; Cameron, Gelbach and Miller 2011 for two ways of clustering;
    Satterthwaite 1946 for the degrees of freedom.
    """
    values = _answered(values)
    if not values.size:
        return None
    given = ~np.isnan(values)
    yes = np.nansum(values, axis=0).astype(int)
    if len(values) == 1 or values.shape[1] == 1:
        return share_interval(yes.tolist(), given.sum(axis=0).tolist(), confidence)
    share, num_answers = float(np.nanmean(values)), int(given.sum())
    variance, freedom = _crossed_variance(values)
    quantile, effective = float(stats.norm.ppf((1 + confidence) / 2)), float(values.shape[1])
    if 0 < share < 1:
        variance = max(variance, share * (1 - share) / num_answers)
        effective = share * (1 - share) / variance
        quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
    scale = 1 + quantile**2 / effective
    centre = (share + quantile**2 / (2 * effective)) / scale
    half = quantile / scale * np.sqrt(share * (1 - share) / effective + quantile**2 / (4 * effective**2))
    method = f"Wilson at {effective:.1f} effective answers, over {len(values)} readers and {values.shape[1]} cases"
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(share, low, high, confidence, values.shape[1], method)


def mean_of(values: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """Returns the mean of marks with an interval clustered by case and, of several readers, by reader.

    Args:
        values: (R, C), NaN where a reader has no answer.
        confidence: Of the interval.

    Returns:
        `None` with fewer than two cases.
    """
    values = _answered(values)
    if not values.size or values.shape[1] < 2:
        return None
    if len(values) == 1:
        found = t_interval(values[0].tolist(), confidence)
        return Interval(found.estimate, found.low, found.high, confidence, found.num_units, "t over cases")
    variance, freedom = _crossed_variance(values)
    method = f"t over {len(values)} readers and {values.shape[1]} cases"
    return student_interval(
        float(np.nanmean(values)),
        float(np.sqrt(variance)),
        freedom,
        confidence=confidence,
        num_units=values.shape[1],
        method=method,
    )


def sign_test(values: np.ndarray) -> SignTest:
    """Returns the exact test of a preference over cases; several readers of a case vote.

    Args:
        values: (R, C) 1 for the arm, 0 for the other one, NaN where a reader has no answer.
    """
    given = ~np.isnan(values)
    balance = 2 * np.nansum(values, axis=0) - given.sum(axis=0)
    wins, losses = int((balance > 0).sum()), int((balance < 0).sum())
    ties = int((given.any(axis=0) & (balance == 0)).sum())
    p_value = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else None
    return SignTest(wins, losses, ties, p_value)


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float | None:
    """Returns the agreement of several readers beyond chance.

    Args:
        counts: For each case, how many readers gave each answer; the same number of readers, at least 2, in each.

    Returns:
        `None` where it is not defined: no case, or one answer throughout.

    Raises:
        EvaluationError: If the number of readers differs between cases, or is below 2.

    Source: Fleiss, Psychological Bulletin 76(5), 1971.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not len(table):
        return None
    readers = table.sum(axis=1)
    if (readers != readers[0]).any() or readers[0] < 2:
        raise EvaluationError("Fleiss' kappa needs the same number of readers, at least 2, for every case")
    within = ((table**2).sum(axis=1) - readers) / (readers * (readers - 1))
    by_chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return None if by_chance == 1 else float((within.mean() - by_chance) / (1 - by_chance))


def _answered(values: np.ndarray) -> np.ndarray:
    """Without readers and cases that have no answer."""
    values = np.asarray(values, dtype=np.float64)
    given = ~np.isnan(values)
    return values[given.any(axis=1)][:, given.any(axis=0)]


def _crossed_variance(values: np.ndarray) -> tuple[float, float]:
    """The variance of the mean of all answers, clustered by reader and by case, and its degrees of freedom."""
    num_readers, num_cases = values.shape
    residuals = np.nan_to_num(values - np.nanmean(values))
    num_answers = float((~np.isnan(values)).sum())
    by_reader = num_readers / (num_readers - 1) * float((residuals.sum(axis=1) ** 2).sum()) / num_answers**2
    by_case = num_cases / (num_cases - 1) * float((residuals.sum(axis=0) ** 2).sum()) / num_answers**2
    alone = float((residuals**2).sum()) / num_answers**2
    variance = max(by_reader + by_case - alone, by_reader, by_case)
    spread = by_reader**2 / (num_readers - 1) + by_case**2 / (num_cases - 1)
    freedom = (by_reader + by_case) ** 2 / spread if spread else float(num_cases - 1)
    return variance, float(np.clip(freedom, min(num_readers, num_cases) - 1, num_cases + num_readers - 2))
