"""Files of reports in, files of images out, and the session's history."""

import dataclasses
import html
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from arra_med_apps.acknowledging import asked_for
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.generate_tab import exporting
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.file_handlers import GALLERY_BUTTONS, FileHandlers
from arra_med_apps.generate_tab.handlers import Handlers
from arra_med_apps.generate_tab.history import MAX_RUNS, Run, earlier_gallery, remembered
from arra_med_apps.generate_tab.updates import RESULT_OUTPUTS
from PIL import Image

from arra_med.errors import BundleError, SendingError
from arra_med.generate.marks import draw_visible_mark
from arra_med.models.licence import check_acknowledged

VALUES: dict[str, Any] = {
    "report": "PA view. Pleural effusion in Mr Zzyzx.",
    "modality": "cxr",
    "view": "report",
    "laterality": "report",
    "age_group": "report",
    "num_images": 2,
    "seed": 5,
    "guidance_scale": 3.0,
    "temperature": 1.0,
    "top_k": 0,
}


class Selected:
    def __init__(self, index: int) -> None:
        self.index = index


def files_of(handlers: Handlers) -> FileHandlers:
    return FileHandlers(handlers.shelf)


def last_update(handlers: Handlers, model: str, export: tuple = (["png"], True, False, False)) -> dict[str, Any]:
    """The last update of a run, its files read while they are there."""
    for update in handlers.generate(model, [], export, **VALUES):
        assert len(update) == RESULT_OUTPUTS
        if isinstance(update[8], list):
            contents = {Path(file).name: Path(file).read_bytes() for file in update[5] or []}
            return {
                "notice": update[0],
                "gallery": update[3],
                "files": contents,
                "run": update[7],
                "history": update[8],
            }
    raise AssertionError("the run did not end")


def test_other_wishes_give_other_files_of_the_same_images(shelf: Shelf):
    handlers = Handlers(shelf)
    run = last_update(handlers, "unknown")["run"]
    for notice, gallery, archive, files in files_of(handlers).export(run, ["png", "dicom"], False, True, False):
        assert html.escape(own_words.NO_VISIBLE_MARK) in notice
        assert sorted({Path(file).suffix for file in files}) == [".dcm", ".json", ".png"]
        assert len(files) == 6
        record = json.loads(next(Path(file) for file in files if file.endswith(".json")).read_text())
        assert record["report"] == VALUES["report"]
        assert record["marks"]["visible"] is False
        dicom = pydicom.dcmread(next(file for file in files if file.endswith(".dcm")))
        np.testing.assert_array_equal(dicom.pixel_array, run.result.images[0])
        value = archive.value["path"] if isinstance(archive.value, dict) else archive.value
        with zipfile.ZipFile(value) as pack:
            assert len(pack.namelist()) == 7
        assert len(gallery.value) == 2


def test_dicom_alone_is_shown_in_the_gallery_all_the_same(shelf: Shelf):
    handlers = Handlers(shelf)
    run = last_update(handlers, "unknown")["run"]
    for _, gallery, _, files in files_of(handlers).export(run, ["dicom"], True, False, False):
        assert {Path(file).suffix for file in files} == {".dcm", ".json"}
        assert len(gallery.value) == 2


def test_no_format_is_a_sentence_and_nothing_happens_before_the_first_run(shelf: Shelf):
    handlers = Handlers(shelf)
    run = last_update(handlers, "unknown")["run"]
    ((notice, *_),) = files_of(handlers).export(run, [], True, False, False)
    assert own_words.NOTHING_TO_EXPORT in notice
    assert list(files_of(handlers).export(None, ["png"], True, False, False)) == []


def test_images_of_a_credentialed_model_are_shown_but_no_file_leaves_before_the_acknowledgement(
    choices: list[ModelChoice],
):
    credentialed = dataclasses.replace(choices[0], licence_class="credentialed")
    handlers = Handlers(Shelf([credentialed]))
    made = last_update(handlers, credentialed.name)
    assert "credentialed data" in made["notice"]
    assert made["files"] == {}
    assert made["gallery"].buttons == ["fullscreen"]
    assert asked_for(handlers.shelf, credentialed.name, "cxr").visible
    assert not asked_for(Shelf(choices), choices[0].name, "cxr").visible
    agreed = last_update(handlers, credentialed.name, (["png"], True, False, True))
    assert len(agreed["files"]) == 4
    assert agreed["gallery"].buttons == GALLERY_BUTTONS
    with pytest.raises(BundleError, match="credentialed data, whose agreement .*: tick it"):
        check_acknowledged("credentialed", False, "tick it")
    check_acknowledged("open", False, "")


def test_a_full_disk_is_told_and_the_images_are_shown(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arra_med.generate.export.write_png", full)
    made = last_update(Handlers(shelf), "unknown")
    assert "No space left on device" in made["notice"]
    assert made["files"] == {}
    assert made["run"].result.images.shape[0] == 2


def test_a_file_of_reports_fills_the_box(shelf: Shelf, tmp_path: Path):
    handlers = Handlers(shelf)
    (tmp_path / "many.csv").write_text("report\nEffusion.\nNormal.\n")
    notice, report, reports, picker = files_of(handlers).load_file(str(tmp_path / "many.csv"))
    assert "2 reports loaded" in notice
    assert (report, reports, picker.visible, picker.maximum) == ("Effusion.", ["Effusion.", "Normal."], True, 2)
    assert files_of(handlers).pick(reports, 2) == "Normal."
    (tmp_path / "one.txt").write_text("Cardiomegaly.")
    notice, report, reports, picker = files_of(handlers).load_file(str(tmp_path / "one.txt"))
    assert (notice, report, picker.visible) == ("", "Cardiomegaly.", False)
    notice, _, reports, picker = files_of(handlers).load_file(str(tmp_path / "../../etc/shadow_of_zzyzx.txt"))
    assert "The file: cannot be read" in notice
    assert "zzyzx" not in notice
    assert (reports, picker.visible) == ([], False)


def test_what_the_model_does_not_read_is_struck_out_and_foreign_words_are_cautioned(shelf: Shelf):
    handlers = Handlers(shelf)
    form = {name: value for name, value in VALUES.items() if name != "report"}
    panel = handlers.preview("unknown", "INDICATION: <b>Cough</b>.\n\nIMPRESSION: Effusion.", **form)
    assert "<del" in panel
    assert "&lt;b&gt;Cough" in panel
    assert "<b>Cough" not in panel
    assert own_words.ENGLISH_ONLY in handlers.preview("unknown", "Pleuraerguss beidseits mit Stauung.", **form)
    assert own_words.ENGLISH_ONLY not in handlers.preview("unknown", "Pleural effusion with oedema.", **form)


def test_an_earlier_run_gives_its_form_back_and_old_ones_are_forgotten(shelf: Shelf):
    handlers = Handlers(shelf)
    made = last_update(handlers, "unknown")
    run = made["history"][0]
    restored = handlers.restore([run], Selected(0))  # type: ignore[arg-type]
    assert run.form["report"] in restored
    chest_models, eye_models, _, _, view, eye = restored[1:7]
    assert (chest_models.visible, eye_models.visible, view.visible, eye.visible) == (True, False, True, False)
    assert chest_models.value == run.model
    runs: list[Run] = []
    for _ in range(MAX_RUNS + 3):
        runs = remembered(runs, run)
    assert len(runs) == MAX_RUNS
    assert "Zzyzx" not in repr(run)


def test_pictures_of_earlier_runs_are_marked(shelf: Shelf):
    run = last_update(Handlers(shelf), "unknown")["run"]
    (thumbnail,) = earlier_gallery([run]).value
    shown = np.asarray(Image.open(thumbnail["image"]["path"]).convert("L")).astype(int)  # a lossy copy
    assert np.abs(shown - draw_visible_mark(run.picture)).mean() < 10 < np.abs(shown - run.picture).mean()


def test_sending_needs_a_confirmation_and_dicom_files():
    with pytest.raises(SendingError, match="tick the box first"):
        exporting.send(["a.dcm"], "pacs", False)
    with pytest.raises(SendingError, match="no DICOM file"):
        exporting.send(["a.png"], "pacs", True)
