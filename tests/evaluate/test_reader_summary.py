"""What a study finds is what other programs and published tables say, and the command says what the app shows."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from arra_med.cli import main
from arra_med.errors import EvaluationError
from arra_med.evaluate.proportions import share_interval
from arra_med.evaluate.reader_rates import fleiss_kappa, mean_of, share_of, sign_test
from arra_med.evaluate.reader_sample_size import cases_for_accuracy, cases_for_preference, preference_power
from arra_med.evaluate.reader_store import ReaderStudy, Task
from arra_med.evaluate.reader_summary import ANSWER_COLUMNS, answers_csv, reader_summary, summary_json
from arra_med.evaluate.reader_words import summary_tables
from tests.evaluate.tiny_reader_study import arm_shown, read_all, tiny_study

FLEISS_1971 = [  # the table that most texts work through: 14 raters, 10 subjects, 5 answers, kappa 0.210
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def test_fleiss_kappa_is_the_published_one() -> None:
    assert fleiss_kappa(FLEISS_1971) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([[3, 0], [3, 0]]) is None
    assert fleiss_kappa([]) is None
    assert fleiss_kappa([[2, 0], [0, 2]]) == 1
    with pytest.raises(EvaluationError, match="the same number of readers, at least 2, for every case"):
        fleiss_kappa([[3, 0], [1, 1]])


def test_one_reader_has_wilsons_interval_and_students() -> None:
    values = np.array([[1, 0, 1, 1, 0, 1, 1, 1, np.nan, 1]])
    found, wilson = share_of(values), stats.binomtest(7, 9).proportion_ci(method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    marks = np.array([[1.0, 4, 5, 2, 2]])
    mean = mean_of(marks)
    assert mean is not None
    reference = stats.ttest_1samp(marks[0], 0).confidence_interval()
    assert (mean.low, mean.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert share_of(np.full((2, 3), np.nan)) is None
    assert mean_of(np.array([[1.0]])) is None


def test_two_ways_of_clustering_worked_out_by_hand() -> None:
    # residuals 1/4 -3/4 | 1/4 1/4: by reader 2/1 (1/4 + 1/4)/16 = 1/16, by case (1/4 + 1/4)/8 = 1/16, alone 3/64
    found = mean_of(np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert found is not None
    error = np.sqrt(1 / 16 + 1 / 16 - 3 / 64)
    freedom = (1 / 8) ** 2 / (2 / 16**2)  # both have 1 degree of freedom
    half = stats.t.ppf(0.975, freedom) * error
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=1e-12)


def test_copies_of_a_reader_add_nothing_and_readers_who_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    one = (rng.random((1, 60)) < 0.7).astype(float)
    copied, alone = share_of(np.repeat(one, 4, axis=0)), share_interval(one[0].astype(int).tolist(), [1] * 60)
    assert copied is not None
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    differing = np.concatenate([(rng.random((2, 60)) < 0.95), (rng.random((2, 60)) < 0.45)]).astype(float)
    wide = share_of(differing)
    assert wide is not None
    assert wide.high - wide.low > 2 * (alone.high - alone.low)


def test_the_interval_over_readers_and_cases_holds_the_truth_as_often_as_it_says() -> None:
    rng, held, trials = np.random.default_rng(1), 0, 600
    for _ in range(trials):
        skill, ease = rng.normal(0, 0.5, (6, 1)), rng.normal(0, 0.8, (1, 50))
        values = (rng.random((6, 50)) < stats.norm.cdf(0.5 + skill + ease)).astype(float)
        found = share_of(values)
        assert found is not None
        held += found.low <= stats.norm.cdf(0.5 / np.sqrt(1 + 0.25 + 0.64)) <= found.high
    assert 0.92 <= held / trials <= 0.985


def test_the_sign_test_is_scipys_and_readers_of_a_case_vote() -> None:
    votes = np.array(
        [[1, 1, 1, 0, 1, 0, np.nan, np.nan], [1, 1, 0, 0, 1, 0, 1, np.nan], [1, 1, np.nan, 0, 0, 1, 1, np.nan]]
    )
    found = sign_test(votes)
    assert (found.wins, found.losses, found.ties) == (4, 2, 1)
    assert found.p_value == pytest.approx(stats.binomtest(4, 6).pvalue, abs=1e-12)
    assert sign_test(np.full((1, 3), np.nan)).p_value is None


def test_power_is_that_of_scipys_test_over_all_outcomes() -> None:
    for num, share, alpha in ((10, 0.8, 0.05), (37, 0.65, 0.05), (50, 0.3, 0.01), (4, 0.9, 0.05)):
        counts = np.arange(num + 1)
        rejects = np.array([stats.binomtest(int(k), num).pvalue <= alpha for k in counts])
        expected = stats.binom.pmf(counts, num, share)[rejects].sum()
        assert preference_power(num, share, alpha) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [0.65, 0.35, 0.9, 0.6])
def test_from_the_planned_number_on_the_power_is_never_too_low(share: float) -> None:
    plan = cases_for_preference(share)
    assert preference_power(plan.num_cases - 1, share) < 0.8
    assert all(preference_power(num, share) >= 0.8 for num in range(plan.num_cases, 2 * plan.num_cases))
    assert plan.reached == preference_power(plan.num_cases, share)


@pytest.mark.parametrize(("accuracy", "half_width"), [(0.7, 0.08), (0.5, 0.1), (0.95, 0.05), (0.9, 0.15)])
def test_from_the_planned_number_on_the_interval_is_never_too_wide(accuracy: float, half_width: float) -> None:
    def half(num: int) -> float:
        wilson = stats.binomtest(round(accuracy * num), num).proportion_ci(method="wilson")
        return float(wilson.high - wilson.low) / 2

    plan = cases_for_accuracy(accuracy, half_width)
    assert half(plan.num_cases - 1) > half_width
    assert all(half(num) <= half_width for num in range(plan.num_cases, 3 * plan.num_cases))
    assert cases_for_accuracy(accuracy, half_width, readers=4).num_cases == plan.num_cases
    assert cases_for_accuracy(accuracy, half_width, readers=4, correlation=0).num_cases == -(-plan.num_cases // 4)


def test_plans_out_of_range_are_told() -> None:
    with pytest.raises(EvaluationError, match="a share in .0, 1. other than 0.5"):
        cases_for_preference(0.5)
    with pytest.raises(EvaluationError, match="needs some 19[0-9]{3} cases: plan for a larger preference"):
        cases_for_preference(0.51)
    with pytest.raises(EvaluationError, match="an accuracy and a confidence in"):
        cases_for_accuracy(1.0, 0.1)
    with pytest.raises(EvaluationError, match="a half-width of 0.001 needs more than"):
        cases_for_accuracy(0.5, 0.001)


def by_arm(study: ReaderStudy, reader: int, called: dict[str, str]) -> Callable[[Task], dict[str, str]]:
    return lambda task: {"real_or_synthetic": called[arm_shown(study, reader, task.place)[0]]}


@pytest.fixture
def read(tmp_path: Path) -> ReaderStudy:
    """Two readers: the first is always right and calls reconstructed images real, the second calls all synthetic."""
    study, _ = tiny_study(tmp_path, num=12, repeats=0.25)
    read_all(study, by_arm(study, 1, {"real": "real", "reconstructed": "real", "arra": "synthetic"}))
    read_all(study, lambda task: {"real_or_synthetic": "synthetic"})
    return study


def test_right_and_wrong_calls_are_counted_by_role(read: ReaderStudy) -> None:
    summary = reader_summary(read)
    assert (summary.num_cases, summary.num_readers, summary.num_finished) == (36, 2, 2)
    both, first, second = summary.readings
    rates = [[r.accuracy, r.sensitivity, r.specificity] for r in (both, first, second)]
    assert [[one and one.estimate for one in its] for its in rates] == [[0.75, 1, 0.5], [1, 1, 1], [0.5, 1, 0]]
    assert both.num_answered == 72  # repeats are not counted
    assert first.median_seconds == np.median(np.arange(45))
    exact = stats.binomtest(12, 12).proportion_ci(method="wilson")
    assert first.specificity is not None
    assert first.specificity.low == pytest.approx(exact.low, abs=1e-12)
    called = {row.arm: row.interval.estimate for row in both.arms if row.interval}
    assert called == {"arra": 1, "real": 0.5, "reconstructed": 0.5}
    assert {row.arm: row.role for row in both.arms} == {
        "arra": "synthetic",
        "real": "real",
        "reconstructed": "reconstructed",
    }


def test_agreement_is_sklearns_and_repeats_give_that_of_a_reader_alone(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, num=12, repeats=1 / 3)
    rng = np.random.default_rng(2)
    for _ in range(3):
        read_all(study, lambda task: {"real_or_synthetic": ("real", "synthetic")[int(rng.integers(2))]})
    rows = list(csv.DictReader(io.StringIO(answers_csv(study))))
    assert tuple(rows[0]) == ANSWER_COLUMNS
    assert len(rows) == 3 * 48
    first = [
        {row["case"]: row["choice"] for row in rows if row["reader"] == reader and row["repeat"] == "0"}
        for reader in "123"
    ]
    again = {row["case"]: row["choice"] for row in rows if row["reader"] == "1" and row["repeat"] == "1"}
    found = {row.who: row for row in reader_summary(study).agreement}
    cases = sorted(first[0])
    expected = cohen_kappa_score([first[0][case] for case in cases], [first[1][case] for case in cases])
    assert found["readers 1 and 2"].kappa == pytest.approx(expected, abs=1e-12)
    counts = [[sum(its[case] == choice for its in first) for choice in ("real", "synthetic")] for case in cases]
    assert found["all readers"].kappa == pytest.approx(fleiss_kappa(counts), abs=1e-12)
    alone = found["reader 1, first and second time"]
    assert alone.num_cases == 12
    assert alone.kappa == pytest.approx(
        cohen_kappa_score([first[0][case] for case in sorted(again)], [again[case] for case in sorted(again)]),
        abs=1e-12,
    )
    assert alone.same == np.mean([first[0][case] == again[case] for case in again])


def test_a_preference_is_counted_by_arm_whatever_the_side(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, "preference", num=12, repeats=0.25)

    def prefers_arra_but_twice(task: Task) -> dict[str, str]:
        arms, case = arm_shown(study, 1, task.place), study._order(1)[task.place].case
        wanted = "baseline" if case in (3, 5) else "arra"
        return {"preference": ("left", "right")[arms.index(wanted)]}

    read_all(study, prefers_arra_but_twice)
    summary = reader_summary(study)
    (reading,) = summary.readings
    assert reading.preference is not None
    assert (reading.preference.wins, reading.preference.losses) == (10, 2)
    assert reading.preference.p_value == pytest.approx(stats.binomtest(10, 12).pvalue, abs=1e-12)
    shares = {row.arm: row.interval.estimate for row in reading.arms if row.interval}
    assert shares == {"arra": pytest.approx(10 / 12), "baseline": pytest.approx(2 / 12)}
    (alone,) = summary.agreement
    assert (alone.who, alone.num_cases, alone.same) == ("reader 1, first and second time", 3, 1.0)
    rows = list(csv.DictReader(io.StringIO(answers_csv(study))))
    assert sum(row["arm"] == "arra" and row["repeat"] == "0" for row in rows) == 10
    assert {row["other_arm"] for row in rows} == {"arra", "baseline"}

    study_left, _ = tiny_study(tmp_path / "left", "preference", num=12)
    read_all(study_left, lambda task: {"preference": "left"})
    (reading,) = reader_summary(study_left).readings
    assert reading.chose_left == 1
    assert reading.preference is not None
    assert reading.preference.p_value == 1  # half of the cases are swapped: a taste for a side favours no arm


def test_marks_are_averaged_by_item(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, "likert", items=(("realism", "How realistic?"), ("noise", "How noisy?")))
    read_all(study, lambda task: {"realism": str(1 + task.place % 5), "noise": "2"})
    (reading,) = reader_summary(study).readings
    found = {row.question: row.interval.estimate for row in reading.arms if row.interval}
    assert found == {"realism": pytest.approx(np.mean([1 + place % 5 for place in range(8)])), "noise": 2}


def test_a_study_without_answers_has_a_summary(tmp_path: Path) -> None:
    for design in ("real_or_synthetic", "preference", "likert"):
        study, _ = tiny_study(tmp_path / design, design)
        assert reader_summary(study).readings[0].median_seconds is None
        study.join(consented=True)
        assert "–" in str(summary_tables(reader_summary(study)))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["reading", "study", *words])
    return int(stop.value.code or 0)


def test_the_command_writes_what_the_app_shows(
    read: ReaderStudy, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "summary.json"
    assert run("summary", str(read.path), "--out", str(out)) == 0
    assert json.loads(out.read_text()) == json.loads(json.dumps(summary_json(reader_summary(read))))
    printed = capsys.readouterr().out
    for table in summary_tables(reader_summary(read)):
        for row in table.rows:
            assert " | ".join(row) in printed
    assert "Research use only" in out.read_text()
    assert run("summary", str(read.path), "--out", str(out)) == 2
    assert "is there already; choose another --out" in capsys.readouterr().err
    assert run("answers", str(read.path)) == 0
    assert capsys.readouterr().out == answers_csv(read)
    assert run("answers", str(read.path), "--out", str(tmp_path / "answers.csv")) == 0
    assert (tmp_path / "answers.csv").read_text() == answers_csv(read)
    assert run("forget", str(read.path), "--reader", "2") == 0
    assert "the reader and 45 answered images are deleted" in capsys.readouterr().out
    assert run("forget", str(read.path), "--reader", "2") == 2
    assert run("forget", str(read.path), "--reader", "<b>") == 2
    assert "is no code of a reader study" in capsys.readouterr().err
    assert run("summary", str(tmp_path / "nowhere.sqlite")) == 2
    assert "nowhere.sqlite: this reader study is not there" in capsys.readouterr().err


def test_the_sample_size_command(capsys: pytest.CaptureFixture) -> None:
    assert run("sample-size", "--preference", "0.65") == 0
    assert f"{cases_for_preference(0.65).num_cases} cases give the exact binomial test" in capsys.readouterr().out
    assert run("sample-size", "--accuracy", "0.7", "--half-width", "0.08") == 0
    assert "±8 percentage points" in capsys.readouterr().out
    assert run("sample-size") == 2
    assert "give either --preference or --accuracy" in capsys.readouterr().err
