"""The tab's handlers without a browser: results, files, and one sentence for each mistake."""

import dataclasses
import json
import logging
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from arra_med_apps import words as page_words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.explore_tab import presenting, words
from arra_med_apps.explore_tab.handlers import Handlers, Opened
from PIL import Image

REPORT = "PA view. normal effusion in Mr <b>Zzyzx</b>."
BOX = (25, 25, 25, 25)  # of 8 x 8 squares: rows and columns 2 and 3


def values(shelf: Shelf, **changes: Any) -> dict[str, Any]:
    model = shelf.of_modality("cxr")[0].name
    return {"model": model, "report": REPORT, "modality": "cxr", "seed": 5, "guidance_scale": 3.0} | changes


def ended(updates: Any) -> tuple[str, dict[str, bytes]]:
    """What is shown at the end, and the archive's files."""
    shown, kept = "", {}
    for update in updates:
        shown, button = update
        path = getattr(button, "value", None)
        if path:  # the archive lives until the page has copied it
            with zipfile.ZipFile(path["path"] if isinstance(path, dict) else path) as pack:
                kept = {name: pack.read(name) for name in pack.namelist()}
    return shown, kept


def opened(handlers: Handlers, shelf: Shelf) -> tuple[Opened, frozenset[int]]:
    *_, last = handlers.draw_original(*BOX, **values(shelf))
    return last[2], last[3]


def test_a_pair_is_shown_with_its_map_and_kept_as_files(shelf: Shelf):
    shown, kept = ended(Handlers(shelf).pair("PA view. pneumothorax.", 2, **values(shelf)))
    assert shown.count("<img") == 6
    assert "shows no cause" in shown
    assert "arra-med_cxr_pair_seed0006.png" in kept
    assert "arra-med_cxr_before_seed0005.json" in kept
    assert all(b"Zzyzx" not in content for content in kept.values())


def test_ignored_phrases_are_struck_out_and_nothing_typed_becomes_markup(shelf: Shelf):
    shown, kept = ended(Handlers(shelf).explain(4, **values(shelf)))
    assert "<b>" not in shown
    assert "&lt;b&gt;Zzyzx" in shown
    assert shown.count('<th scope="row">') == 2
    assert "no effect found" in shown or "has an effect" in shown
    told = json.loads(kept["explanation.json"])["what_the_model_ignored"]
    assert [phrase["kind"] for phrase in told["phrases"]] == ["view", "statement"]
    assert b"Zzyzx" not in kept["explanation.json"]


def test_a_drawn_picture_is_edited_where_it_was_marked(shelf: Shelf):
    handlers = Handlers(shelf)
    original, cells = opened(handlers, shelf)
    assert cells == {18, 19, 26, 27}
    shown, kept = ended(handlers.edit(original, cells, "PA view. pneumothorax.", 3, True, **values(shelf)))
    assert shown.count("<img") == 3
    assert "cannot see what was kept" in shown
    told = [json.loads(content) for name, content in kept.items() if name.endswith(".json")]
    assert sorted(one["edit"]["rank"] for one in told) == [1, 2, 3]
    assert told[0]["edit"]["codes_redrawn"] == [18, 19, 26, 27]


def test_a_click_marks_a_square_and_the_next_takes_it_back(shelf: Shelf):
    handlers = Handlers(shelf)
    original, cells = opened(handlers, shelf)
    picture = presenting.marked_picture(original.original.pixels, np.zeros((8, 8), dtype=bool))
    event: Any = SimpleNamespace(index=[len(picture) - 1, 0])
    more, tinted = handlers.click(original, cells, event)
    assert more == cells | {7}
    assert not np.array_equal(tinted, picture)
    assert handlers.click(original, more, event)[0] == cells
    assert handlers.set_box(original, 100, 100, 100, 100)[0] == {63}


def test_a_file_is_opened_as_its_canonical_view_and_named_a_possible_patient(shelf: Shelf, tmp_path: Path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "x.png")
    handlers = Handlers(shelf)
    *_, (notice, _, original, cells, _) = handlers.open_original(str(tmp_path / "x.png"), *BOX, **values(shelf))
    assert "may be a patient" in notice
    shown, kept = ended(handlers.edit(original, cells, "", 1, True, **values(shelf)))
    assert "changed in part" in shown
    assert json.loads(next(c for n, c in kept.items() if n.endswith(".json")))["edit"]["of"]["kind"] == "file"
    (tmp_path / "x.png").write_text("no picture")
    *_, (notice, *_) = handlers.open_original(str(tmp_path / "x.png"), *BOX, **values(shelf))
    assert 'role="alert"' in notice


def test_a_picture_to_be_edited_says_at_once_that_it_is_made_and_that_the_model_opens(shelf: Shelf):
    handlers = Handlers(shelf)
    notice, *buttons = handlers.start_opening()
    assert page_words.STARTING in notice
    assert [button.interactive for button in buttons] == [False, False]
    assert [button.interactive for button in handlers.finish_opening()] == [True, True]
    first, *_ = handlers.draw_original(*BOX, **values(shelf))
    assert page_words.LOADING in first[0]
    with shelf.run("other", 1) as run:
        assert list(run.places()) == []
        assert page_words.WAITING in handlers.start_opening()[0]


def test_what_a_credentialed_model_makes_is_shown_but_no_file_leaves_before_the_acknowledgement(
    choices: list[ModelChoice],
):
    shelf = Shelf([dataclasses.replace(choices[0], licence_class="credentialed")])
    shown, kept = ended(Handlers(shelf).pair("PA view. pneumothorax.", 1, **values(shelf)))
    assert words.ACKNOWLEDGE in shown
    assert shown.count('role="alert"') == 1
    assert shown.count("<img") == 3
    assert not kept
    shown, kept = ended(Handlers(shelf).pair("PA view. pneumothorax.", 1, **values(shelf, acknowledged=True)))
    assert 'role="alert"' not in shown
    assert kept


@pytest.mark.parametrize(
    ("tool", "changes", "sentence"),
    [
        ("pair", {"report": " "}, "The report box is empty"),
        ("pair", {"seed": None}, "The seed must be a whole number"),
        ("empty pair", {}, words.EMPTY_EDITED),
        ("explain", {"report": "INDICATION: cough."}, "nothing that describes the image"),
        ("explain", {"report": "PA view."}, "other wordings of this report are known"),
        ("edit", {}, words.NO_ORIGINAL),
        ("unmarked edit", {}, "Nothing is marked"),
        ("other model", {"modality": "fundus", "report": "Glaucoma."}, words.OTHER_MODEL),
    ],
)
def test_a_mistake_becomes_one_sentence(shelf: Shelf, tool: str, changes: dict[str, Any], sentence: str):
    handlers = Handlers(shelf)
    given = values(shelf, **changes)
    runs = {
        "pair": lambda: handlers.pair("PA view.", 1, **given),
        "empty pair": lambda: handlers.pair(" ", 1, **given),
        "explain": lambda: handlers.explain(4, **given),
        "edit": lambda: handlers.edit(None, frozenset(), "", 1, True, **given),
        "unmarked edit": lambda: handlers.edit(opened(handlers, shelf)[0], frozenset(), "", 1, True, **given),
        "other model": lambda: handlers.edit(*opened(handlers, shelf), "", 1, True, **given),
    }
    shown, kept = ended(runs[tool]())
    assert sentence.replace("'", "&#x27;") in shown
    assert 'role="alert"' in shown
    assert not kept


def test_an_unexpected_error_shows_a_sentence_and_logs_no_text(caplog: pytest.LogCaptureFixture):
    class Broken:
        bundle = SimpleNamespace(fingerprint="")

        def prompt(self, request: Any) -> Any:
            raise RuntimeError(f"cannot use {request.report}")

    broken: Any = ModelChoice("broken", "Broken", "cxr", Broken)
    shelf = Shelf([broken])
    with caplog.at_level(logging.ERROR):
        shown, _ = ended(Handlers(shelf).pair("PA view.", 1, **values(shelf)))
    assert words.UNEXPECTED in shown
    assert "Zzyzx" not in caplog.text
    assert "RuntimeError" in caplog.text
