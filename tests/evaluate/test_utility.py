"""Useful synthetic images teach, noise does not, and the test is on other patients' real images."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.finding_judge import INVERSE_PENALTY
from arra_med.evaluate.utility import measure_utility
from tests.evaluate.conftest import labelled_features

TRAIN = labelled_features(120, seed=0, prefix="train", signal=1.0)
TEST = labelled_features(300, seed=1, signal=1.0)
GOOD = {seed: labelled_features(120, seed=10 + seed, signal=1.0).features for seed in range(4)}
NOISE = {seed: labelled_features(120, seed=20 + seed, signal=0.0).features for seed in range(4)}


def test_good_synthetic_images_teach_and_noise_does_not() -> None:
    good, noise = measure_utility(TRAIN, GOOD, TEST), measure_utility(TRAIN, NOISE, TEST)
    assert good.real is not None
    assert good.both_minus_real is not None
    assert noise.synthetic_minus_real is not None
    assert good.real == noise.real
    assert good.both_minus_real.low > 0  # twice as much data
    assert noise.synthetic_minus_real.high < 0
    assert all(row.synthetic.low < 0.6 for row in noise.per_seed)
    assert good.real.low > 0.6
    assert json.dumps(dataclasses.asdict(good))


def test_seeds_are_the_unit_of_the_differences() -> None:
    utility = measure_utility(TRAIN, GOOD, TEST)
    assert utility.real is not None
    assert utility.synthetic_minus_real is not None
    assert [row.seed for row in utility.per_seed] == [0, 1, 2, 3]
    differences = [row.synthetic.estimate - utility.real.estimate for row in utility.per_seed]
    interval = utility.synthetic_minus_real
    assert (interval.low, interval.high) == pytest.approx(
        stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    )


def test_the_areas_are_scikit_learns() -> None:
    utility = measure_utility(TRAIN, {0: GOOD[0]}, TEST)
    assert utility.real is not None
    assert utility.real_by_finding is not None
    row = utility.per_seed[0]
    for fit, weight, found in (
        (TRAIN.features, 1.0, utility.real_by_finding),
        (GOOD[0], 1.0, row.synthetic_by_finding),
        (np.concatenate([TRAIN.features, GOOD[0]]), 0.5, row.both_by_finding),
    ):
        scaler = StandardScaler().fit(fit)
        for finding in ("effusion", "mass"):
            positive = np.tile(TRAIN.positive(finding), len(fit) // 120)
            probe = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
            probe.fit(scaler.transform(fit), positive, sample_weight=np.full(len(fit), weight))
            scores = probe.decision_function(scaler.transform(TEST.features))
            assert found[finding] == pytest.approx(roc_auc_score(TEST.positive(finding), scores), abs=1e-3)
    assert utility.real.estimate == pytest.approx(np.mean(list(utility.real_by_finding.values())))
    assert (utility.both_minus_real, utility.reason) == (None, "no interval: 1 training seed, 2 needed")


def test_what_is_not_estimable_is_said() -> None:
    utility = measure_utility(TRAIN, GOOD, TEST, min_positives=61, findings=["effusion", "mass", "edema"])
    assert utility.findings == ("effusion",)
    assert utility.not_estimable == {
        "mass": "not estimable: 60 positives, 61 needed",
        "edema": "not estimable: 0 positives, 61 needed",
    }
    few = measure_utility(
        TRAIN.take(np.arange(24)), {0: GOOD[0][:24]}, TEST.take(np.arange(200)), findings=["effusion"]
    )
    assert few.not_estimable == {"effusion": "not estimable: 8 positives, 10 needed to fit"}
    assert (few.real, few.per_seed, few.reason) == (None, (), "not estimable: no finding is")


def nan(features: np.ndarray) -> np.ndarray:
    return np.where(np.arange(12) == 3, np.nan, features)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"synthetic": {}}, "there are 0 training seeds"),
        ({"synthetic": {0: GOOD[0][:-1]}}, "there are 119 rows of fixed features and 120 studies"),
        ({"synthetic": {0: GOOD[0][:, :4]}}, "the synthetic features have width 4 and the real ones 12"),
        ({"synthetic": {0: nan(GOOD[0])}}, "120 of 120 rows of the synthetic features hold NaN"),
        (
            {"test": labelled_features(300, seed=1, source="padchest")},
            "fitted to images of nih_cxr14 and would judge those of padchest",
        ),
        ({"test": labelled_features(300, seed=1, judge="other")}, "would read those of other"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"real_train": TRAIN, "synthetic": GOOD, "test": TEST, **changed}
    with pytest.raises(EvaluationError, match=message):
        measure_utility(**given)


def test_training_patients_are_no_test() -> None:
    with pytest.raises(OverlapError, match="60 patients are among"):
        measure_utility(TRAIN, GOOD, labelled_features(300, seed=1, prefix="train"))
