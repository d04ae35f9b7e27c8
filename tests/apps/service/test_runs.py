"""Every tab's run of the model: refused with a sentence, shows its place, gives it up, ends when the app closes, counts."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.compare_tab.handlers import Handlers as Compare
from arra_med_apps.explore_tab.handlers import Handlers as Explore
from arra_med_apps.generate_tab.handlers import Handlers as Generate
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.owning import Owning
from arra_med_apps.service.settings import ServiceSettings
from arra_med_apps.settings import NO_EXTRAS
from arra_med_apps.training_images import TrainingImages

from tests.apps.generate_tab.test_handlers import values as form_values
from tests.apps.reader_tab.test_reader_handlers import values as plan_values

REPORT = "PA view. normal effusion."
BOX = (25, 25, 25, 25)
NUM_READ = 12
NUM_IMAGES = {"generate": 2, "pair": 4, "edit": 3, "explain": 4, "original": 1, "compare": 4, "reader": NUM_READ}
LIMIT = 20

Start = Callable[[Shelf], Iterator[Any]]


def text_of(update: Any) -> str:
    """All that an update says."""
    return " ".join(map(str, update.values() if isinstance(update, dict) else update))


@pytest.fixture
def offered(choices: list[ModelChoice]) -> list[ModelChoice]:
    chest, slow, _ = choices
    return [chest, dataclasses.replace(chest, name="twin", label="Fine-tuned"), slow]


@pytest.fixture
def shelf(offered: list[ModelChoice]) -> Shelf:
    return Shelf(offered, ServiceSettings(images_per_hour=LIMIT, waiting_places=1))


def explored(shelf: Shelf) -> dict[str, Any]:
    model = next(iter(shelf.choices))
    return {"model": model, "report": REPORT, "modality": "cxr", "seed": 5, "guidance_scale": 3.0, "user": "me"}


def edited(shelf: Shelf) -> Iterator[Any]:
    elsewhere = Shelf(list(shelf.choices.values()))
    *_, (_, _, opened, cells, _) = Explore(elsewhere).draw_original(*BOX, **explored(shelf))
    return Explore(shelf).edit(opened, cells, "", 3, True, **explored(shelf))


def compared(shelf: Shelf) -> Iterator[Any]:
    handlers = Compare(shelf, NO_EXTRAS, TrainingImages(NO_EXTRAS, shelf))
    return handlers.compare(list(shelf.choices)[:2], REPORT, "cxr", 2, 4, 2.0, 1.0, user="me")


@pytest.fixture(params=list(NUM_IMAGES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path / "kept"))

    def make(shelf: Shelf) -> Iterator[Any]:
        with gr.Blocks():
            page = Layout(shelf)
        table = tmp_path / "reports.csv"
        table.write_text("report,seed\n" + "".join(f"PA view. Effusion.,{seed}\n" for seed in range(NUM_READ)))
        plan = plan_values(design="likert", prompts=str(table), model_arra="slow")
        return Owning(page, shelf).make((), local=True, user="me", **plan)

    return make


@pytest.fixture
def start(kind: str, reader: Start) -> Start:
    starts: dict[str, Start] = {
        "generate": lambda shelf: Generate(shelf).generate("", user="me", **form_values()),
        "pair": lambda shelf: Explore(shelf).pair("PA view. pneumothorax.", 2, **explored(shelf)),
        "edit": edited,
        "explain": lambda shelf: Explore(shelf).explain(4, **explored(shelf)),
        "original": lambda shelf: Explore(shelf).draw_original(*BOX, **explored(shelf)),
        "compare": compared,
        "reader": reader,
    }
    return starts[kind]


def until_it_waits(run: Iterator[Any], ahead: str = "1 run") -> None:
    assert any(words.PLACE_IN_LINE.format(before=ahead) in text_of(update) for update in run)


def counted(shelf: Shelf) -> str:
    return shelf.metrics.text().decode()


def test_a_spent_allowance_is_one_sentence_and_no_model_is_opened(shelf: Shelf, start: Start):
    shelf.allowance.begin("me", LIMIT)
    shelf.allowance.end("me")
    *_, last = start(shelf)
    assert f"You have asked for {LIMIT} images within an hour: wait, or ask for fewer." in text_of(last)
    assert all(shelf.opened(name) is None for name in shelf.choices)
    assert 'arra_med_runs_total{outcome="refused"} 1.0' in counted(shelf)


def test_a_second_run_of_the_same_user_is_refused_whatever_the_tab(shelf: Shelf, start: Start):
    with shelf.run("me", 1):
        *_, last = start(shelf)
        assert "Your last pictures are still being made" in text_of(last)
    *_, last = start(shelf)
    assert "still being made" not in text_of(last)


def test_a_full_line_turns_it_away(shelf: Shelf, start: Start):
    shelf.generating.ticket(), shelf.generating.ticket()
    *_, last = start(shelf)
    assert words.LINE_FULL in text_of(last)
    assert len(shelf.generating) == 2
    assert 'arra_med_runs_total{outcome="refused"} 1.0' in counted(shelf)
    shelf.allowance.begin("me", LIMIT)  # it cost nothing


def test_it_shows_its_place_while_another_run_holds_the_model_and_goes_on_by_itself(
    shelf: Shelf, start: Start, kind: str
):
    ahead, run = shelf.generating.ticket(), start(shelf)
    until_it_waits(run)
    assert "arra_med_in_line 2.0" in counted(shelf)
    ahead.leave()
    *_, last = run
    assert 'role="alert"' not in text_of(last)
    assert len(shelf.generating) == 0
    assert 'arra_med_runs_total{outcome="finished"} 1.0' in counted(shelf)
    assert f"arra_med_images_total {NUM_IMAGES[kind]}.0" in counted(shelf)
    assert "arra_med_run_seconds_count 1.0" in counted(shelf)
    assert "arra_med_in_line 0.0" in counted(shelf)


def test_whoever_leaves_while_waiting_gives_the_place_and_the_allowance_back(shelf: Shelf, start: Start):
    ahead, run = shelf.generating.ticket(), start(shelf)
    until_it_waits(run)
    run.close()  # type: ignore[attr-defined]
    assert len(shelf.generating) == 1
    assert ahead.before == 0
    shelf.allowance.begin("me", LIMIT)
    assert 'arra_med_runs_total{outcome="stopped"} 1.0' in counted(shelf)
    assert "arra_med_images_total 0.0" in counted(shelf)


def test_it_ends_at_its_next_row_when_the_app_closes(shelf: Shelf, start: Start):
    told = []
    for update in start(shelf):
        told.append(text_of(update))
        if len(shelf.generating):
            shelf.closing.set()
    assert words.CLOSING in told[-1]
    assert len(shelf.generating) == 0
    assert 'outcome="finished"' not in counted(shelf)


def test_it_ends_while_it_waits_when_the_app_closes(shelf: Shelf, start: Start):
    shelf.generating.ticket()
    run = start(shelf)
    until_it_waits(run)
    shelf.closing.set()
    *_, last = run
    assert words.CLOSING in text_of(last)
    assert len(shelf.generating) == 1


def test_a_stop_half_way_gives_the_rest_back(shelf: Shelf):
    run = compared(shelf)
    assert any('aria-valuenow="50"' in text_of(update) for update in run)
    run.close()  # type: ignore[attr-defined]
    assert "arra_med_images_total 2.0" in counted(shelf)
    shelf.allowance.begin("me", LIMIT - 2)


def test_a_reader_study_lets_others_go_first_between_two_batches_and_stops_at_the_next_row(shelf: Shelf, reader: Start):
    run, other = reader(shelf), None
    for update in run:
        if len(shelf.generating) and other is None:
            other = shelf.generating.ticket()
        if "1 run before yours" in text_of(update):
            break
    assert other is not None
    assert other.wait(0)
    assert f"8 of {NUM_READ}" in text_of(update)
    other.leave()
    next(run)
    began = time.monotonic()
    run.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    assert len(shelf.generating) == 0
    shelf.allowance.begin("me", LIMIT - 8)


def test_opening_a_file_waits_in_line_and_counts_no_image(shelf: Shelf, tmp_path: Path):
    ahead = shelf.generating.ticket()
    run = Explore(shelf).open_original(str(tmp_path / "gone.png"), *BOX, **explored(shelf))
    until_it_waits(run)
    ahead.leave()
    *_, last = run
    assert 'role="alert"' in text_of(last)
    assert "arra_med_images_total 0.0" in counted(shelf)
    assert 'arra_med_runs_total{outcome="failed"} 1.0' in counted(shelf)
