"""How many cases a reader study needs."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.proportions import share_interval

MAX_CASES = 5_000


@dataclass(frozen=True)
class SampleSize:
    """A number of cases and what it reaches.

    Attributes:
        num_cases: For each reader.
        num_answers: Independent answers that the plan counts with.
        reached: The power, or the half-width of the interval.
        sentence: What was planned for, in words.
    """

    num_cases: int
    num_answers: int
    reached: float
    sentence: str


def preference_power(num_cases: int, share: float, alpha: float = 0.05) -> float:
    """Returns the probability that the exact two-sided binomial test over so many cases is significant.

    Args:
        num_cases: Without ties.
        share: In which the one arm is truly preferred.
        alpha: Level of the test.
    """
    low = int(stats.binom.ppf(alpha / 2, num_cases, 0.5))  # the largest rejected count, from both sides of the median
    while low >= 0 and 2 * stats.binom.cdf(low, num_cases, 0.5) > alpha:
        low -= 1
    if low < 0:
        return 0.0
    return float(stats.binom.cdf(low, num_cases, share) + stats.binom.sf(num_cases - low - 1, num_cases, share))


def cases_for_preference(share: float, *, power: float = 0.8, alpha: float = 0.05) -> SampleSize:
    """Returns the fewest cases from which on the exact test always has the power: that of a discrete test goes up and down.

    Args:
        share: Of the cases in which the one arm is truly preferred; 0.5 is no preference.
        power: Wanted.
        alpha: Two-sided level.

    Raises:
        EvaluationError: If a value is out of range, or more than `MAX_CASES` would be needed.
    """
    if not (0 < alpha < power < 1 and 0 < share < 1 and share != 0.5):
        raise EvaluationError(
            f"share {share:g}, power {power:g}, alpha {alpha:g}: a share in (0, 1) other than 0.5 and alpha < power in "
            "(0, 1) are required"
        )
    quantiles = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    roughly = int((quantiles / (2 * (share - 0.5))) ** 2)
    if roughly > MAX_CASES:
        raise EvaluationError(f"a share of {share:g} needs some {roughly} cases: plan for a larger preference")
    looked_at = range(max(1, int(0.8 * roughly) - 20), int(1.2 * roughly) + 60)
    too_weak = [num for num in looked_at if preference_power(num, share, alpha) < power]
    num_cases = (too_weak[-1] if too_weak else looked_at[0] - 1) + 1
    return SampleSize(
        num_cases,
        num_cases,
        preference_power(num_cases, share, alpha),
        f"{num_cases} cases give the exact binomial test (two-sided, level {alpha:g}) at least {power:.0%} power if one "
        f"arm is preferred in {share:.0%} of cases; ties do not count",
    )


def cases_for_accuracy(
    accuracy: float, half_width: float, *, readers: int = 1, correlation: float = 1.0, confidence: float = 0.95
) -> SampleSize:
    """Returns the fewest cases from which on the interval of an accuracy stays narrow enough.

    Args:
        accuracy: Expected.
        half_width: Of Wilson's interval.
        readers: Who read every case.
        correlation: Between two readers' answers to one case; 1, the cautious value, is what a second reader adds nothing
            to. How much readers differ from each other in general is not in it.
        confidence: Of the interval.

    Raises:
        EvaluationError: If a value is out of range, or more than `MAX_CASES` would be needed.
    """
    if not (
        0 < accuracy < 1 and 0 < half_width < 0.5 and 0 <= correlation <= 1 and readers >= 1 and 0 < confidence < 1
    ):
        raise EvaluationError(
            "an accuracy and a confidence in (0, 1), a half-width in (0, 0.5), a correlation in [0, 1] and at least 1 "
            "reader are required"
        )

    def half(num: int) -> float:
        yes = round(accuracy * num)
        found = share_interval([1] * yes + [0] * (num - yes), [1] * num, confidence)
        return (found.high - found.low) / 2

    upper = math.ceil((stats.norm.ppf((1 + confidence) / 2) / (2 * half_width)) ** 2) + 20
    if upper > MAX_CASES:
        raise EvaluationError(f"a half-width of {half_width:g} needs more than {MAX_CASES} cases: plan for a wider one")
    low, high = 1, upper  # half() falls but for the rounding of the count: look around where the smooth one crosses
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half(middle) <= half_width else (middle + 1, high)
    around = range(max(1, low - 40), low + 41)
    num_answers = max((n for n in around if half(n) > half_width), default=around[0] - 1) + 1
    inflation = 1 + (readers - 1) * correlation
    num_cases = math.ceil(num_answers * inflation / readers)
    together = "" if readers == 1 else f" by each of {readers} readers (correlation {correlation:g} within a case)"
    return SampleSize(
        num_cases,
        num_answers,
        float(np.round(half(num_answers), 6)),
        f"{num_cases} cases read{together} give an accuracy of {accuracy:.0%} a {confidence:.0%} interval of at most "
        f"±{100 * half_width:g} percentage points",
    )
