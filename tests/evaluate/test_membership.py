"""The membership attack on numbers with a known answer."""

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.likelihood import ImageLosses
from arra_med.evaluate.membership import membership_attack, membership_difference, membership_scores

OTHERS, MEMBERS = 200, 50
MEMBER = np.arange(OTHERS + MEMBERS) >= OTHERS
PATIENTS = [f"p{number}" for number in range(OTHERS + MEMBERS)]


def scores(found: int) -> np.ndarray:
    """`found` members lie above all others but two, the rest of the members below all."""
    inside = np.where(np.arange(MEMBERS) < found, 197.5, -1.0)
    return np.concatenate([np.arange(OTHERS, dtype=float), inside])


def test_rates_by_hand() -> None:
    attack = membership_attack(scores(20), MEMBER, PATIENTS, num_draws=200)
    assert attack.true_positive_rate.estimate == 20 / 50  # 2 of 200 others lie above
    assert attack.true_positive_rate.low < 0.4 < attack.true_positive_rate.high
    assert attack.auroc.estimate == pytest.approx(20 / 50 * 198 / 200)
    assert (attack.num_members, attack.num_others) == (50, 200)


def test_chance_is_chance() -> None:
    drawn = np.random.default_rng(0).normal(size=len(MEMBER))
    attack = membership_attack(drawn, MEMBER, PATIENTS, num_draws=200)
    assert attack.auroc.low < 0.5 < attack.auroc.high


def test_the_difference_of_equal_models_is_zero_and_a_planted_one_is_found() -> None:
    same = membership_difference({"baseline": scores(20), "arra": scores(20)}, MEMBER, PATIENTS, num_draws=100)
    assert (same.auroc.low, same.auroc.high, same.true_positive_rate.high) == (0, 0, 0)
    more = membership_difference({"baseline": scores(5), "arra": scores(40)}, MEMBER, PATIENTS, num_draws=100)
    assert more.true_positive_rate.estimate == pytest.approx(0.7)
    assert more.auroc.low > 0.4


def test_signals_by_hand() -> None:
    signals = membership_scores(ImageLosses(np.array([1.0, 2.0]), np.array([4.0, 3.0])))
    assert signals["likelihood"].tolist() == [-1, -2]
    assert signals["report_gain"].tolist() == [3, 1]


def test_wrong_inputs_are_said() -> None:
    with pytest.raises(EvaluationError, match="needs 100 held-out images and 2 training images, found 99 and 50"):
        membership_attack(scores(1)[101:], MEMBER[101:], PATIENTS[101:])
    with pytest.raises(EvaluationError, match="1 of 250 scores are NaN or infinite"):
        membership_attack(np.where(np.arange(250) == 3, np.nan, scores(1)), MEMBER, PATIENTS)
    with pytest.raises(EvaluationError, match="one of each for every image is required"):
        membership_attack(scores(1)[1:], MEMBER, PATIENTS)
    with pytest.raises(EvaluationError, match="1 models were given: a difference needs two"):
        membership_difference({"arra": scores(1)}, MEMBER, PATIENTS)
