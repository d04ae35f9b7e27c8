"""Intervals over patients and seeds: equal to the textbook where there is one, as often right as they say, no copies."""

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.frechet import frechet_distance
from arra_med.evaluate.resampling import half_sample_interval, hierarchical_interval, jackknife_interval

PATIENTS = [f"p{number}" for number in range(60)]


def test_the_jackknife_of_a_mean_is_the_textbook_s() -> None:
    values = np.random.default_rng(0).normal(size=60)
    result = jackknife_interval(lambda rows: values[rows].mean(), PATIENTS, num_groups=60)
    from scipy import stats

    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert (result.estimate, result.num_units) == (values.mean(), 60)


def test_half_samples_of_a_mean_have_its_standard_error_and_no_copies() -> None:
    values = np.random.default_rng(0).normal(size=60)
    seen: list[np.ndarray] = []

    def mean(rows: np.ndarray) -> float:
        seen.append(rows)
        return float(values[rows].mean())

    result = half_sample_interval(mean, PATIENTS, num_draws=3000)
    from scipy import stats

    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert {len(set(rows.tolist())) for rows in seen[1:]} == {30}
    with pytest.raises(EvaluationError, match="come from 9 patients"):
        half_sample_interval(mean, PATIENTS[:9])


def test_a_patient_s_images_leave_and_stay_together_and_none_comes_twice() -> None:
    owners = [f"p{number // 3}" for number in range(90)]
    seen: list[np.ndarray] = []

    def mean(rows: np.ndarray) -> float:
        seen.append(rows)
        return float(rows.mean())

    jackknife_interval(mean, owners, num_groups=7)
    assert sorted(len(rows) for rows in seen) == [75, 75, 78, 78, 78, 78, 78, 90]
    hierarchical_interval(lambda _, rows: mean(rows), 3, owners, num_replicates=20)
    assert {len(rows) for rows in seen[8:]} == {45, 90}  # half of 30 patients
    for rows in seen:
        assert len(set(rows)) == len(rows)
        assert all((rows // 3 == patient).sum() in (0, 3) for patient in range(30))


def test_patients_are_covered_where_images_alone_would_not_be() -> None:
    rng = np.random.default_rng(1)
    owners = [f"p{number // 4}" for number in range(160)]
    covered = 0
    for seed in range(300):
        values = np.repeat(rng.normal(size=40), 4) + rng.normal(0, 0.3, 160)
        result = jackknife_interval(lambda rows, v=values: v[rows].mean(), owners, seed=seed)
        covered += result.low <= 0 <= result.high
    assert covered / 300 == pytest.approx(0.95, abs=0.03)


def test_a_frechet_distance_has_an_interval_over_patients() -> None:
    rng = np.random.default_rng(2)
    lows, highs, estimates = [], [], []
    for seed in range(40):
        real, generated = rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 0.5
        owners = [f"p{number}" for number in range(200)]
        result = jackknife_interval(
            lambda rows, r=real, g=generated: frechet_distance(r[rows], g[rows]), owners, seed=seed
        )
        lows.append(result.low), highs.append(result.high), estimates.append(result.estimate)
    centre = np.mean(estimates)  # what the estimator estimates at 200 images
    assert ((np.array(lows) <= centre) & (centre <= np.array(highs))).mean() >= 0.85
    half = np.mean(np.array(highs) - np.array(lows)) / 2
    assert half == pytest.approx(2.09 * np.std(estimates), rel=0.35)


@pytest.mark.parametrize(("seed_spread", "patient_spread"), [(0.3, 0.3), (0.05, 3.0)])
def test_seeds_and_patients_are_covered_together(seed_spread: float, patient_spread: float) -> None:
    rng = np.random.default_rng(3)
    covered, found = 0, 0
    for trial in range(150):
        seeds = rng.normal(0, seed_spread, 5)
        cells = seeds[:, None] + rng.normal(0, patient_spread, 60) + rng.normal(0, 0.3, (5, 60))
        result = hierarchical_interval(
            lambda s, rows, c=cells: c[s, rows].mean(), 5, PATIENTS, num_replicates=60, seed=trial
        )
        covered += result.low <= 0 <= result.high
        found += result.low + 3 > 0
    assert 0.92 <= covered / 150 <= 1.0
    assert found / 150 > 0.95


def test_a_bias_at_half_the_images_does_not_move_the_estimate() -> None:
    result = hierarchical_interval(lambda s, rows: s + 10 / len(rows), 3, PATIENTS, num_replicates=50)
    assert result.estimate == pytest.approx(1 + 10 / 60)
    assert (result.low + result.high) / 2 == pytest.approx(result.estimate)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=(4, 60))
    results = [
        hierarchical_interval(lambda s, rows: values[s, rows].mean(), 4, PATIENTS, num_replicates=30, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1] != results[2]


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(EvaluationError, match="come from 9 patients; an interval over patients needs at least 10"):
        jackknife_interval(lambda rows: 0.0, PATIENTS[:9])
    with pytest.raises(EvaluationError, match="come from 0 patients"):
        jackknife_interval(lambda rows: 0.0, [])
    with pytest.raises(EvaluationError, match="come from 1 seeds; an interval needs at least 2, better 5"):
        hierarchical_interval(lambda s, rows: 0.0, 1, PATIENTS)
    with pytest.raises(EvaluationError, match="statistic is NaN or infinite on a subset of the patients"):
        jackknife_interval(lambda rows: float("nan") if len(rows) < 60 else 0.0, PATIENTS)
