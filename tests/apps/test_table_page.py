"""A table of reports in a real browser: drawn as a whole, taken away as one file, and by nobody else."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps.app import Served, serve
from arra_med_apps.choices import ModelChoice
from arra_med_apps.generate_tab import words

from tests.apps.test_page import PATIENCE_MS, SECRET, Watched, browser, sync_api

__all__ = ["browser"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(choices: list[ModelChoice]) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GRADIO_TEMP_DIR", "")
        running = serve(choices, "127.0.0.1", 0, open_browser=False)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    watched = Watched(context.new_page(), served.page.local_url)
    yield watched.page
    context.close()
    assert not [url for url in watched.requests if not url.startswith((served.page.local_url, "data:", "blob:"))]
    assert not watched.complaints


def load(page: Any, path: Path, rows: list[str]) -> None:
    path.write_text("id,report\n" + "\n".join(rows) + "\n")
    with page.expect_file_chooser() as chooser:
        page.click("#am-upload")
    chooser.value.set_files(path)


def test_a_table_is_drawn_as_a_whole_and_taken_away_by_its_own_session_alone(
    page: Any, browser: Any, served: Served, tmp_path: Path, caplog: Any, capfd: Any
):
    load(page, tmp_path / "bad.csv", ["a,effusion", "b,"])
    told = page.locator("#am-table-told")
    sync_api.expect(told).to_contain_text("row 2: column 'report': must not be empty", timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-table-draw")).to_be_disabled()

    load(page, tmp_path / "reports.csv", [f"case{row},PA view. effusion {SECRET} {row}." for row in range(11)])
    sync_api.expect(told).to_contain_text("The table has 11 reports: 22 images", timeout=PATIENCE_MS)
    draw = page.locator("#am-table-draw")
    sync_api.expect(draw).to_have_text("Draw all 11 reports")
    draw.click()
    sync_api.expect(page.locator("#am-gallery .gallery-item img")).to_have_count(6, timeout=PATIENCE_MS)
    page.wait_for_selector("#am-generate:enabled")
    page.wait_for_selector("#am-table-draw:enabled")
    with page.expect_download() as download:
        page.click("#am-zip")
    with zipfile.ZipFile(download.value.path()) as pack:
        names = pack.namelist()
        assert len([name for name in names if name.endswith(".png")]) == 22
        index = [json.loads(line) for line in pack.read("images.jsonl").splitlines()]
        assert [row["row"] for row in index] == [row for row in range(1, 12) for _ in range(2)]
        assert not any(SECRET.encode() in pack.read(name) for name in names)

    address = download.value.url
    assert address.startswith(served.page.local_url)
    assert page.request.get(address).status == 200
    stranger = browser.new_context()
    stranger.request.get(served.page.local_url)
    assert stranger.request.get(address).status == 403
    stranger.close()
    printed = capfd.readouterr()
    assert SECRET not in caplog.text + printed.out + printed.err


def test_a_table_that_is_stopped_keeps_its_finished_images(page: Any, served: Served, tmp_path: Path):
    page.get_by_role("button", name="Advanced").click()
    page.locator("#am-model label", has_text="Slow").click()
    load(page, tmp_path / "reports.csv", [f"case{row},PA view. effusion." for row in range(60)])
    sync_api.expect(page.locator("#am-table-draw")).to_have_text("Draw all 60 reports", timeout=PATIENCE_MS)
    page.click("#am-table-draw")
    sync_api.expect(page.locator("#am-live")).to_contain_text("images a second", timeout=PATIENCE_MS)
    page.click("#am-table-stop")
    sync_api.expect(page.locator("#am-notice")).to_contain_text("Stopped after", timeout=PATIENCE_MS)
    page.wait_for_selector("#am-table-draw:enabled")
    with page.expect_download() as download:
        page.click("#am-zip")
    with zipfile.ZipFile(download.value.path()) as pack:
        count = len([name for name in pack.namelist() if name.endswith(".png")])
    assert 0 < count < 120
    sync_api.expect(page.locator("#am-notice")).to_contain_text(f"Stopped after {count} of 120 images")
    assert words.TABLE_STOPPING not in page.inner_text("#am-notice")
    assert len(served.shelf.generating) == 0
