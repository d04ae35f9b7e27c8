"""A full disk, wherever the page writes: one sentence each time, and the page goes on."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.explore_tab.handlers import Handlers as ExploreHandlers
from arra_med_apps.generate_tab.handlers import Handlers as GenerateHandlers
from arra_med_apps.generate_tab.table_handlers import TableHandlers

from tests.apps.data_tab.test_data_handlers import looked_at, write_dicom
from tests.apps.explore_tab.test_handlers import ended, values
from tests.apps.generate_tab.test_files import last_update
from tests.apps.generate_tab.test_tables import ALL_FILES, Ended, write
from tests.apps.generate_tab.test_tables import values as table_values
from tests.apps.test_bad_input_page import a_png
from tests.apps.test_look import open_tab
from tests.apps.test_page import PATIENCE_MS, Watched, browser, sync_api

__all__ = ["browser"]

TOLD = words.UNWRITTEN.format(reason=os.strerror(errno.ENOSPC))


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "Zzyzx.png")


@pytest.mark.parametrize("writes", ["zipfile.ZipFile.write", "arra_med.generate.counterfactual.write_png"])
def test_of_a_pair_the_pictures_are_shown_all_the_same(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, writes: str):
    handlers = ExploreHandlers(shelf)
    with monkeypatch.context() as patched:
        patched.setattr(writes, full)
        shown, kept = ended(handlers.pair("PA view. pneumothorax.", 1, **values(shelf)))
    assert shown.count(TOLD) == shown.count('role="alert"') == 1
    assert shown.count("<img") == 3
    assert not kept
    assert ended(handlers.pair("PA view. pneumothorax.", 1, **values(shelf)))[1]


def test_of_a_run_the_images_are_shown_when_its_archive_cannot_be_packed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zipfile.ZipFile.write", full)
    made = last_update(GenerateHandlers(shelf), "unknown")
    assert TOLD in made["notice"]
    assert len(made["gallery"].value) == 2
    assert made["files"] == {}


def test_of_a_table_whose_archive_cannot_be_packed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tables = TableHandlers(GenerateHandlers(shelf))
    table = write(tmp_path / "reports.csv", [{"report": "PA view. effusion."}])
    with monkeypatch.context() as patched:
        patched.setattr("zipfile.ZipFile.write", full)
        assert TOLD in Ended(tables.draw(table, "", [], ALL_FILES, "", **table_values())).notice
    assert Ended(tables.draw(table, "", [], ALL_FILES, "", **table_values())).files


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_of_kept_views_the_stages_are_shown_all_the_same(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("arra_med_apps.data_tab.handlers._write_view", full)
    file = write_dicom(tmp_path / "a.dcm")
    shown, kept = looked_at(shelf, [file], keep=True)
    assert shown.count(TOLD) == 1
    assert "<strong>Canonical view</strong>" in shown
    assert not kept
    assert not file.exists()


@pytest.fixture
def page(browser: Any, page_url: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page(), page_url).page
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("tab", "box"), [("Generate", "#am-upload"), ("Data", "#am-drop"), ("Explore", "#am-explore-open")]
)
def test_an_upload_is_told_and_the_next_one_goes_well(
    page: Any, monkeypatch: pytest.MonkeyPatch, tab: str, box: str, caplog: Any, capfd: Any
):
    given = {
        "Generate": {"name": "a.txt", "mimeType": "text/plain", "buffer": b"PA view. effusion."},
        "Data": {"name": "a.png", "mimeType": "image/png", "buffer": a_png()},
        "Explore": {"name": "a.png", "mimeType": "image/png", "buffer": a_png()},
    }[tab]
    arrived = {
        "Generate": "#am-prompt :text('effusion')",
        "Data": "#am-drop :text('a.png')",
        "Explore": "#am-explore-picture img",
    }
    if tab != "Generate":
        open_tab(page, tab)
    if tab == "Explore":
        page.get_by_role("tab", name="Redraw", exact=True).click()
    with monkeypatch.context() as patched:
        patched.setattr("gradio.route_utils.GradioUploadFile.write", full)
        hand(page, box, given)
        toast = page.locator(".toast-body").first
        sync_api.expect(toast).to_contain_text(TOLD, timeout=PATIENCE_MS)
        assert "Zzyzx" not in page.content()
    hand(page, box, given)
    page.wait_for_selector(arrived[tab])
    printed = capfd.readouterr()
    assert "Zzyzx" not in caplog.text + printed.out + printed.err


def hand(page: Any, box: str, file: dict[str, Any]) -> None:
    """Gives a file to a box, as a click on it does."""
    with page.expect_file_chooser() as chooser:
        page.locator(f"{box}, {box} button").last.click()
    chooser.value.set_files([file])
