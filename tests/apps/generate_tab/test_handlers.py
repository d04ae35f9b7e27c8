import dataclasses
import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice, Shelf, bundle_choice
from arra_med_apps.explore_tab.handlers import Handlers as ExploreHandlers
from arra_med_apps.form import MAX_SEED, Form
from arra_med_apps.generate_tab import presenting
from arra_med_apps.generate_tab.handlers import Handlers
from arra_med_apps.generate_tab.updates import RESULT_OUTPUTS
from PIL import Image

from arra_med.errors import BundleError

REPORT = "PA view. Pleural effusion in Mr Zzyzx."


def values(**changes: Any) -> dict[str, Any]:
    filled = {
        "report": REPORT,
        "modality": "cxr",
        "view": words.AS_REPORTED,
        "laterality": words.AS_REPORTED,
        "age_group": words.AS_REPORTED,
        "num_images": 2,
        "seed": 5,
        "guidance_scale": 3.0,
        "temperature": 1.0,
        "top_k": 0,
    }
    return filled | changes


def notice_of(updates: list[tuple]) -> str:
    return updates[-1][0]


def test_the_form_becomes_the_request_and_leaves_to_the_report_what_is_left_to_it():
    request = Form(**values(view="AP", top_k=100)).request()
    assert (request.view, request.age_group, request.laterality) == ("AP", None, None)
    assert (request.seed, request.num_images, request.rules.top_k) == (5, 2, 100)
    assert Form(**values()).request().rules.top_k is None
    assert Form(**values(modality="fundus", view="PA", laterality="L")).request().laterality == "L"


def test_images_arrive_row_by_row_and_the_last_update_holds_the_files(shelf: Shelf):
    seen, kept = [], {}
    for update in Handlers(shelf).generate("unknown", **values()):
        assert len(update) == RESULT_OUTPUTS
        seen.append(update[1])
        if isinstance(update[0], str):  # the files live until the page has copied them
            kept = {Path(file).name: Path(file).read_bytes() for file in update[5]}
            archive = Path(update[4].value["path"] if isinstance(update[4].value, dict) else update[4].value)
            with zipfile.ZipFile(archive) as pack:
                assert set(pack.namelist()) == {*kept, "README.txt"}
                assert words.BANNER in pack.read("README.txt").decode()
            settings = update[6]
    assert words.LOADING in seen[0]
    widths = [text.split('aria-valuenow="')[1].split('"')[0] for text in seen if "aria-valuenow" in text]
    assert [int(width) for width in widths] == sorted(int(width) for width in widths)
    assert widths[-1] == "100"
    assert sorted(kept) == [f"arra-med_cxr_seed000{seed}.{kind}" for seed in (5, 6) for kind in ("json", "png")]
    assert "5 to 6" in settings
    assert "tiny-cxr" in settings
    assert all(b"Zzyzx" not in content for content in kept.values())
    assert json.loads(kept["arra-med_cxr_seed0006.json"])["seed"] == 6


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"report": " \n"}, words.EMPTY_REPORT),
        ({"report": "INDICATION: cough."}, "nothing that describes the image"),
        ({"seed": None}, words.SEED_RANGE),
        ({"seed": -1}, words.SEED_RANGE),
        ({"seed": MAX_SEED + 1}, words.SEED_RANGE),
    ],
)
def test_a_mistake_becomes_one_sentence(shelf: Shelf, changes: dict[str, Any], sentence: str):
    notice = notice_of(list(Handlers(shelf).generate("", **values(**changes))))
    assert sentence in notice
    assert 'role="alert"' in notice


def test_an_empty_report_is_told_before_the_model_is_opened(shelf: Shelf):
    list(Handlers(shelf).generate("", **values(report="")))
    assert all(shelf.opened(name) is None for name in shelf.choices)


def test_an_unexpected_error_shows_a_sentence_and_logs_neither_its_text_nor_the_report(
    caplog: pytest.LogCaptureFixture,
):
    class Broken:
        def stream(self, request: Any) -> Any:
            raise RuntimeError(f"cannot use {request.report}")

    handlers = Handlers(Shelf([ModelChoice("broken", "Broken", "cxr", Broken)]))
    with caplog.at_level(logging.DEBUG):
        updates = list(handlers.generate("broken", **values()))
    assert words.UNEXPECTED in notice_of(updates)
    assert "RuntimeError" in caplog.text
    assert "Zzyzx" not in caplog.text
    assert not handlers.shelf.generating.locked()


def test_a_run_that_is_dropped_frees_the_model(shelf: Shelf):
    handlers = Handlers(shelf)
    run = handlers.generate("", **values())
    for _ in range(4):
        next(run)
    assert shelf.generating.locked()
    assert words.WAITING in handlers.start(2)[1]
    run.close()
    assert not shelf.generating.locked()


def test_a_bundle_that_broke_after_the_start_is_told_in_a_sentence(tmp_path: Path):
    def missing() -> Any:
        raise BundleError("model.safetensors does not fit config.json; copy the bundle again")

    handlers = Handlers(Shelf([ModelChoice("gone", "Gone", "cxr", missing)]))
    assert "Model.safetensors does not fit" in notice_of(list(handlers.generate("gone", **values())))


def test_the_preview_shows_prompt_and_cautions_and_escapes_them(shelf: Shelf):
    handlers = Handlers(shelf)
    name = shelf.of_modality("cxr")[0].name
    shelf.open(name)
    assert words.PROMPT_WAITING in handlers.preview(name, **values(report=""))
    assert "PA view chest X-ray image, Pneumothorax." in handlers.preview(
        name, **values(report="PA view. Pneumothorax.")
    )
    assert "Only 12 training images" in handlers.preview(name, **values(report="PA view. Pneumothorax."))
    assert "<script>" not in handlers.preview(name, **values(report="Effusion <script>alert(1)</script>"))
    assert "Paediatric" not in handlers.preview(name, **values(age_group="adult"))
    assert "paediatric" in handlers.preview(name, **values(age_group="child"))


@pytest.mark.parametrize("handlers", [Handlers, ExploreHandlers])
def test_cautions_stand_in_the_preview_before_the_model_is_opened(
    choices: list[ModelChoice], handlers: Callable[[Shelf], Any]
):
    def never() -> Any:
        raise BundleError("this model cannot be opened")

    shelf = Shelf([dataclasses.replace(choices[0], open=never)])
    form = values() if handlers is Handlers else {"modality": "cxr", "seed": 5, "guidance_scale": 3.0}
    panel = handlers(shelf).preview("unknown", **form | {"report": "PA view. Large pneumothorax."})
    assert "Only 12 training images" in panel
    assert "No label of the training images tells the size of a finding" in panel
    assert "Only" not in handlers(shelf).preview("unknown", **form | {"report": "PA view. Pleural effusion."})
    assert shelf.opened(choices[0].name) is None


def test_every_example_becomes_a_prompt_without_notices_of_its_own_making():
    for example in words.EXAMPLES:
        prompt = Form(**values(report=example.report, modality=example.modality)).prompt(None, {})
        assert not prompt.notices, (example.name, prompt.notices)
        assert len(prompt.text.split(",")) > 1, example.name


def test_switching_the_kind_of_image_swaps_controls_and_drops_only_an_example_of_the_other_kind(shelf: Shelf):
    handlers = Handlers(shelf)
    chest_example = next(example.report for example in words.EXAMPLES if example.modality == "cxr")
    report, view, eye, chest_models, eye_models, *rows = handlers.switch_modality("fundus", chest_example)
    assert (report.value, view.visible, eye.visible) == ("", False, True)
    assert (chest_models.visible, eye_models.visible) == (False, True)
    assert [row.visible for row in rows] == [False, True]
    assert handlers.switch_modality("fundus", "My own text.")[0].value == "My own text."


def test_seeds_are_rolled_in_range_and_move_on_by_the_number_of_images(shelf: Shelf):
    handlers = Handlers(shelf)
    assert 0 <= handlers.roll() <= MAX_SEED
    assert handlers.next_seed(5, 4) == 9
    assert handlers.next_seed(None, 2) == 2
    assert handlers.next_seed(MAX_SEED, 8) == MAX_SEED


def test_a_partial_picture_is_shown_as_it_is():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    panel = presenting.forming_panel(np.stack([image, image]), 0.25, 75.2)
    assert presenting.data_uri(image) in panel
    assert "height:75.0%" in panel
    assert "about 1 min 15 s left" in panel


def test_an_archive_holds_the_files_and_the_banner(tmp_path: Path):
    picture = tmp_path / "a.png"
    Image.new("L", (2, 2)).save(picture)
    presenting.write_archive([picture], tmp_path / "all.zip", words.BANNER)
    with zipfile.ZipFile(tmp_path / "all.zip") as pack:
        assert pack.namelist() == ["README.txt", "a.png"]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (59.4, "59 s"), (80, "1 min 20 s"), (754, "12 min")])
def test_durations_read_as_people_say_them(seconds: float, text: str):
    assert words.duration(seconds) == text


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="no complete model bundle"):
        bundle_choice(tmp_path)


def test_a_page_without_a_model_is_refused():
    with pytest.raises(BundleError, match="at least one bundle"):
        Shelf([])


def test_a_model_that_is_not_offered_is_refused(shelf: Shelf):
    with pytest.raises(BundleError, match="not offered here"):
        shelf.open("/etc")
