"""The audit from folders to `privacy.json`: a model that repeats a training image is caught, a random one is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.errors import EvaluationError
from arra_med.evaluate import privacy
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.feature_spaces import gradient_space
from arra_med.evaluate.held_out import trained_on
from arra_med.evaluate.likelihood import plain_examples
from arra_med.evaluate.memorisation import MemorisationAttack
from arra_med.evaluate.privacy import PrivacySettings, audit_privacy, require_same_data
from arra_med.evaluate.privacy_report import FLAGGED_FILE, FlaggedImages, FlaggedPair, privacy_table, write_flagged_page
from arra_med.models.bundle import ModelBundle
from tests.evaluate.test_feature_spaces import fixed_encoder
from tests.evaluate.tiny_audit import NUM_HELD_OUT, NUM_TRAIN, SIZE_PX, TinyAudit, changed_bundle, picture

PLANTED = 5
REAL_DRAWN = MemorisationAttack._drawn
SETTINGS = PrivacySettings(false_alarm_rate=0.1, num_seeds=2, device="cpu")


class Audited(NamedTuple):
    """A finished audit, and the examples that it drew for."""

    out: Path
    told: dict[str, Any]
    attacked: list[int]


def audit(data: TinyAudit, out: Path, settings: PrivacySettings = SETTINGS, baseline: bool = True) -> dict[str, Any]:
    other = data.baseline if baseline else None
    return audit_privacy(data.bundle, data.studies, data.corpus, out, baseline=other, settings=settings, progress=False)


@pytest.fixture(autouse=True, scope="module")
def _cheap() -> Iterator[None]:
    """An encoder without weights, and few candidates for each of 200 held-out images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arra_med.evaluate.copies._CANDIDATES", 2)
        patch.setattr(privacy, "load_encoder", lambda name: fixed_encoder())
        yield


@pytest.fixture(scope="module")
def audited(tiny_audit: TinyAudit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """Every model draws noise, but for the second seed of one report, which draws its training image."""
    attacked: list[int] = []

    def drawn(self: MemorisationAttack, example: int) -> list[np.ndarray]:
        attacked.append(example)
        views = [picture(9000 + 10 * example + seed)[None] for seed in range(self.num_seeds)]
        if example == PLANTED and self.bundle.info.name == "arra":
            views[1] = picture(PLANTED)[None]
        return views

    out = tmp_path_factory.mktemp("audit") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemorisationAttack, "_drawn", drawn)
        yield Audited(out, audit(tiny_audit, out), attacked)


def test_a_planted_copy_is_found_and_no_more(audited: Audited) -> None:
    told = audited.told
    found, clean = (told["arms"][arm]["memorisation"] for arm in ("bundle", "baseline"))
    assert (found["rows_with_own_copy"]["count"], found["rows_with_own_copy"]["total"]) == (1, 2)
    assert (found["images_with_any_copy"]["count"], found["images_with_any_copy"]["total"]) == (1, 4)
    assert clean["rows_with_any_copy"]["count"] == 0
    assert told["held_out"]["calibration"] == 50
    alarms = told["arms"]["bundle"]["false_alarms"]["reported"]
    assert alarms["total"] == 50
    assert alarms["rate"] <= 0.1
    assert told["arms"]["bundle"]["distances"]["gradients"]["drawn_below_lowest"] >= 0.25  # the copy
    assert any("1 of 2" in line for line in privacy_table(told))


def test_an_untrained_model_gives_no_member_away(audited: Audited) -> None:
    membership = audited.told["membership"]
    attack = membership["arms"]["bundle"]["likelihood"]
    assert (attack["num_members"], attack["num_others"]) == (NUM_TRAIN, NUM_HELD_OUT)
    for told in (attack["auroc"], membership["without_a_model"]):
        assert told["low"] < 0.5 < told["high"]
    difference = membership["minus_baseline"]["bundle"]["likelihood"]["auroc"]
    aurocs = [membership["arms"][arm]["likelihood"]["auroc"]["estimate"] for arm in ("bundle", "baseline")]
    assert difference["estimate"] == pytest.approx(aurocs[0] - aurocs[1])


def test_the_page_is_private_and_the_result_names_no_image(audited: Audited) -> None:
    page, result = audited.out / FLAGGED_FILE, audited.out / "privacy.json"
    assert page.read_text().count("<figure>") == 2  # the drawn image and the patient's
    assert "Sensitive" in page.read_text()
    for file in (page, result):
        assert "tiny/" not in file.read_text()
    assert "NaN" not in result.read_text()
    private = [page, *audited.out.glob("attack-bundle/?*[0-9a-f].*"), *audited.out.glob("features-*.safetensors")]
    assert len(private) == 1 + 4 + 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in private)


def test_a_second_audit_draws_nothing_again(tiny_audit: TinyAudit, audited: Audited) -> None:
    before = (audited.out / "privacy.json").read_text()
    assert audited.attacked == [2, 5, 2, 5]  # the two reports of their own, by each model
    audit(tiny_audit, audited.out)
    assert len(audited.attacked) == 4
    assert (audited.out / "privacy.json").read_text() == before


def test_the_attack_draws_with_the_model(tiny_audit: TinyAudit, audited: Audited, tmp_path: Path) -> None:
    bundle = ModelBundle.load(tiny_audit.bundle)
    training = StudySet.open(tiny_audit.studies).select(split="train")
    dataset = plain_examples(bundle, Corpus.open(tiny_audit.corpus), "train")
    finder = CopyFinder(training, [gradient_space()])
    attack = MemorisationAttack(bundle, dataset, finder, training, tmp_path, num_epochs=3, num_seeds=2)
    views = REAL_DRAWN(attack, 2)  # not what the fixture plants
    assert [(view.shape, view.dtype) for view in views] == [((1, SIZE_PX, SIZE_PX), np.uint8)] * 2
    assert not np.array_equal(*views)
    assert dataset.epoch == 0
    np.testing.assert_array_equal(np.stack(views), np.stack(REAL_DRAWN(attack, 2)))


def test_rows_outside_sources_or_fold_did_not_train(tiny_audit: TinyAudit, tmp_path: Path) -> None:
    records = Corpus.open(tiny_audit.corpus).records
    bundle = ModelBundle.load(tiny_audit.bundle)
    everyone = [record for record in records if trained_on(bundle.info)(record)]
    assert len(everyone) == NUM_TRAIN

    def settings(**values: Any) -> Any:
        training = {**bundle.info.training, "settings": {"seed": 0, **values}}
        return bundle.info.model_copy(update={"training": training})

    folds = [trained_on(settings(fold={"index": index, "count": 2})) for index in (0, 1)]
    parts = [{record.image_id for record in records if fold(record)} for fold in folds]
    assert parts[0] | parts[1] == {record.image_id for record in everyone}
    assert not parts[0] & parts[1]
    assert all(parts)
    assert not any(trained_on(settings(sources=["kermany_pneumonia"]))(record) for record in records)
    with pytest.raises(EvaluationError, match="recorded fold of patients cannot be read"):
        trained_on(settings(fold={"index": 2, "count": 2}))


def test_parts_that_do_not_belong_together_are_refused(tiny_audit: TinyAudit, tmp_path: Path) -> None:
    studies, corpus = StudySet.open(tiny_audit.studies), Corpus.open(tiny_audit.corpus)
    bundle = ModelBundle.load(tiny_audit.bundle)
    require_same_data(bundle, studies, corpus, allow_other_studies=False)
    training, info = bundle.info.training, corpus.info

    corpus.info = info.model_copy(update={"study_set_sha256": "0" * 64})
    with pytest.raises(EvaluationError, match="was made from another study set than"):
        require_same_data(bundle, studies, corpus, allow_other_studies=True)
    corpus.info = info
    bundle.info = bundle.info.model_copy(update={"training": {**training, "tokenizer_sha256": "0" * 64}})
    with pytest.raises(EvaluationError, match="has another image tokenizer than"):
        require_same_data(bundle, studies, corpus, allow_other_studies=True)
    bundle.info = bundle.info.model_copy(update={"training": {**training, "study_set_sha256": "0" * 64}})
    with pytest.raises(EvaluationError, match="nobody knows which images are members"):
        require_same_data(bundle, studies, corpus, allow_other_studies=False)
    require_same_data(bundle, studies, corpus, allow_other_studies=True)


def test_too_few_images_and_unequal_arms_are_said(tiny_audit: TinyAudit, tmp_path: Path) -> None:
    places = (tiny_audit.bundle, tiny_audit.studies, tiny_audit.corpus, tmp_path / "out")
    other = changed_bundle(
        tiny_audit.baseline, tmp_path / "fold", settings={"seed": 0, "fold": {"index": 0, "count": 2}}
    )
    with pytest.raises(EvaluationError, match="were trained on different images"):
        audit_privacy(*places, baseline=other, settings=SETTINGS, progress=False)
    with pytest.raises(EvaluationError, match="needs 299 held-out images of source nih_cxr14, found 100"):
        audit(tiny_audit, tmp_path / "out", PrivacySettings(device="cpu"), baseline=False)
    assert not (tmp_path / "out").exists()  # said before anything was computed


def test_the_page_takes_colour_and_says_when_nothing_was_flagged(tmp_path: Path) -> None:
    view = np.zeros((3, SIZE_PX, SIZE_PX), np.uint8)
    pair = FlaggedPair(view, view, "another <b>report</b>", 0.95)
    write_flagged_page(tmp_path / "page.html", {"a": FlaggedImages(0.9, [pair]), "b": FlaggedImages(0.8, [])})
    text = (tmp_path / "page.html").read_text()
    assert "0 images lie above SSIM 0.800" in text
    assert "<b>report" not in text
