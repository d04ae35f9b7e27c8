"""Images of the session become the arms of a study: by their model's variant, of one kind, each once, without marks."""

import dataclasses
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from arra_med_apps.choices import Shelf
from arra_med_apps.generate_tab.history import Run
from arra_med_apps.reader_tab import words
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.owning import Owning
from arra_med_apps.reader_tab.session_arms import session_arms

from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import study_path
from arra_med.generate.session import GenerationRequest
from arra_med.records.study import Modality
from tests.apps.reader_tab.test_reader_handlers import values


@pytest.fixture
def page(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Layout]:
    monkeypatch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path / "kept"))
    with gr.Blocks():
        yield Layout(shelf)


def run(shelf: Shelf, variant: str, seed: int, modality: Modality = "cxr") -> Run:
    """Returns a run of two images by a model of some variant."""
    name = shelf.of_modality(modality)[0].name
    report = "PA view. Effusion." if modality == "cxr" else "Glaucoma."
    request = GenerationRequest(report=report, modality=modality, num_images=2, seed=seed)
    result = shelf.open(name).generate(request)
    bundle = {**result.provenance["bundle"], "variant": variant}
    return Run(name, {}, dataclasses.replace(result, provenance={**result.provenance, "bundle": bundle}))


def made(page: Layout, shelf: Shelf, history: list[Run], **changes: Any) -> tuple[str, str, list[str]]:
    """What the page tells at the end: the problem, what was made, and the codes in it."""
    seen: dict[Any, Any] = {}
    for update in Owning(page, shelf).make(
        history, local=True, **values(**{"design": "likert", "use_session": True, **changes})
    ):
        seen |= update
    told = seen[page.made]
    return html.unescape(re.sub("<.*?>", "", seen[page.make_notice])), told, re.findall(r"<code>(.*?)</code>", told)


def test_the_variant_of_a_runs_model_is_its_arm(shelf: Shelf) -> None:
    history = [
        run(shelf, "finetuned", 4),
        run(shelf, "arra", 2),
        run(shelf, "arra", 0),
        run(shelf, "arra", 0, "fundus"),
    ]
    arms, num_left_out = session_arms(history, "cxr")
    assert [(arm.arm.name, len(arm.arm.views)) for arm in arms] == [("baseline", 2), ("arra", 4)]
    assert num_left_out == 0
    oldest_first = np.concatenate([history[2].result.images, history[1].result.images])
    assert np.array_equal(np.stack(arms[1].arm.views)[:, 0], oldest_first)  # the model's pixels, no mark in them
    ((fundus,), _) = session_arms(history, "fundus")
    assert fundus.arm.views[0].shape == (3, 32, 32)


def test_an_image_that_was_made_twice_is_taken_once_and_keeps_its_seed(shelf: Shelf) -> None:
    ((arm,), _) = session_arms([run(shelf, "arra", 1), run(shelf, "arra", 0), run(shelf, "arra", 0)], "cxr")
    assert [origin.rpartition(", ")[2] for origin in arm.arm.origins] == ["seed 0", "seed 1", "seed 2"]


def test_a_model_that_is_neither_is_one_sentence(page: Layout, shelf: Shelf) -> None:
    imported, ours = run(shelf, "imported", 0), run(shelf, "arra", 2)
    problem, told, codes = made(page, shelf, [imported, ours])
    assert problem == ""
    assert "1 run of a model that is neither ARRA nor its baseline" in told
    assert len(ReaderStudy(study_path(codes[0])).cases) == 2
    assert made(page, shelf, [imported])[0] == words.SESSION_NEITHER
    assert "neither" not in made(page, shelf, [ours])[1]


def test_a_session_without_images_of_the_studys_kind_is_one_sentence(page: Layout, shelf: Shelf) -> None:
    for history in ([], [run(shelf, "arra", 0, "fundus")]):
        assert made(page, shelf, history)[0] == words.SESSION_EMPTY


def test_a_session_by_one_model_alone_is_no_preference(shelf: Shelf, page: Layout) -> None:
    problem, _, codes = made(page, shelf, [run(shelf, "arra", 0)], design="preference")
    assert "preference is between two arms" in problem
    assert codes == []


def test_nothing_of_the_session_is_taken_unasked(page: Layout, shelf: Shelf) -> None:
    problem, _, _ = made(page, shelf, [run(shelf, "arra", 0)], use_session=False)
    assert "no image was given" in problem.lower()
