"""Intervals over seeds and of AUROC: by hand, against scipy and scikit-learn, and as often right as they say."""

import numpy as np
import pytest
from scipy import integrate, stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import (
    auroc_interval,
    macro_auroc_interval,
    reduction_interval,
    smallest_detectable_reduction,
    t_interval,
)


def test_t_interval_is_scipy_s() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    interval = t_interval(values, confidence=0.9)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert (interval.estimate, interval.num_units) == (3.0, 4)


def test_a_reduction_by_hand() -> None:
    # log-ratios log(1/2) and log(1/8): mean log(1/4), so three quarters less.
    result = reduction_interval([2.0, 8.0], [1.0, 1.0])
    assert result.reduction == pytest.approx(0.75)
    half = stats.t.ppf(0.975, 1) * np.log(2)  # standard error of +-log 2 around the mean
    assert (result.low, result.high) == pytest.approx((1 - np.exp(half) / 4, 1 - np.exp(-half) / 4))
    assert result.log_ratios == pytest.approx((-np.log(2), -np.log(8)))


def test_swapping_the_arms_turns_the_sign() -> None:
    forth, back = reduction_interval([2, 3, 4], [1, 2, 3.5]), reduction_interval([1, 2, 3.5], [2, 3, 4])
    assert back.reduction == pytest.approx(1 - 1 / (1 - forth.reduction))
    assert (back.low, back.high) == pytest.approx((1 - 1 / (1 - forth.high), 1 - 1 / (1 - forth.low)))


def test_a_null_effect_is_covered_and_a_planted_one_found() -> None:
    rng = np.random.default_rng(0)
    covered, found = 0, 0
    for _ in range(600):
        baseline = np.exp(rng.normal(2, 0.1, 5))
        null = reduction_interval(baseline, baseline * np.exp(rng.normal(0, 0.1, 5)))
        planted = reduction_interval(baseline, baseline * 0.75 * np.exp(rng.normal(0, 0.1, 5)))
        covered += null.low <= 0 <= null.high
        found += planted.low > 0
    assert covered / 600 == pytest.approx(0.95, abs=0.02)
    assert found / 600 > 0.9


@pytest.mark.parametrize("num_seeds", [2, 3, 4, 5, 8])
def test_the_power_is_that_of_the_integral_over_the_spread(num_seeds: int) -> None:
    effect = smallest_detectable_reduction([2.0, 2.5, 2.2], num_seeds)
    freedom, critical = num_seeds - 1, stats.t.ppf(0.975, num_seeds - 1)
    noncentrality = effect.log_ratio / (effect.seed_spread * np.sqrt(2 / num_seeds))

    def found(chi2: float) -> float:
        bound = critical * np.sqrt(chi2 / freedom)
        return stats.chi2.pdf(chi2, freedom) * (
            stats.norm.sf(bound - noncentrality) + stats.norm.sf(bound + noncentrality)
        )

    assert integrate.quad(found, 0, np.inf)[0] == pytest.approx(0.8, abs=1e-5)


def test_the_smallest_detectable_reduction_is_found_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    spread = 0.1
    baseline = np.exp(spread * np.array([-1.0, 0.0, 1.0]))  # a standard deviation of exactly 0.1
    effect = smallest_detectable_reduction(baseline, num_seeds=5)
    assert effect.seed_spread == pytest.approx(spread)
    assert effect.reduction == pytest.approx(1 - np.exp(-effect.log_ratio))
    differences = rng.normal(effect.log_ratio, spread * np.sqrt(2), (4000, 5))
    assert (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)
    # With many seeds the textbook's normal quantiles: (1.960 + 0.8416) standard errors.
    many = smallest_detectable_reduction(baseline, num_seeds=2000)
    assert many.log_ratio == pytest.approx((1.95996 + 0.84162) * spread * np.sqrt(2 / 2000), rel=1e-3)
    correlated = smallest_detectable_reduction(baseline, num_seeds=5, correlation=0.75)
    assert correlated.log_ratio == pytest.approx(effect.log_ratio / 2)


@pytest.mark.parametrize(("num_seeds", "difference_in_spreads"), [(3, 3.2640), (5, 1.6820), (10, 0.9960)])
def test_the_smallest_detectable_difference_is_that_of_power_tables(
    num_seeds: int, difference_in_spreads: float
) -> None:
    """Mean difference over its standard deviation: two-sided paired t test, 5%, power 80%."""
    effect = smallest_detectable_reduction([2.0, 2.5, 2.2], num_seeds)
    assert effect.log_ratio / (effect.seed_spread * np.sqrt(2)) == pytest.approx(difference_in_spreads, abs=1e-4)
    assert effect.test.startswith("two-sided paired t test over seeds")


def test_the_bounds_of_the_smallest_detectable_reduction_hold_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    exactly = smallest_detectable_reduction(np.exp(0.1 * np.array([-1.0, 0.0, 1.0])), 5).reduction
    found = [smallest_detectable_reduction(np.exp(rng.normal(0, 0.1, 5)), 5) for _ in range(300)]
    assert np.mean([effect.low <= exactly <= effect.high for effect in found]) == pytest.approx(0.95, abs=0.03)
    assert all(effect.low < effect.reduction < effect.high for effect in found)


def test_auroc_by_hand_and_by_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    # Positives 3, 2 against negatives 2, 1: pairs won 1, 1, 1/2, 1 of 4.
    result = auroc_interval(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert result.estimate == pytest.approx(0.875)
    rng = np.random.default_rng(2)
    for _ in range(20):
        positive = rng.random(60) < 0.4
        scores = np.round(rng.normal(size=60) + positive, 1)  # ties
        assert auroc_interval(scores, positive).estimate == pytest.approx(roc_auc_score(positive, scores))


def test_the_variance_is_delong_s() -> None:
    rng = np.random.default_rng(3)
    positive = np.arange(50) < 20
    scores = rng.normal(size=50) + positive
    wins = (scores[positive][:, None] > scores[~positive][None]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 20 + wins.mean(axis=0).var(ddof=1) / 30
    result = auroc_interval(scores, positive)
    logits = np.log(np.array([result.low, result.high]) / (1 - np.array([result.low, result.high])))
    error = (logits[1] - logits[0]) / 2 / stats.norm.ppf(0.975) * result.estimate * (1 - result.estimate)
    assert error == pytest.approx(np.sqrt(variance))


def test_auroc_is_covered_for_images_and_for_patients() -> None:
    truth = stats.norm.cdf(1 / np.sqrt(2))
    rng = np.random.default_rng(4)
    covered, covered_naive, covered_patients = 0, 0, 0
    for _ in range(300):
        positive = np.arange(120) < 40
        scores = rng.normal(size=120) + positive
        result = auroc_interval(scores, positive)
        covered += result.low <= truth <= result.high
        # Three almost equal images of each patient: as informative as one.
        thrice = np.repeat(scores, 3) + rng.normal(0, 0.01, 360)
        owners = [f"p{number}" for number in np.repeat(np.arange(120), 3)]
        naive = auroc_interval(thrice, np.repeat(positive, 3))
        patients = auroc_interval(thrice, np.repeat(positive, 3), patients=owners)
        covered_naive += naive.low <= truth <= naive.high
        covered_patients += patients.low <= truth <= patients.high
    assert covered / 300 == pytest.approx(0.95, abs=0.03)
    assert covered_patients / 300 == pytest.approx(0.95, abs=0.03)
    assert covered_naive / 300 < 0.85


def test_a_perfect_separation_is_not_certainty() -> None:
    scores, positive = np.arange(20.0), np.arange(20) >= 15
    perfect = auroc_interval(scores, positive)
    assert (perfect.estimate, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.025 ** (1 / 5))  # five positives
    reversed_ = auroc_interval(-scores, positive)
    assert (reversed_.estimate, reversed_.low) == (0.0, 0.0)
    assert reversed_.high == pytest.approx(1 - perfect.low)


def test_values_that_have_no_interval_are_refused() -> None:
    with pytest.raises(EvaluationError, match="values come from 1 seeds; an interval needs at least 2, better 5"):
        t_interval([1.0])
    with pytest.raises(EvaluationError, match="1 of 3 values are NaN or infinite"):
        t_interval([1.0, float("nan"), 2.0])
    with pytest.raises(EvaluationError, match="3 baseline and 2 treated seeds do not pair"):
        reduction_interval([1, 2, 3], [1, 2])
    with pytest.raises(EvaluationError, match="zero or negative and has no log-ratio: use differences"):
        reduction_interval([1, 2, 3], [1, -2, 3])
    with pytest.raises(EvaluationError, match="baseline distance is zero or negative and has no logarithm"):
        smallest_detectable_reduction([1, 0.0], 5)
    with pytest.raises(EvaluationError, match="a study of 1 seeds has no interval"):
        smallest_detectable_reduction([1, 2], 1)
    with pytest.raises(EvaluationError, match=r"power 1.2, .*alpha < power in \(0, 1\)"):
        smallest_detectable_reduction([1, 2], 5, power=1.2)


def test_scores_that_have_no_auroc_are_refused() -> None:
    with pytest.raises(EvaluationError, match="2 positive and 2 negative images, found 1 and 3: not estimable"):
        auroc_interval(np.arange(4.0), np.arange(4) == 0)
    with pytest.raises(EvaluationError, match="1 of 4 scores are NaN or infinite"):
        auroc_interval(np.array([1, 2, 3, np.nan]), np.arange(4) < 2)
    with pytest.raises(EvaluationError, match=r"shapes \(4,\), \(3,\) and \(4,\): one of each for every image"):
        auroc_interval(np.arange(4.0), np.arange(3) < 2)
    with pytest.raises(EvaluationError, match=r"shapes \(4,\), \(4,\) and \(3,\)"):
        auroc_interval(np.arange(4.0), np.arange(4) < 2, patients=["a", "b", "c"])


def test_a_macro_area_counts_what_its_findings_share() -> None:
    rng = np.random.default_rng(3)
    positive = np.arange(120) % 3 == 0
    scores = rng.normal(size=120) + positive
    one = auroc_interval(scores, positive)
    twice = macro_auroc_interval(np.stack([scores, scores], axis=1), np.stack([positive, positive], axis=1))
    assert twice == one  # the same finding twice is no more evidence
    other = rng.normal(size=120) + positive
    pair = macro_auroc_interval(np.stack([scores, other], axis=1), np.stack([positive, positive], axis=1))
    assert pair.estimate == pytest.approx((one.estimate + auroc_interval(other, positive).estimate) / 2)
    assert pair.high - pair.low < one.high - one.low


def test_a_macro_interval_is_as_wide_as_the_areas_spread() -> None:
    rng = np.random.default_rng(4)
    positive = np.stack([np.arange(150) % 3 == 0, np.arange(150) % 4 == 0], axis=1)
    found = []
    for _ in range(300):
        shared = rng.normal(size=(150, 1))  # correlates the two findings' scores
        found.append(macro_auroc_interval(shared + rng.normal(size=(150, 2)) + positive, positive))
    spread = np.std([interval.estimate for interval in found], ddof=1)
    width = np.mean([interval.high - interval.low for interval in found])
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_equal_scores_have_an_area_of_a_half_without_a_spread() -> None:
    tied = auroc_interval(np.zeros(40), np.arange(40) % 2 == 0)
    assert (tied.estimate, tied.low, tied.high, tied.method) == (0.5, 0.5, 0.5, "all scores tie")


def test_a_macro_area_needs_a_column_for_each_finding() -> None:
    with pytest.raises(EvaluationError, match="one of each for every image is required"):
        macro_auroc_interval(np.zeros((4, 2)), np.zeros((4, 1), dtype=bool))
    with pytest.raises(EvaluationError, match="one of each for every image is required"):
        macro_auroc_interval(np.zeros((4, 0)), np.zeros((4, 0), dtype=bool))
