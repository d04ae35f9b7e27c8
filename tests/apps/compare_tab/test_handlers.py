"""The tab Compare without a browser: the grid, the memorisation check, the judge, the study."""

import dataclasses
import html
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from arra_med_apps import words as shared
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.compare_tab import panels, words
from arra_med_apps.compare_tab.form import Compared, in_order
from arra_med_apps.compare_tab.grid import grid_panel
from arra_med_apps.compare_tab.handlers import Handlers
from arra_med_apps.settings import NO_EXTRAS, AppSettings
from arra_med_apps.training_images import TrainingImages

from arra_med.errors import ConfigError
from arra_med.imaging.view import CanonicalView
from arra_med.records.study import StudyRecord
from tests.corpus.tiny_studies import write_records
from tests.evaluate.test_finished_study import write_study
from tests.evaluate.tiny_audit import picture
from tests.evaluate.tiny_classifier import FINDINGS, write_classifier

REPORT = "PA view. Pleural effusion in Mr Zzyzx. <img src=x onerror=alert(1)>"
NAME = '<b onclick="alert(1)">Fine</b>'


@pytest.fixture(scope="module")
def two(choices: list[ModelChoice]) -> list[ModelChoice]:
    """The chest model twice, as ARRA and as its fine-tuned twin, and the fundus model."""
    chest, _, fundus = choices
    return [
        dataclasses.replace(chest, label="ARRA"),
        dataclasses.replace(chest, name="twin", label="Fine-tuned"),
        fundus,
    ]


def compare(handlers: Handlers, **changes: Any) -> list[tuple[Any, Any, Any]]:
    models = [choice.name for choice in handlers.shelf.choices.values()]
    given = {"models": models, "report": REPORT, "modality": "cxr", "num_seeds": 3, "seed": 4}
    return list(handlers.compare(**{**given, "guidance_scale": 2.0, "temperature": 1.0, **changes}))


def finished(handlers: Handlers, **changes: Any) -> Compared:
    compared = compare(handlers, **changes)[-1][2]
    assert isinstance(compared, Compared)
    return compared


def handlers_of(choices: list[ModelChoice], settings: AppSettings = NO_EXTRAS) -> Handlers:
    shelf = Shelf(choices)
    return Handlers(shelf, settings, TrainingImages(settings, shelf))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and 24 held-out chest images."""
    spec = CanonicalView(modality="cxr", size_px=32)
    records = [
        StudyRecord(
            image_id=f"tiny/{row}",
            patient_id=f"patient-{row}",
            modality="cxr",
            source="nih_cxr14",
            split="train" if row < 6 else "test",
            patient_known=True,
        )
        for row in range(30)
    ]
    return write_records(tmp_path_factory.mktemp("studies"), records, [picture(row)[None] for row in range(30)], spec)


def test_every_model_gets_the_same_seeds_and_the_baseline_stands_first(two: list[ModelChoice]):
    handlers = handlers_of(two)
    updates = compare(handlers)
    compared = updates[-1][2]
    assert [row.label for row in compared.rows] == ["Fine-tuned", "ARRA"]
    assert compared.seeds == (4, 5, 6)
    assert np.array_equal(compared.rows[0].images, compared.rows[1].images)  # one model twice
    alone = finished(handlers, num_seeds=1, seed=5)
    assert np.array_equal(alone.rows[0].images[0], compared.rows[0].images[1])
    assert compared.report_findings == ("effusion",)
    assert "Zzyzx" not in repr(compared)
    shown = updates[-1][1]
    assert shown.count('class="am-zoomable"') == 6
    assert "6 synthetic pictures" in shown


def test_one_bar_grows_over_all_models(two: list[ModelChoice]):
    shares = []
    for _, grid, _ in compare(handlers_of(two))[:-1]:
        if 'aria-valuenow="' in grid:
            shares.append(int(grid.split('aria-valuenow="')[1].split('"')[0]))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert any(40 <= share <= 60 for share in shares)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"report": "  "}, shared.EMPTY_REPORT),
        ({"report": None}, shared.EMPTY_REPORT),
        ({"models": []}, words.NO_MODEL),
        ({"models": None}, words.NO_MODEL),
        ({"models": ["../../etc/passwd"]}, words.NO_MODEL),
        ({"seed": -1}, shared.SEED_RANGE),
        ({"seed": None}, shared.SEED_RANGE),
        ({"num_seeds": 99}, words.TOO_MANY),
        ({"temperature": float("nan")}, "Temperature is nan"),
    ],
)
def test_a_mistake_is_one_sentence(two: list[ModelChoice], change: dict[str, Any], told: str):
    (update,) = compare(handlers_of(two), **change)
    assert told in html.unescape(update[0])
    assert 'role="alert"' in update[0]
    assert update[2] is None


def test_an_unexpected_error_logs_no_text(two: list[ModelChoice], caplog: pytest.LogCaptureFixture):
    secret = "zyzzyva"

    def broken() -> Any:
        raise RuntimeError(secret)

    handlers = handlers_of([dataclasses.replace(two[0], open=broken)])
    with caplog.at_level(logging.DEBUG):
        updates = compare(handlers)
    assert words.UNEXPECTED in updates[-1][0]
    assert "RuntimeError" in caplog.text
    assert secret not in caplog.text
    assert "Zzyzx" not in caplog.text


def test_stop_frees_the_models(two: list[ModelChoice]):
    handlers = handlers_of(two)
    run = handlers.compare([two[0].name], REPORT, "cxr", 2, 0, 1.0, 1.0)
    next(run)
    next(run)
    assert handlers.shelf.generating.locked()
    run.close()
    assert not handlers.shelf.generating.locked()
    assert words.STOPPED in handlers.stop()[0]


def test_names_from_a_bundle_are_escaped_everywhere(two: list[ModelChoice]):
    handlers = handlers_of([dataclasses.replace(two[0], label=NAME)])
    shown = "".join(str(update[1]) for update in compare(handlers))
    assert NAME not in shown
    assert html.escape(NAME) in shown
    assert NAME not in grid_panel([NAME], [0], [None], [0.0], NAME, NAME)


def test_a_modality_with_one_model_says_so_and_the_switch_ticks_its_models(two: list[ModelChoice]):
    handlers = handlers_of(two)
    updates = handlers.switch_modality("fundus", "")
    assert updates[1].value == [two[2].name]
    assert html.escape(words.ONE_MODEL) in compare(handlers, modality="fundus", report="Left eye. Glaucoma.")[-1][0]
    assert [choice.label for choice in in_order(two[:2])] == ["Fine-tuned", "ARRA"]


def test_nearest_training_images_stand_beside_each_picture_and_copies_are_flagged(
    two: list[ModelChoice], studies: Path
):
    handlers = handlers_of(two, AppSettings(training=studies))
    compared = finished(handlers, num_seeds=2)
    copied = dataclasses.replace(compared.rows[0], images=np.stack([picture(2), compared.rows[0].images[1]]))
    updates = list(handlers.find(dataclasses.replace(compared, rows=(copied, compared.rows[1]))))
    assert any("progressbar" in update for update in updates)
    panel = updates[-1]
    assert shared.PATIENTS_NOTICE in panel
    assert panel.count("<article") == 4
    first = panel.split("<article")[1]
    assert "am-cmp-flagged" in first
    assert words.FLAGGED in first
    assert panel.split("<article")[2].count("Training image<br>") == 3
    assert "Compared with 24 held-out images of nih_cxr14" in panel
    assert "tiny/2" not in panel
    assert "patient-2" not in panel


def test_stopping_the_search_stops_the_work(two: list[ModelChoice], studies: Path, monkeypatch: pytest.MonkeyPatch):
    handlers = handlers_of(two, AppSettings(training=studies))
    ended = threading.Event()

    def slow(_: str, report: Callable[[float], None]) -> None:
        try:
            while not ended.wait(0.01):
                report(0.5)
        finally:
            ended.set()

    monkeypatch.setattr(handlers.training, "search", slow)
    run = handlers.find(Compared("cxr", (0,), finished(handlers, num_seeds=1).rows[:1], ()))
    next(run)
    next(run)
    run.close()
    assert ended.is_set()


def test_a_study_set_of_another_kind_or_a_damaged_one_is_a_sentence(
    two: list[ModelChoice], studies: Path, tmp_path: Path
):
    fundus = handlers_of(two, AppSettings(training=studies))
    compared = finished(fundus, modality="fundus", report="Left eye. Glaucoma.")
    assert "holds cxr images of 32 px and the model draws fundus" in list(fundus.find(compared))[-1]
    empty = handlers_of(two, AppSettings(training=tmp_path))
    assert 'role="alert"' in list(empty.find(finished(empty)))[-1]


def test_without_a_study_set_the_page_names_the_option(two: list[ModelChoice]):
    handlers = handlers_of(two)
    panel = list(handlers.find(finished(handlers)))[-1]
    assert words.NO_TRAINING in panel
    assert words.NO_REFERENCE in panel
    assert "am-cmp-near" not in panel
    assert list(handlers.find(None)) == [panels.paragraph(words.NEAREST_FIRST)]


def test_the_judge_scores_what_the_report_names(two: list[ModelChoice], tmp_path: Path):
    name = "<script>alert('judge')</script>"
    handlers = handlers_of(two, AppSettings(judge=write_classifier(tmp_path, name=name)))
    compared = finished(handlers)
    panel = list(handlers.scores(compared))[-1]
    assert '<th scope="row">effusion</th>' in panel
    assert "pneumothorax" not in panel
    assert "AUROC 0.77 on held-out real images (nih_cxr14, validation: 16 with, 92 without" in panel
    assert words.TOO_FEW in panel
    assert html.escape(words.FEW_PICTURES) in panel
    assert html.escape(name, quote=True) in panel
    assert name not in panel
    nothing = list(handlers.scores(dataclasses.replace(compared, report_findings=("hernia",))))[-1]
    assert f"It knows: {', '.join(FINDINGS)}." in nothing


def test_a_judge_that_may_not_or_cannot_judge_is_a_sentence(two: list[ModelChoice], tmp_path: Path):
    handlers = handlers_of(two, AppSettings(judge=write_classifier(tmp_path / "judge")))
    compared = finished(handlers, modality="fundus", report="Left eye. Glaucoma.")
    assert "learned on cxr images of 32 px" in list(handlers.scores(compared))[-1]
    judge, info = handlers.evidence.judge(), handlers.shelf.open(two[0].name).bundle.info
    assert judge is not None
    taught = {"name": "the teacher", "sha256": judge.classifier.encoder.fingerprint}
    info.training["teachers"] = [taught]
    assert "cannot judge: weights or initialisation" in list(handlers.scores(finished(handlers)))[-1]
    info.training.clear()
    spoilt = handlers_of(two, AppSettings(judge=write_classifier(tmp_path / "spoilt", spoil=True)))
    assert "is not finite" in list(spoilt.scores(finished(spoilt)))[-1]
    absent = handlers_of(two, AppSettings(judge=tmp_path))
    assert 'role="alert"' in list(absent.scores(compared))[-1]


def test_the_study_is_framed_without_scripts_and_its_names_are_escaped(two: list[ModelChoice], tmp_path: Path):
    folder = write_study(tmp_path / "study", name='"><script>alert(1)</script>')
    panel = handlers_of(two, AppSettings(study=folder)).study()
    assert 'sandbox=""' in panel
    assert "<script>" not in panel
    assert "Does &lt;b&gt;alignment&lt;/b&gt; help?" in panel
    assert "efficientnet_lite2" in panel
    (folder / "comparison.json").write_text('{"format_version": 9}')
    assert "format version 9, this program reads 1" in handlers_of(two, AppSettings(study=folder)).study()
    assert handlers_of(two).study() == panels.paragraph(words.NO_STUDY)


def test_a_new_comparison_takes_away_what_was_said_of_the_last_one(two: list[ModelChoice]):
    notice, compared, *_, nearest, scores = handlers_of(two).start()
    assert (notice, compared) == ("", None)
    assert words.NEAREST_FIRST in nearest
    assert html.escape(words.NO_JUDGE) in scores


@pytest.mark.parametrize("option", ["training", "judge", "study"])
def test_folders_that_are_not_there_are_told_at_the_start(tmp_path: Path, option: str):
    with pytest.raises(ConfigError, match=f"--{option} .*: is no folder"):
        AppSettings(**{option: tmp_path / "missing"}).require_folders()


def test_updates_are_gradio_s_own(two: list[ModelChoice]):
    for update in handlers_of(two).finish(None):
        assert isinstance(update, gr.Button)
