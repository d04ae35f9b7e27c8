"""The judge finds what is there, says when it cannot, and is never the teacher."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from arra_med.errors import ConfigError, StudySetError
from arra_med.evaluate import prompt_effect
from arra_med.evaluate.finding_judge import FindingJudge, JudgedImages


def images(num: int, seed: int, signal: float = 2.0) -> JudgedImages:
    rng = np.random.default_rng(seed)
    positive = np.arange(num) % 3 == 0
    features = rng.normal(size=(num, 20)).astype(np.float32)
    features[positive, 0] += signal
    return JudgedImages(features, positive)


def test_the_judge_finds_a_signal_and_none_where_there_is_none() -> None:
    encoder: Any = SimpleNamespace(name="fixed")
    assert FindingJudge(encoder, images(300, 0)).auroc(images(300, 1)) > 0.8
    assert FindingJudge(encoder, images(300, 0, signal=0.0)).auroc(images(300, 1, signal=0.0)) == pytest.approx(
        0.5, abs=0.12
    )


def test_too_few_positives_are_not_judged() -> None:
    with pytest.raises(StudySetError, match="needs 10 training images with the finding and as many without, found 7"):
        FindingJudge(SimpleNamespace(name="fixed"), images(21, 0))  # type: ignore[arg-type]


def test_an_effect_by_hand() -> None:
    normal, shifted = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0, 5.0])
    judge: Any = SimpleNamespace(
        encoder=SimpleNamespace(name="fixed"), scores=lambda features: features[:, 0], auroc=lambda _: 0.75
    )
    real = JudgedImages(np.array([[4.0], [2.0], [3.0], [1.0]]), np.array([True, True, False, False]))
    effect = prompt_effect._effect("effusion", "words", judge, real, shifted, normal)
    assert (effect.judge, effect.auroc_real, effect.num_real_positives) == ("fixed", 0.75, 2)
    assert effect.real_shift == 1.0  # (4 + 2) / 2 - (3 + 1) / 2
    assert effect.shift == 2.0  # differences 2, 1, 3, 2
    half = stats.t.ppf(0.975, 3) * np.sqrt(2 / 3) / 2
    assert effect.interval == pytest.approx((2.0 - half, 2.0 + half))
    assert effect.seed_spread == pytest.approx(np.sqrt(5 / 3))
    assert effect.separated == pytest.approx(12 / 16)  # 2 beats 0 and 1, twice; 5 beats all four, twice


def test_the_teacher_cannot_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = SimpleNamespace(info=SimpleNamespace(training={"teachers": [{"name": "t", "sha256": "abc"}]}))
    monkeypatch.setattr(prompt_effect.ModelBundle, "load", lambda folder: bundle)
    monkeypatch.setattr(prompt_effect, "load_encoder", lambda name: SimpleNamespace(name=name, fingerprint="abc"))
    with pytest.raises(ConfigError, match="was this model's teacher and cannot judge it"):
        prompt_effect.measure_prompt_effect(Path("bundle"), Path("studies"), judge="t")
