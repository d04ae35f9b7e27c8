"""Reports are chosen by their findings, drawn in their own words, and leave no word behind."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate import drawing, report_prompts
from arra_med.evaluate.report_prompts import choose_reports, measure_report_agreement, shared_findings
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord
from tests.evaluate.conftest import labelled_features

FIT = labelled_features(300, seed=0, prefix="fit")
REAL = labelled_features(120, seed=1)
ENCODER: Any = SimpleNamespace(name="fixed", fingerprint="abc")


def report(number: int, *labels: str, text: str = "Secretword effusion .") -> StudyRecord:
    return StudyRecord(
        image_id=f"openi/{number}",
        patient_id=f"openi:{number}",
        modality="cxr",
        source="openi",
        report=f"INDICATION: Cough. IMPRESSION: {text}",
        report_kind="written",
        labels=labels,
    )


REPORTS = [
    *(report(number, "Pleural Effusion") for number in range(40)),
    *(report(number, "Mass", "Opacity") for number in range(40, 46)),
    *(report(number, "normal") for number in range(46, 126)),
    *(report(number) for number in range(126, 226)),
]


def counts(records: list[StudyRecord]) -> tuple[int, int, int]:
    labels = [record.labels for record in records]
    return labels.count(("Pleural Effusion",)), labels.count(("Mass", "Opacity")), labels.count(("normal",))


def test_half_of_the_reports_hold_a_finding_in_equal_shares() -> None:
    chosen = choose_reports(REPORTS, ["effusion", "mass"], 20)
    assert counts(chosen) == (5, 5, 10)
    assert counts(choose_reports(REPORTS, ["effusion", "mass"], 40)) == (10, 6, 24)
    assert chosen == choose_reports(REPORTS[::-1], ["effusion", "mass"], 20)
    assert chosen != choose_reports(REPORTS, ["effusion", "mass"], 20, seed=1)


def test_reports_that_cannot_be_chosen_are_said() -> None:
    with pytest.raises(EvaluationError, match="126 reports could be chosen and 200 were asked for"):
        choose_reports(REPORTS, ["effusion", "mass"], 200)
    with pytest.raises(EvaluationError, match="no finding is known to both"):
        choose_reports(REPORTS, [], 20)


def test_findings_are_those_of_reports_and_judge() -> None:
    assert shared_findings(REPORTS, FIT) == ("effusion",)
    assert shared_findings(REPORTS, FIT, min_positives=6) == ("effusion", "mass")
    assert shared_findings(REPORTS, FIT.take(np.arange(45)), min_positives=6) == ("effusion",)  # nine masses to fit


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Judges an image by noise, but for images whose own prompt says effusion; collects the prompts."""
    seen: list[str] = []
    real = drawing.held_out_prompts

    def prompts_of(bundle: ModelBundle, records: Any) -> list[str]:
        seen[:] = real(bundle, records)
        return seen

    def features(encoder: Any, views: list[np.ndarray]) -> np.ndarray:
        found = np.random.default_rng(0).normal(size=(len(views), 12))
        found[:, 0] += 3 * np.array(["effusion" in prompt for prompt in seen])
        return found

    monkeypatch.setattr(drawing, "held_out_prompts", prompts_of)
    monkeypatch.setattr(report_prompts, "judged_features", features)
    return seen


def measure(bundle: ModelBundle, records: list[StudyRecord], out: Path, **changed: Any) -> Any:
    given: dict[str, Any] = {"judge": ENCODER, "fit": FIT, "real": REAL, "min_positives": 5, **changed}
    return measure_report_agreement(
        bundle,
        records,
        given.pop("judge"),
        given.pop("fit"),
        given.pop("real"),
        findings=["effusion"],
        rules=SamplingRules(guidance_scale=1.0),
        out=out,
        view="PA",
        progress=False,
        **given,
    )


def test_a_reports_own_words_are_drawn_and_none_is_kept(
    bundle: ModelBundle, prompts: list[str], tmp_path: Path
) -> None:
    records = [report(number, "Pleural Effusion") for number in range(6)]
    records += [report(number, "normal", text="Secretword clear .") for number in range(6, 24)]
    agreement = measure(bundle, records, tmp_path / "images")
    assert all("Secretword" in prompt and "Cough" not in prompt for prompt in prompts)
    assert sum("PA view" in prompt for prompt in prompts) > 12
    rows = {(row.finding, row.group): row for row in agreement.rows}
    assert rows["effusion", "all"].auroc.estimate > 0.9
    assert rows["effusion", "all"].ceiling is None
    assert (agreement.judge_source, rows["effusion", "all"].source) == ("nih_cxr14", "openi")
    assert agreement.judge_on_real["effusion"].low > 0.7
    written = json.dumps(dataclasses.asdict(agreement)).encode()
    for path in (tmp_path / "images").iterdir():
        written += path.read_bytes()
    assert b"Secretword" not in written
    assert b"openi/3" not in written


def test_what_does_not_go_together_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="fitted to images of nih_cxr14 and would judge those of padchest"):
        measure(bundle, REPORTS, tmp_path, real=labelled_features(90, seed=1, source="padchest"))
    with pytest.raises(OverlapError, match="patients are among"):
        measure(bundle, REPORTS, tmp_path, real=labelled_features(90, seed=1, prefix="fit"))
