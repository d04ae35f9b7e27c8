"""Membership inference: can the model's own likelihood tell its training images from held-out ones?

Source: Yeom et al., "Privacy risk in machine learning", CSF 2018 (the loss as the signal); Carlini et al., "Membership
inference attacks from first principles", S&P 2022 (the true-positive rate at a low false-positive rate).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval, auroc_interval
from arra_med.evaluate.likelihood import ImageLosses

FALSE_POSITIVE_RATE = 0.01
CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class Membership:
    """How well one signal tells members from others.

    Attributes:
        auroc: 0.5 is chance; DeLong's interval over patients.
        true_positive_rate: Share of members found where `FALSE_POSITIVE_RATE` of the others would be; the false-positive
            rate is chance. Interval: stratified bootstrap over patients.
        num_members: Training images.
        num_others: Held-out images.
    """

    auroc: Interval
    true_positive_rate: Interval
    num_members: int
    num_others: int


@dataclass(frozen=True)
class MembershipDifference:
    """One model minus another on the same images, from the same bootstrap draws.

    Attributes:
        auroc: Difference of the areas.
        true_positive_rate: Difference of the true-positive rates.
    """

    auroc: Interval
    true_positive_rate: Interval


def membership_scores(losses: ImageLosses) -> dict[str, np.ndarray]:
    """Returns the signals, each (n,) and higher for likely members.

    `likelihood` is the negative loss given the report. `report_gain` is what the report takes off the loss: an image
    that is easy for any model is not taken for a member, a report learnt by heart is.
    """
    return {"likelihood": -losses.conditional, "report_gain": losses.unconditional - losses.conditional}


def membership_attack(
    scores: np.ndarray,
    member: np.ndarray,
    patients: Sequence[str],
    *,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    num_draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Membership:
    """Attacks with one signal.

    Args:
        scores: (n,), higher for likely members.
        member: bool (n,), training images.
        patients: (n,), whose image each is.
        false_positive_rate: Where the true-positive rate is read.
        num_draws: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        EvaluationError: If shapes differ, a score is not finite, or there are too few images for the rate.
    """
    scores, member = _checked(scores, member, patients, false_positive_rate)
    rates = [
        _true_positive_rate(scores, member, weights, false_positive_rate)
        for weights in _bootstrap_weights(member, patients, num_draws, seed)
    ]
    estimate = _true_positive_rate(scores, member, np.ones(len(scores)), false_positive_rate)
    return Membership(
        auroc=auroc_interval(scores, member, patients=patients, confidence=CONFIDENCE),
        true_positive_rate=_percentile_interval(estimate, rates, patients),
        num_members=int(member.sum()),
        num_others=int((~member).sum()),
    )


def membership_difference(
    scores: Mapping[str, np.ndarray],
    member: np.ndarray,
    patients: Sequence[str],
    *,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    num_draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> MembershipDifference:
    """Compares the attacks on two models, the second minus the first.

    Args:
        scores: (n,) for each of the two models, of the same images in the same order; the baseline first.
        member: As `membership_attack`.
        patients: As `membership_attack`.
        false_positive_rate: As `membership_attack`.
        num_draws: As `membership_attack`.
        seed: As `membership_attack`.

    Raises:
        EvaluationError: As `membership_attack`, or if there are not two models.
    """
    if len(scores) != 2:
        raise EvaluationError(f"{len(scores)} models were given: a difference needs two, the baseline first")
    checked = [_checked(values, member, patients, false_positive_rate) for values in scores.values()]
    member = checked[0][1]

    def difference(weights: np.ndarray) -> np.ndarray:
        """Second minus first: AUROC, true-positive rate."""
        first, second = (
            np.array(
                [_area(values, member, weights), _true_positive_rate(values, member, weights, false_positive_rate)]
            )
            for values, _ in checked
        )
        return np.asarray(second - first)

    estimate = difference(np.ones(len(member)))
    drawn = np.array([difference(weights) for weights in _bootstrap_weights(member, patients, num_draws, seed)])
    area, rate = (_percentile_interval(float(estimate[i]), drawn[:, i], patients) for i in range(2))
    return MembershipDifference(area, rate)


def _bootstrap_weights(member: np.ndarray, patients: Sequence[str], num_draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image stands in a draw: patients with replacement, members and others apart."""
    rng = np.random.default_rng(seed)
    names = np.asarray(patients)
    strata = []
    for inside in (False, True):
        rows = np.flatnonzero(member == inside)
        units, unit_of_row = np.unique(names[rows], return_inverse=True)
        strata.append((rows, len(units), unit_of_row))
    for _ in range(num_draws):
        weights = np.zeros(len(member))
        for rows, num_units, unit_of_row in strata:
            weights[rows] = rng.multinomial(num_units, np.full(num_units, 1 / num_units))[unit_of_row]
        yield weights


def _true_positive_rate(
    scores: np.ndarray, member: np.ndarray, weights: np.ndarray, false_positive_rate: float
) -> float:
    """Share of members above the lowest threshold that at most the given share of the others exceeds."""
    order = np.argsort(-scores[~member], kind="stable")
    others, passed = scores[~member][order], np.cumsum(weights[~member][order])
    beyond = int(np.searchsorted(passed, false_positive_rate * passed[-1] * (1 + 1e-12), side="right"))
    return float(np.average(scores[member] > others[min(beyond, len(others) - 1)], weights=weights[member]))


def _area(scores: np.ndarray, member: np.ndarray, weights: np.ndarray) -> float:
    """Weighted area under the ROC curve, ties counted half."""
    order = np.argsort(scores[~member], kind="stable")
    others, below = scores[~member][order], np.concatenate([[0.0], np.cumsum(weights[~member][order])])
    inside = scores[member]
    beaten = (below[np.searchsorted(others, inside)] + below[np.searchsorted(others, inside, side="right")]) / 2
    return float(np.average(beaten / below[-1], weights=weights[member]))


def _percentile_interval(estimate: float, values: Sequence[float] | np.ndarray, patients: Sequence[str]) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    num_patients = len(set(patients))
    return Interval(estimate, float(low), float(high), CONFIDENCE, num_patients, "stratified bootstrap over patients")


def _checked(
    scores: np.ndarray, member: np.ndarray, patients: Sequence[str], false_positive_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    if not (scores.ndim == 1 and scores.shape == member.shape == (len(patients),)):
        raise EvaluationError(
            f"scores and members have shapes {scores.shape} and {member.shape} for {len(patients)} patients: one of each "
            "for every image is required"
        )
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite")
    num_others, num_members = int((~member).sum()), int(member.sum())
    required = int(np.ceil(1 / false_positive_rate))
    if num_others < required or num_members < 2:
        raise EvaluationError(
            f"a true-positive rate at {false_positive_rate:.0%} false positives needs {required} held-out images and 2 "
            f"training images, found {num_others} and {num_members}: not estimable, choose another source"
        )
    return scores, member
