"""The numbers of a comparison: by hand and scipy, from `comparison.json` alone, and as often right as they say."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.comparison import (
    ArmEffect,
    detectable,
    differences,
    effects,
    excess_effects,
    excess_intervals,
    verdicts,
)
from arra_med.evaluate.intervals import Reduction

ROLES = {"plain": "baseline", "arra": "treatment", "permuted": "control"}
PER_SEED = {"plain": [10.0, 12.0, 11.0], "arra": [7.0, 9.0, 7.5], "permuted": [10.0, 11.5, 11.2]}


def effect(reduction: float, low: float, high: float, against: str = "plain", role: str = "baseline") -> ArmEffect:
    return ArmEffect("arra", against, role, Reduction(reduction, low, high, 0.95, 3, (0.0,) * 3), None)


def test_every_arm_meets_the_baseline_and_every_treatment_every_control() -> None:
    found = effects(PER_SEED, ROLES)
    assert [(one.arm, one.against, one.role_against) for one in found] == [
        ("arra", "plain", "baseline"),
        ("permuted", "plain", "baseline"),
        ("arra", "permuted", "control"),
    ]
    for one in found:
        log_ratios = np.log(PER_SEED[one.arm]) - np.log(PER_SEED[one.against])
        expected = stats.ttest_1samp(log_ratios, 0).confidence_interval(0.95)
        assert one.reduction.reduction == pytest.approx(
            1 - stats.gmean(PER_SEED[one.arm]) / stats.gmean(PER_SEED[one.against])
        )
        assert (one.reduction.low, one.reduction.high) == pytest.approx(
            (1 - np.exp(expected.high), 1 - np.exp(expected.low))
        )
        assert one.hierarchical is None


def test_anyone_can_recompute_the_interval_from_the_file() -> None:
    rows = [{"seed": seed, **{arm: PER_SEED[arm][seed] for arm in ROLES}} for seed in range(3)]
    told = {"per_seed": rows, "effects": [dataclasses.asdict(one) for one in effects(PER_SEED, ROLES)]}
    read = json.loads(json.dumps(told))
    for one in read["effects"]:
        log_ratios = [np.log(row[one["arm"]] / row[one["against"]]) for row in read["per_seed"]]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(log_ratios), scale=stats.sem(log_ratios))
        assert one["reduction"]["log_ratios"] == pytest.approx(log_ratios)
        assert (one["reduction"]["low"], one["reduction"]["high"]) == pytest.approx((1 - np.exp(high), 1 - np.exp(low)))


def test_the_interval_over_patients_is_of_the_reduction_and_wider_where_patients_differ() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{number}" for number in range(40)]
    plain, gain = rng.uniform(5, 15, 40), rng.normal(0.25, 0.3, 40)

    def distance(arm: str, number: int, rows: np.ndarray) -> float:
        return float((plain[rows] * (1 - gain[rows] * (arm == "arra"))).mean() * (1 + number / 1000))

    rows = np.arange(40)
    per_seed = {arm: [distance(arm, number, rows) for number in range(3)] for arm in ("plain", "arra")}
    roles = {"plain": "baseline", "arra": "treatment"}
    (found,) = effects(per_seed, roles, distance_on_rows=distance, patients=patients)
    assert found.hierarchical is not None
    assert found.hierarchical.estimate == pytest.approx(found.reduction.reduction)
    assert found.hierarchical.low < found.reduction.low < found.reduction.high < found.hierarchical.high


def test_the_same_distances_are_no_effect_and_not_below_zero() -> None:
    (found,) = effects({"plain": [3.0, 4.0], "same": [3.0, 4.0]}, {"plain": "baseline", "same": "treatment"})
    assert found.reduction.log_ratios == (0.0, 0.0)
    (verdict,) = verdicts([found], {"plain": "baseline", "same": "treatment"}, 0.29)
    assert verdict.tier == "not shown to help"
    assert "reduction 0.0% [0.0%, 0.0%]" in verdict.reason


@pytest.mark.parametrize(
    ("against_baseline", "against_control", "tier"),
    [
        ((0.40, 0.30, 0.49), (0.2, 0.1, 0.3), "exceeds the paper"),
        ((0.40, 0.29, 0.49), (0.2, 0.1, 0.3), "matches the paper"),
        ((0.29, 0.05, 0.49), (0.2, 0.1, 0.3), "matches the paper"),
        ((0.28, 0.05, 0.49), (0.2, 0.1, 0.3), "helps"),
        ((0.40, 0.30, 0.49), (0.2, 0.0, 0.3), "not shown to help"),
        ((0.28, -0.01, 0.49), (0.2, 0.1, 0.3), "not shown to help"),
        ((-0.2, -0.40, 0.01), (0.2, 0.1, 0.3), "not shown to help"),
        ((-0.2, -0.40, -0.01), (0.2, 0.1, 0.3), "hurts"),
    ],
)
def test_a_tier_is_the_highest_that_holds(
    against_baseline: tuple[float, float, float], against_control: tuple[float, float, float], tier: str
) -> None:
    found = [effect(*against_baseline), effect(*against_control, against="permuted", role="control")]
    (verdict,) = verdicts(found, ROLES, 0.29)
    assert (verdict.arm, verdict.tier) == ("arra", tier)
    if against_control[1] <= 0:
        assert verdict.reason.endswith("not above 0 against permuted")


def test_an_effect_without_a_control_of_its_own_concludes_nothing() -> None:
    uncontrolled = {"plain": "baseline", "arra": "treatment"}
    (verdict,) = verdicts([effect(0.40, 0.30, 0.49)], uncontrolled, 0.29)
    assert verdict.tier == "no matched control"
    (verdict,) = verdicts([effect(-0.2, -0.40, -0.01)], uncontrolled, 0.29)
    assert verdict.tier == "hurts"
    found = [effect(0.40, 0.30, 0.49), effect(0.2, 0.1, 0.3, against="permuted", role="control")]
    (verdict,) = verdicts(found, ROLES, 0.29, controls={"arra": []})
    assert verdict.tier == "no matched control"


def test_a_planted_effect_is_found_and_a_null_one_is_not() -> None:
    rng = np.random.default_rng(3)
    found = {"arra": 0, "null": 0}
    roles = {"plain": "baseline", "arra": "treatment", "null": "treatment", "permuted": "control"}
    for _ in range(400):
        luck = rng.normal(0, 0.1, 5)

        def distances(reduction: float, shared: np.ndarray = luck) -> list[float]:
            return (10 * (1 - reduction) * np.exp(shared + rng.normal(0, 0.05, 5))).tolist()

        per_seed = {"plain": distances(0), "arra": distances(0.25), "null": distances(0), "permuted": distances(0)}
        for verdict in verdicts(effects(per_seed, roles), roles, 0.29):
            found[verdict.arm] += verdict.tier in ("helps", "matches the paper", "exceeds the paper")
    assert found["arra"] > 380
    assert found["null"] < 400 * 0.03  # 2.5% one-sided against one arm, and less against two


def test_what_could_be_found_comes_from_the_baseline_alone() -> None:
    effect = detectable(PER_SEED, "plain")
    assert effect == detectable({**PER_SEED, "arra": [1.0, 50.0, 3.0]}, "plain")
    assert (effect.num_seeds, effect.num_baseline_seeds) == (3, 3)
    assert effect.seed_spread == pytest.approx(np.std(np.log(PER_SEED["plain"]), ddof=1))
    # a paired t test of two independent arms finds exactly this log-ratio four times in five
    noncentrality = effect.log_ratio / (effect.seed_spread * np.sqrt(2 / 3))
    critical = stats.t.ppf(0.975, 2)
    power = stats.nct.sf(critical, 2, noncentrality) + stats.nct.cdf(-critical, 2, noncentrality)
    assert power == pytest.approx(0.8)


def test_the_excess_over_the_floor_has_an_interval_and_a_ratio_where_it_is_surely_above_0() -> None:
    floor = 6.0
    excess = {arm: np.array(values) - floor for arm, values in PER_SEED.items()}
    found = excess_intervals(PER_SEED, floor)
    for arm, values in excess.items():
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (found[arm].low, found[arm].high) == pytest.approx((expected.low, expected.high))
    told = {(effect.arm, effect.against): effect.reduction for effect in excess_effects(PER_SEED, ROLES, floor)}
    assert list(told) == [(effect.arm, effect.against) for effect in effects(PER_SEED, ROLES)]
    sure = {arm for arm, interval in found.items() if interval.low > 0 and min(excess[arm]) > 0}
    assert sure not in (set(), set(ROLES))
    for (arm, against), reduction in told.items():
        assert (reduction is None) == (not {arm, against} <= sure)
        if reduction is not None:
            ratios = np.log(excess[arm] / excess[against])
            assert reduction.reduction == pytest.approx(1 - np.exp(ratios.mean()))
            assert reduction.low == pytest.approx(1 - np.exp(stats.ttest_1samp(ratios, 0).confidence_interval().high))


def test_differences_are_paired_t_intervals_and_may_be_negative() -> None:
    values = {"plain": [0.1, -0.2, 0.3], "arra": [-0.1, -0.3, 0.0]}
    found = differences(values, "plain")
    assert list(found) == ["arra"]
    expected = stats.ttest_rel(values["arra"], values["plain"]).confidence_interval(0.95)
    assert found["arra"].estimate == pytest.approx(-0.2)
    assert (found["arra"].low, found["arra"].high) == pytest.approx((expected.low, expected.high))


def test_arms_with_different_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"different numbers of seeds \(plain 3, arra 2, permuted 3\): finish"):
        effects({**PER_SEED, "arra": [7.0, 9.0]}, ROLES)
    with pytest.raises(EvaluationError, match="come from 1 seeds; an interval needs at least 2"):
        effects({arm: [3.0] for arm in ROLES}, ROLES)
    with pytest.raises(EvaluationError, match="zero or negative and has no log-ratio"):
        effects({**PER_SEED, "arra": [7.0, 0.0, 1.0]}, ROLES)
