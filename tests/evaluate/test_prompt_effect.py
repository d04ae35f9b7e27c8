"""The judge finds what is there, says when it cannot, and is never the teacher."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate import prompt_effect
from arra_med.evaluate.finding_judge import FindingJudge, LabelledFeatures, findings_of
from arra_med.evaluate.prompt_effect import NUM_SEEDS, measure_prompt_effect
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.records.wording import held_out_paraphrases
from tests.evaluate.conftest import labelled_features

FIT = labelled_features(300, seed=0, prefix="fit")
REAL = labelled_features(300, seed=1)


def test_the_judge_finds_a_signal_and_none_where_there_is_none() -> None:
    judge = FindingJudge(FIT, "effusion")
    area = judge.auroc(REAL)
    assert area.low > 0.8
    assert area.estimate == pytest.approx(roc_auc_score(REAL.positive("effusion"), judge.scores(REAL.features)))
    blind = FindingJudge(labelled_features(300, seed=0, signal=0.0), "effusion").auroc(
        labelled_features(300, seed=1, signal=0.0)
    )
    assert blind.low < 0.5 < blind.high


def test_too_few_positives_are_not_judged() -> None:
    with pytest.raises(EvaluationError, match="a judge of mass cannot be fitted: 5 positives, 10 needed"):
        FindingJudge(FIT.take(np.arange(21)), "mass")


def test_findings_come_by_frequency_without_normal() -> None:
    assert findings_of(REAL.records) == ("effusion", "mass")


class Linear(FindingJudge):
    """Reads feature 0."""

    def __init__(self) -> None:
        self.name, self.finding = "fixed", "effusion"

    def scores(self, features: np.ndarray) -> np.ndarray:
        return features[:, 0]


def test_an_effect_by_hand() -> None:
    normal, shifted = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0, 5.0])
    rows = np.array([0, 3, 1, 2])  # two with an effusion, two without
    real = LabelledFeatures("fixed", np.array([[4.0], [2.0], [3.0], [1.0]]), REAL.take(rows).records)
    effect = prompt_effect._effect("words", Linear(), real, shifted, normal)
    assert (effect.judge, effect.finding, effect.num_real_positives) == ("fixed", "effusion", 2)
    assert effect.auroc_real.estimate == 0.75  # of four pairs, 2 against 3 is wrong
    assert effect.real_shift == 1.0  # (4 + 2) / 2 - (3 + 1) / 2
    assert effect.shift == 2.0  # differences 2, 1, 3, 2
    half = stats.t.ppf(0.975, 3) * np.sqrt(2 / 3) / 2
    assert effect.interval == pytest.approx((2.0 - half, 2.0 + half))
    assert effect.seed_spread == pytest.approx(np.sqrt(5 / 3))
    assert effect.shift_in_spreads == pytest.approx(2.0 / np.sqrt(5 / 3))
    assert effect.separated == pytest.approx(13 / 16)  # 2 beats 0 and 1 and ties with 2, twice; 5 beats all four, twice
    assert effect.note == "4 pairs, 64 wanted"
    constant = prompt_effect._effect("words", Linear(), real, np.ones(NUM_SEEDS), np.zeros(NUM_SEEDS))
    assert (constant.shift_in_spreads, constant.note) == (None, "")


def session_of(bundle: Any, drawn: list[GenerationRequest], bright: float) -> Any:
    """A generator whose pictures of an effusion are brighter than those of any other prompt."""

    def generate(request: GenerationRequest) -> Any:
        drawn.append(request)
        finding = request.report in held_out_paraphrases("effusion")
        rng = np.random.default_rng(request.seed)
        images = rng.integers(0, 60, (request.num_images, 4, 4)) + int(bright * finding)
        return SimpleNamespace(images=images.astype(np.uint8))

    return SimpleNamespace(bundle=bundle, generate=generate)


BUNDLE = SimpleNamespace(info=SimpleNamespace(training={}), spec=SimpleNamespace(modality="cxr"))
ENCODER: Any = SimpleNamespace(name="fixed", fingerprint="abc")


@pytest.fixture
def _bright_is_effusion(monkeypatch: pytest.MonkeyPatch) -> None:
    def features(encoder: Any, views: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.repeat(view.mean() / 30 - 1, 12) for view in views])

    monkeypatch.setattr(prompt_effect, "judged_features", features)


@pytest.mark.usefixtures("_bright_is_effusion")
@pytest.mark.parametrize(("bright", "found"), [(60.0, True), (0.0, False)])
def test_a_planted_effect_is_found_and_none_is_not(bright: float, found: bool) -> None:
    drawn: list[GenerationRequest] = []
    effects = measure_prompt_effect(
        session_of(BUNDLE, drawn, bright), ENCODER, FIT, REAL, findings=["effusion"], view="PA", seed=5
    )
    assert [effect.report for effect in effects] == held_out_paraphrases("effusion")
    assert {(request.num_images, request.seed, request.view) for request in drawn} == {(64, 5, "PA")}
    for effect in effects:
        assert (effect.interval[0] > 0) == found
        assert (effect.num_seeds, effect.note) == (64, "")


def test_a_loaded_bundle_is_drawn_from(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        prompt_effect, "judged_features", lambda encoder, views: np.stack([view.ravel()[:12] for view in views])
    )
    effects = measure_prompt_effect(ReportToImage(bundle), ENCODER, FIT, REAL, findings=["effusion"], num_seeds=2)
    assert {effect.note for effect in effects} == {"2 pairs, 64 wanted"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_seeds": 1}, "1 pairs have no interval: ask for at least 2, better 64"),
        ({"findings": ["granuloma"]}, "no wording is kept for granuloma"),
        (
            {"real": labelled_features(90, seed=1, source="padchest")},
            "fitted to images of nih_cxr14 and would judge those of padchest",
        ),
        (
            {"judge": SimpleNamespace(name="other", fingerprint="x")},
            "would read those of other: encode both with one judge",
        ),
        ({"findings": ["edema"]}, "a judge of edema cannot be fitted: 0 positives"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"judge": ENCODER, "fit": FIT, "real": REAL, "findings": ["effusion"], **changed}
    with pytest.raises(EvaluationError, match=message):
        measure_prompt_effect(session_of(BUNDLE, [], 0.0), given.pop("judge"), given.pop("fit"), **given)


def test_the_teacher_cannot_judge() -> None:
    bundle = SimpleNamespace(info=SimpleNamespace(training={"teachers": [{"name": "t", "sha256": "abc"}]}))
    with pytest.raises(OverlapError, match="fixed was this model's teacher and cannot judge it"):
        measure_prompt_effect(session_of(bundle, [], 0.0), ENCODER, FIT, REAL)
