"""A planted signal is found, none is not, a copied report is the ceiling, and what cannot be told is said."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.agreement import (
    FindingAgreement,
    LabelledFeatures,
    agreement_over_seeds,
    measure_agreement,
    measure_prompt_agreement,
    shuffled_floor,
)
from arra_med.evaluate.finding_judge import FindingJudge
from arra_med.evaluate.intervals import Interval
from tests.evaluate.conftest import labelled_features

FIT = labelled_features(300, seed=0, prefix="fit")
REAL = labelled_features(240, seed=1)
DRAWN = labelled_features(240, seed=2, signal=1.5).features


def row_of(rows: list[FindingAgreement], finding: str, group: str = "all") -> FindingAgreement:
    (row,) = [row for row in rows if (row.finding, row.group) == (finding, group)]
    return row


def test_a_planted_signal_is_found_and_shuffled_reports_have_none() -> None:
    rows = measure_agreement(FIT, REAL, DRAWN)
    for finding in ("effusion", "mass", "macro"):
        row = row_of(rows, finding)
        assert row.auroc is not None
        assert row.ceiling is not None
        assert row.floor is not None
        assert row.auroc.low > 0.7
        assert row.ceiling.estimate > row.auroc.estimate
        assert row.floor.estimate == pytest.approx(0.5, abs=0.03)
        assert row.floor.high < row.auroc.low
        assert row.auroc.num_units == 120  # patients, two images each
    assert rows[-1].finding == "macro"
    assert rows[-1].findings == ("effusion", "mass")
    assert json.dumps([dataclasses.asdict(row) for row in rows])


def test_a_null_effect_is_not_found() -> None:
    rows = measure_agreement(FIT, REAL, labelled_features(240, seed=3, signal=0.0).features)
    macro = row_of(rows, "macro")
    assert macro.auroc is not None
    assert macro.floor is not None
    assert macro.auroc.low < 0.5 < macro.auroc.high
    assert macro.floor.low < macro.auroc.estimate < macro.floor.high


def test_the_area_is_that_of_all_pairs_and_the_macro_row_its_mean() -> None:
    rows = measure_agreement(FIT, REAL, DRAWN)
    areas = {}
    for finding in ("effusion", "mass"):
        scores, positive = FindingJudge(FIT, finding).scores(DRAWN), REAL.positive(finding)
        pairs = scores[positive][:, None] - scores[~positive][None]
        areas[finding] = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
        found = row_of(rows, finding).auroc
        assert found is not None
        assert found.estimate == pytest.approx(areas[finding])
    macro = rows[-1].auroc
    assert macro is not None
    assert macro.estimate == pytest.approx(np.mean(list(areas.values())))


def test_real_images_in_place_of_generated_ones_reach_the_ceiling() -> None:
    row = row_of(measure_agreement(FIT, REAL, REAL.features), "effusion")
    assert row.auroc == row.ceiling


def test_subgroups_have_their_own_counts_and_unknown_is_in_none() -> None:
    rows = measure_agreement(FIT, REAL, DRAWN, findings=["effusion"], min_positives=20)
    groups = ["all", "age_group=adult", "age_group=child", "sex=F", "sex=M", "view=PA", "view=AP"]
    assert [row.group for row in rows[:-1]] == groups
    for attribute, value in (("sex", "F"), ("view", "AP"), ("age_group", "child")):
        members = [row for row in range(240) if getattr(REAL.records[row], attribute) == value]
        row = row_of(rows, "effusion", f"{attribute}={value}")
        assert row.num_images == len(members)
        assert row.num_positives == sum(member % 3 == 0 for member in members)
        assert row.auroc is not None
    by_sex = [row_of(rows, "effusion", f"sex={sex}").num_images for sex in "FM"]
    assert sum(by_sex) < 240


def test_too_few_positives_are_not_estimable_on_either_side() -> None:
    some = measure_agreement(FIT, REAL, DRAWN, min_positives=60)
    assert row_of(some, "mass").reason == "not estimable: 48 positives, 60 needed"
    assert row_of(some, "mass").auroc is row_of(some, "mass").ceiling is row_of(some, "mass").floor is None
    assert row_of(some, "macro").findings == ("effusion",)
    assert row_of(some, "effusion", "age_group=child").reason == "not estimable: 20 positives, 60 needed"
    none = measure_agreement(FIT, REAL, DRAWN, min_positives=161)
    assert row_of(none, "macro").reason == "not estimable: no finding is"
    few = FIT.take(np.arange(45))
    assert row_of(measure_agreement(few, REAL, DRAWN), "mass").reason == (
        "not estimable: 9 positives, 10 needed to fit the judge"
    )
    mostly = REAL.take(np.array([row for row in range(240) if row % 3 == 0 or row < 60]))
    assert row_of(measure_agreement(FIT, mostly, mostly.features, min_positives=41), "effusion").reason == (
        "not estimable: 40 negatives, 41 needed"
    )


def test_a_study_without_labels_is_left_out_and_not_a_negative() -> None:
    records = tuple(r.model_copy(update={"labels": ()}) if row < 60 else r for row, r in enumerate(REAL.records))
    rows = measure_agreement(FIT, LabelledFeatures("fixed", REAL.features, records), DRAWN)
    expected = measure_agreement(FIT, REAL.take(np.arange(60, 240)), DRAWN[60:])
    assert rows == expected
    assert rows[0].num_images == 180


def test_shuffled_reports_never_stay_with_their_patient() -> None:
    patients = ["a"] * 3 + ["b"] * 2 + ["c"] * 3
    own = np.array([[1.0]] * 3 + [[0.0]] * 5)  # only the first patient's reports have the finding, and score high
    floor = shuffled_floor(own, own > 0, patients, np.random.default_rng(0))
    assert floor is not None
    assert floor.high < 0.5  # an image of the first patient never keeps a finding
    assert shuffled_floor(own, own > 0, ["a"] * 5 + ["b"] * 3, np.random.default_rng(0)) is None


def test_reports_without_images_have_no_ceiling() -> None:
    reports = tuple(record.model_copy(update={"source": "openi"}) for record in REAL.records)
    rows = measure_prompt_agreement(FIT, reports, DRAWN, findings=["effusion"])
    row = row_of(rows, "effusion")
    assert (row.source, row.ceiling) == ("openi", None)
    assert row.auroc == row_of(measure_agreement(FIT, REAL, DRAWN), "effusion").auroc


def with_nan(features: np.ndarray) -> np.ndarray:
    features = features.copy()
    features[4, 2] = np.nan
    return features


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"generated": with_nan(DRAWN)}, "1 of 240 rows of the fixed features hold NaN or infinity"),
        ({"generated": DRAWN[:-1]}, "there are 239 rows of fixed features and 240 studies"),
        ({"generated": DRAWN[:, :5]}, "have width 5 and the probe was fitted to width 12"),
        (
            {"fit": labelled_features(300, seed=0, prefix="fit", source="padchest")},
            "judge those of nih_cxr14: give one",
        ),
        ({"fit": labelled_features(300, seed=0, prefix="fit", judge="other")}, "fitted to features of other"),
        ({"min_positives": 1}, "min_positives is 1, an AUROC needs at least 2"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, object], message: str) -> None:
    given = {"fit": FIT, "real": REAL, "generated": DRAWN, **changed}
    with pytest.raises(EvaluationError, match=message):
        measure_agreement(**given)  # type: ignore[arg-type]


def test_mixed_sources_are_refused() -> None:
    records = (*REAL.records[:-1], REAL.records[-1].model_copy(update={"source": "padchest"}))
    mixed = LabelledFeatures("fixed", REAL.features, records)
    with pytest.raises(EvaluationError, match="the held-out images come from nih_cxr14, padchest"):
        measure_agreement(FIT, mixed, DRAWN)


def test_a_patient_on_both_sides_is_refused_without_a_name() -> None:
    with pytest.raises(OverlapError, match="120 patients are among the images that fit the judge") as error:
        measure_agreement(labelled_features(300, seed=0), REAL, DRAWN)
    assert "held-out-" not in str(error.value)


# Over training seeds


def rows_with(area: float, finding: str = "effusion") -> list[FindingAgreement]:
    interval = Interval(area, 0.0, 1.0, 0.95, 10, "given")
    row = FindingAgreement("fixed", "nih_cxr14", finding, "all", 240, 120, 80, 100, auroc=interval)
    return [row, replace(row, finding="mass", auroc=None, reason="not estimable: 18 positives, 30 needed")]


def test_seeds_are_the_unit_and_arms_are_paired() -> None:
    treated, baseline = (0.7, 0.8, 0.75), (0.6, 0.72, 0.66)
    rows = agreement_over_seeds(
        {seed: rows_with(area) for seed, area in enumerate(treated)},
        {seed: rows_with(area) for seed, area in reversed(list(enumerate(baseline)))},
    )
    row, missing = rows
    assert (row.seeds, row.per_seed, row.baseline_per_seed) == ((0, 1, 2), treated, baseline)
    for interval, values in ((row.auroc, treated), (row.difference, np.subtract(treated, baseline))):
        assert interval is not None
        reference = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (interval.low, interval.high) == pytest.approx(reference)
    assert (missing.auroc, missing.per_seed, missing.reason) == (None, (), "not estimable: 18 positives, 30 needed")


def test_one_seed_has_no_interval() -> None:
    row = agreement_over_seeds({3: rows_with(0.7)})[0]
    assert (row.per_seed, row.auroc, row.difference) == ((0.7,), None, None)
    assert row.reason == "no interval: 1 training seed, 2 needed"


def test_seeds_and_rows_must_pair() -> None:
    with pytest.raises(EvaluationError, match="have no or different training seeds"):
        agreement_over_seeds({0: rows_with(0.7)}, {1: rows_with(0.7)})
    with pytest.raises(EvaluationError, match="have no or different training seeds"):
        agreement_over_seeds({})
    with pytest.raises(EvaluationError, match="were judged on different rows"):
        agreement_over_seeds({0: rows_with(0.7), 1: rows_with(0.7, "edema")})
