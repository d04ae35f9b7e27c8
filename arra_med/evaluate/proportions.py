"""Shares: of independent images with their exact interval, and of answers, where several can be of one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval


@dataclass(frozen=True)
class Rate:
    """A share of independent images with its exact interval.

    Source: Clopper and Pearson, Biometrika 26(4), 1934.

    Attributes:
        count: Images found.
        total: Images looked at.
        rate: `count / total`; none where nothing was looked at.
        interval: 95% interval.
    """

    count: int
    total: int
    rate: float | None
    interval: tuple[float, float]

    @classmethod
    def of(cls, found: np.ndarray) -> "Rate":
        """Returns the share of true values."""
        count, total = int(np.sum(found)), len(found)
        if not total:
            return cls(0, 0, None, (0.0, 1.0))
        interval = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
        return cls(count, total, count / total, (float(interval.low), float(interval.high)))


def share_interval(yes: Sequence[int], answers: Sequence[int], confidence: float = 0.95) -> Interval:
    """Returns the share of "yes" among answers, with Wilson's interval at the effective number of answers.

    Answers about one image go together, so a second reader's count for less than new images would. The effective number
    is what independent answers would need for the share's variance over images; it lies between the number of images
    and that of answers. With one answer for each image it is Wilson's interval. That readers differ, too, is not in it.

    Args:
        yes: For each image, how many said yes.
        answers: For each image, how many answered; images without an answer are left out.
        confidence: Of the interval.

    Raises:
        EvaluationError: If there is no answer, or more say yes than answered.

    Source: Wilson 1927; Rao and Scott 1992.
    """
    said, asked = np.asarray(yes, dtype=np.float64), np.asarray(answers, dtype=np.float64)
    if said.shape != asked.shape or ((said < 0) | (said > asked)).any():
        raise EvaluationError("for each image, from none to all of its answers can be yes: count them again")
    said, asked = said[asked > 0], asked[asked > 0]
    num_images, num_answers = len(asked), float(asked.sum())
    if not num_images:
        raise EvaluationError("a share of no answers is not defined: give at least one answer")
    share = float(said.sum() / num_answers)
    effective = float(num_images)
    if num_images > 1 and 0 < share < 1:
        residuals = said - share * asked
        variance = num_images / (num_images - 1) * float((residuals**2).sum()) / num_answers**2
        fewest = share * (1 - share) / num_answers  # the variance of independent answers
        effective = float(np.clip(share * (1 - share) / max(variance, fewest), num_images, num_answers))
    quantile = float(stats.norm.ppf((1 + confidence) / 2))
    scale = 1 + quantile**2 / effective
    centre = (share + quantile**2 / (2 * effective)) / scale
    half = quantile / scale * np.sqrt(share * (1 - share) / effective + quantile**2 / (4 * effective**2))
    method = "Wilson" if num_answers == num_images else f"Wilson at {effective:.1f} effective answers"
    return Interval(
        share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), confidence, num_images, method
    )
