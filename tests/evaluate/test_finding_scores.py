"""A classifier's scores: equal to the network's own, with Student's interval over seeds, and never by the teacher."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit

from arra_med.encoders.finding_classifier import load_finding_classifier
from arra_med.errors import EncoderError, EvaluationError, OverlapError
from arra_med.evaluate.finding_scores import PictureJudge, findings_of_report, open_picture_judge, score_pictures
from arra_med.models.bundle import ModelBundle
from tests.evaluate.tiny_audit import TinyAudit
from tests.evaluate.tiny_classifier import FINDINGS, write_classifier
from tests.evaluate.tiny_judges import smooth_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder: Path) -> PictureJudge:
    return open_picture_judge(folder)


def test_scores_and_intervals_are_those_of_the_network_and_of_student(judge: PictureJudge, folder: Path) -> None:
    first, second = smooth_images(4, 1, size=32), smooth_images(4, 2, size=32)
    (row,) = score_pictures(judge, {"plain": first, "arra": second}, ["pneumothorax"])
    network = load_finding_classifier(str(folder))
    expected = {
        name: network.logits(torch.from_numpy(views).float() / 255).double().numpy()[:, 1]
        for name, views in (("plain", first), ("arra", second))
    }
    for name, values in expected.items():
        score = row.models[name]
        assert score.scores == pytest.approx(expit(values), abs=1e-5)
        low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        assert score.mean == pytest.approx(expit(values.mean()), abs=1e-5)
        assert score.interval == pytest.approx((expit(low), expit(high)), abs=1e-4)
    assert row.difference is not None
    paired = stats.ttest_rel(expected["arra"], expected["plain"]).confidence_interval(0.95)
    assert (row.difference.low, row.difference.high) == pytest.approx((paired.low, paired.high), abs=1e-4)


def test_one_picture_has_no_interval_and_three_models_no_difference(judge: PictureJudge) -> None:
    one = smooth_images(1, 1, size=32)
    (row,) = score_pictures(judge, {"plain": one, "arra": one}, ["effusion"])
    assert row.models["plain"].interval is None
    assert row.difference is None
    two = smooth_images(2, 1, size=32)
    (row,) = score_pictures(judge, {"a": two, "b": two, "c": two}, ["effusion"])
    assert row.difference is None


def test_the_held_out_auroc_is_of_one_source_never_of_all_together(judge: PictureJudge) -> None:
    told = judge.aurocs["effusion"]
    assert (told.group, told.source, told.auroc, told.num_positive) == ("validation", "nih_cxr14", 0.77, 16)
    assert not told.estimable
    assert judge.aurocs["pneumothorax"].estimable
    assert "glaucoma" not in judge.aurocs


def test_findings_come_from_what_the_report_affirms() -> None:
    assert findings_of_report("PA view. Pleural effusion. No pneumothorax.", "cxr") == ("effusion",)
    assert findings_of_report("Left eye. Glaucoma. No cataract. Glaucoma.", "fundus") == ("glaucoma",)
    assert findings_of_report("<script>alert(1)</script>", "fundus") == ()


def test_a_teacher_cannot_judge_nor_what_started_from_it(judge: PictureJudge, tiny_audit: TinyAudit) -> None:
    info = ModelBundle.load(tiny_audit.bundle).info
    assert "was not looked at" in judge.require_fair(info)[0]
    for sha256 in (judge.classifier.encoder.fingerprint, "start"):
        taught = info.model_copy(update={"training": {"teachers": [{"name": "the teacher", "sha256": sha256}]}})
        with pytest.raises(OverlapError, match="tiny judge cannot judge: weights or initialisation"):
            judge.require_fair(taught)


@pytest.mark.parametrize(("modality", "size_px"), [("fundus", 32), ("cxr", 64)])
def test_pictures_of_another_kind_are_not_judged(
    judge: PictureJudge, tiny_audit: TinyAudit, modality: str, size_px: int
) -> None:
    info = ModelBundle.load(tiny_audit.bundle).info
    view = info.canonical_view.model_copy(update={"modality": modality, "size_px": size_px})
    with pytest.raises(EvaluationError, match="learned on cxr images of 32 px"):
        judge.require_fair(info.model_copy(update={"canonical_view": view}))


def test_wrong_pictures_and_findings_are_sentences(judge: PictureJudge) -> None:
    good = smooth_images(2, 1, size=32)
    for bad in (smooth_images(2, 1), good[:0], good.astype(np.float32)):
        with pytest.raises(EvaluationError, match="were given to tiny judge"):
            score_pictures(judge, {"plain": bad}, ["effusion"])
    for findings in (["hernia"], []):
        with pytest.raises(EvaluationError, match="knows effusion, pneumothorax, glaucoma"):
            score_pictures(judge, {"plain": good}, findings)


def test_a_score_that_is_no_number_is_a_sentence(tmp_path: Path) -> None:
    spoilt = open_picture_judge(write_classifier(tmp_path, spoil=True))
    with pytest.raises(EvaluationError, match="is not finite: its weights are damaged"):
        score_pictures(spoilt, {"plain": smooth_images(1, 1, size=32)}, list(FINDINGS))


def test_folders_that_are_no_judge_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is no folder"):
        open_picture_judge(tmp_path / "missing")
    with pytest.raises(EncoderError):
        open_picture_judge(tmp_path)
    with pytest.raises(EncoderError, match="encoder of kind clip and names no findings"):
        open_picture_judge(write_classifier(tmp_path / "clip", kind="clip"))


def test_measures_of_other_weights_are_not_taken_and_damaged_ones_are_told(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    file = tmp_path / "held_out.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "weights_sha256": "others"}))
    assert open_picture_judge(folder).aurocs == {}
    told["held_out"]["validation"]["auroc"]["nih_cxr14"][0]["auroc"] = float("nan")
    for text in (json.dumps(told), "{", "[]", json.dumps({**told, "held_out": {"test": {}}})):
        file.write_text(text)
        with pytest.raises(EncoderError, match="held_out.json: is damaged"):
            open_picture_judge(folder)
    file.unlink()
    assert open_picture_judge(folder).aurocs == {}
