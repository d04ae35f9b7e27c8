"""A table of reports drawn from the page: the files of the command, in the line of all runs, stopped with nothing lost."""

import csv
import dataclasses
import json
import logging
import re
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.handlers import Handlers
from arra_med_apps.generate_tab.history import Run
from arra_med_apps.generate_tab.table_handlers import TableHandlers
from arra_med_apps.generate_tab.updates import RESULT_OUTPUTS
from arra_med_apps.service.settings import ServiceSettings

from arra_med.cli import main
from arra_med.generate.export import read_provenance

SECRET = "Zzyzx"
REPORTS = (f"PA view. normal effusion in Mr {SECRET}.", "AP view. pneumothorax.", "PA view. effusion.")
ALL_FILES = (["png"], True, False, False)
NUM_ROWS = 12


def values(**changes: Any) -> dict[str, Any]:
    filled = {
        "modality": "cxr",
        "view": words.AS_REPORTED,
        "laterality": words.AS_REPORTED,
        "age_group": words.AS_REPORTED,
        "num_images": 1,
        "seed": 0,
        "guidance_scale": 3.0,
        "temperature": 1.0,
        "top_k": 0,
    }
    return filled | changes


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = [{"id": f"case{row}", "report": REPORTS[row % 3]} for row in range(NUM_ROWS)]
    return write(tmp_path / "reports.csv", rows)


@pytest.fixture
def tables(shelf: Shelf) -> TableHandlers:
    return TableHandlers(Handlers(shelf))


class Ended:
    """The last update of a run; its archive is read while it is there."""

    def __init__(self, updates: Iterator[tuple[Any, ...]]) -> None:
        self.live: list[str] = []
        self.files: dict[str, bytes] = {}
        self.history: list[Run] = []
        for update in updates:
            assert len(update) == RESULT_OUTPUTS
            self.live.append(str(update[1]))
            self.notice = update[0] if isinstance(update[0], str) else ""
            if isinstance(update[8], list):
                self.history, self.gallery, self.settings = update[8], update[3].value, update[6]
                path = update[4].value
                with zipfile.ZipFile(path["path"] if isinstance(path, dict) else path) as pack:
                    self.files = {name: pack.read(name) for name in pack.namelist()}

    @property
    def pictures(self) -> list[str]:
        return sorted(name for name in self.files if name.endswith(".png"))


def test_the_archive_holds_what_the_command_writes(
    tables: TableHandlers, table: str, choices: list[ModelChoice], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG):
        ended = Ended(tables.draw(table, "unknown", [], ALL_FILES, "me", **values(num_images=2)))
    assert ended.notice == ""
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--prompts", table, "-n", "2", "--bundle", str(choices[0].folder), "--out", str(out)])
    assert not stop.value.code
    written = {file.name: file.read_bytes() for file in out.iterdir() if not file.name.startswith(".")}
    note = ended.files.pop("README.txt").decode()
    assert words.BANNER in note
    assert ended.files == written
    assert len(ended.pictures) == 2 * NUM_ROWS
    assert not any(SECRET.encode() in content for content in ended.files.values())
    assert SECRET not in caplog.text
    assert "case3" not in caplog.text

    assert [shown["caption"] for shown in ended.gallery] == [f"Synthetic, report {row}" for row in (1, 1, 2, 2, 3, 3)]
    assert "8 images: Only 12 training images were labelled with pneumothorax" in ended.settings
    assert [run.form["report"] for run in ended.history] == [REPORTS[row] for row in (0, 0, 1, 1, 2, 2)]
    assert len(tables.shelf.generating) == 0


def test_formats_marks_and_reports_are_those_that_were_asked_for(tables: TableHandlers, table: str, tmp_path: Path):
    ended = Ended(tables.draw(table, "", [], (["png", "dicom"], False, True, False), "", **values()))
    assert {Path(name).suffix for name in ended.files} == {".png", ".dcm", ".json", ".jsonl", ".txt"}
    record = json.loads(next(ended.files[name] for name in ended.files if name.endswith(".json")))
    assert record["report"] in REPORTS
    (tmp_path / "a.png").write_bytes(ended.files[ended.pictures[0]])
    provenance = read_provenance(tmp_path / "a.png")
    assert provenance is not None
    assert provenance["marks"]["visible"] is False


def test_one_sentence_says_how_many_reports_and_images(tables: TableHandlers, table: str):
    path, box, said, button = tables.loaded(table, REPORTS, "", **values(num_images=2))
    assert (path, box.visible) == (table, True)
    assert "The table has 12 reports: 24 images with the settings below (Chest X-ray)." in said
    assert (button.value, button.interactive) == ("Draw all 12 reports", True)
    assert "12 images" in tables.told(table, "", **values())[0]
    for other, reports in (("report.txt", REPORTS), (table, []), (None, [])):
        path, box, *_ = tables.loaded(other, reports, "", **values())
        assert (path, box.visible) == (None, False)


def test_a_table_names_its_own_kind_of_image(tables: TableHandlers, tmp_path: Path):
    path = write(tmp_path / "eyes.csv", [{"report": "Left eye. glaucoma.", "modality": "fundus"}])
    assert "Fundus" in tables.told(path, "", **values(view="PA"))[0]
    ended = Ended(tables.draw(path, "", [], ALL_FILES, "", **values(view="PA")))
    assert ended.pictures[0].startswith("arra-med_fundus_")


def test_bad_rows_are_told_in_one_line_with_their_numbers_and_nothing_is_drawn(
    tables: TableHandlers, shelf: Shelf, tmp_path: Path
):
    rows = [
        {"report": REPORTS[0], "seed": "1"},
        {"report": "", "seed": "2"},
        {"report": REPORTS[0], "seed": SECRET},
        {"report": REPORTS[1], "seed": ""},
    ]
    path = write(tmp_path / "bad.csv", rows)
    said, button = tables.told(path, "", **values())
    assert re.search("The table: 2 bad rows; mend them .*row 2: column .*must not be empty; row 3: column .*seed", said)
    assert "single reports of the file can be chosen" in said
    assert not any(word in said for word in (SECRET, "\n", str(tmp_path)))
    assert button.interactive is False
    ended = Ended(tables.draw(path, "", [], ALL_FILES, "", **values()))
    assert "row 3: column" in ended.notice
    assert not ended.files


def test_a_report_without_anything_to_draw_is_a_bad_row_once_the_model_is_open(
    tables: TableHandlers, shelf: Shelf, tmp_path: Path
):
    path = write(tmp_path / "empty.csv", [{"report": REPORTS[0]}, {"report": "INDICATION: cough."}])
    assert "has 2 reports" in tables.told(path, "", **values())[0]
    shelf.open(shelf.of_modality("cxr")[0].name)
    assert "row 2: column" in tables.told(path, "", **values())[0]
    assert "row 2: column" in Ended(tables.draw(path, "", [], ALL_FILES, "", **values())).notice


@pytest.mark.parametrize(
    ("rows", "changes", "export", "sentence"),
    [
        (own_words.MAX_TABLE_ROWS + 1, {}, ALL_FILES, "more than 500 reports.*arra-med generate --prompts"),
        (200, {"num_images": 8}, ALL_FILES, "asks for 1600 images.*arra-med generate --prompts"),
        (2, {}, (["dicom"], True, False, False), "tick PNG"),
        (2, {"seed": -1}, ALL_FILES, "seed must be a whole number"),
        (0, {}, ALL_FILES, "gone from this page"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    tables: TableHandlers, tmp_path: Path, rows: int, changes: dict[str, Any], export: tuple, sentence: str
):
    path = str(tmp_path / "gone.csv")
    if rows:
        path = write(tmp_path / "reports.csv", [{"id": str(row), "report": REPORTS[1]} for row in range(rows)])
    ended = Ended(tables.draw(path, "", [], export, "", **values(**changes)))
    assert re.search(sentence, ended.notice)
    assert 'role="alert"' in ended.notice


def test_a_credentialed_model_asks_for_the_acknowledgement_first(choices: list[ModelChoice], table: str):
    tables = TableHandlers(Handlers(Shelf([dataclasses.replace(choices[0], licence_class="credentialed")])))
    assert "credentialed data" in Ended(tables.draw(table, "", [], ALL_FILES, "", **values())).notice
    agreed = Ended(tables.draw(table, "", [], (["png"], True, False, True), "", **values()))
    assert len(agreed.pictures) == NUM_ROWS


def slow_batches(tables: TableHandlers) -> None:
    """Lets a batch take long enough for somebody to press Stop."""
    session = tables.shelf.open(tables.shelf.of_modality("cxr")[0].name)
    drawn, waiting = session.draw_codes, threading.Event()

    def slow(requests: Any, should_stop: Any = None) -> Any:
        waiting.wait(0.7)
        return drawn(requests, should_stop)

    session.draw_codes = slow  # type: ignore[method-assign]


def test_a_stop_keeps_what_is_finished_and_gives_the_rest_of_the_allowance_back(choices: list[ModelChoice], table: str):
    tables = TableHandlers(Handlers(Shelf(choices, ServiceSettings(images_per_hour=30))))
    assert tables.stop("me")[1].interactive is False  # nothing runs
    slow_batches(tables)

    def stopped_after_a_batch() -> Iterator[tuple[Any, ...]]:
        for update in tables.draw(table, "", [], ALL_FILES, "me", **values(num_images=2)):
            if "images a second" in str(update[1]):
                assert own_words.TABLE_STOPPING in tables.stop("me")[0]
            yield update

    ended = Ended(stopped_after_a_batch())
    made = len(ended.pictures)
    assert 0 < made < 2 * NUM_ROWS
    assert f"Stopped after {made} of 24 images" in ended.notice
    assert len(ended.files["images.jsonl"].splitlines()) == made
    assert len(tables.shelf.generating) == 0
    tables.shelf.allowance.begin("me", 30 - made)


def test_it_waits_in_line_and_lets_others_go_first_between_two_batches(tables: TableHandlers, table: str):
    line = tables.shelf.generating
    first, order = line.ticket(), []

    def other() -> None:
        ticket = line.ticket()
        assert ticket.wait(20)
        order.append(("other", tables._runs["me"].done))
        ticket.leave()

    thread = threading.Thread(target=other)
    for update in tables.draw(table, "", [], ALL_FILES, "me", **values(num_images=2)):
        if words.PLACE_IN_LINE.format(before="1 run") in str(update[1]) and thread.ident is None:
            thread.start()
            while len(line) < 3:
                pass
            first.leave()
        if isinstance(update[8], list):
            order.append(("table", 2 * NUM_ROWS))
    thread.join()
    assert [name for name, _ in order] == ["other", "table"]
    assert 0 < order[0][1] < 2 * NUM_ROWS


def test_whoever_leaves_frees_the_line_and_the_app_may_close(tables: TableHandlers, table: str):
    updates = tables.draw(table, "", [], ALL_FILES, "me", **values())
    next(updates)
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    assert len(tables.shelf.generating) == 0
    assert tables._runs == {}
    tables.shelf.closing.set()
    assert words.CLOSING in Ended(tables.draw(table, "", [], ALL_FILES, "me", **values())).notice


def test_a_second_run_of_the_same_user_and_a_spent_allowance_are_told(choices: list[ModelChoice], table: str):
    tables = TableHandlers(Handlers(Shelf(choices, ServiceSettings(images_per_hour=NUM_ROWS - 1))))
    assert "11 images within an hour" in Ended(tables.draw(table, "", [], ALL_FILES, "me", **values())).notice
    tables.shelf.allowance.begin("you", 1)
    assert "still being made" in Ended(tables.draw(table, "", [], ALL_FILES, "you", **values())).notice
