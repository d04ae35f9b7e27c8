"""The Explore tab in a real browser, with tiny bundles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arra_med_apps.explore_tab import words
from PIL import Image

from tests.apps.test_page import PATIENCE_MS, SECRET, Watched, browser, sync_api

__all__ = ["browser"]

pytestmark = pytest.mark.browser

REPORT = f"PA view. normal effusion of {SECRET}."


@pytest.fixture
def page(browser: Any, page_url: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    watched = Watched(context.new_page(), page_url)
    watched.page.get_by_role("tab", name=words.TAB, exact=True).click()
    watched.page.fill("#am-explore-report textarea", REPORT)
    yield watched.page
    context.close()
    assert not [url for url in watched.requests if not url.startswith((page_url, "data:", "blob:"))]
    assert not watched.complaints


def test_a_pair_its_map_and_its_archive(page: Any):
    page.fill("#am-explore-edited textarea", "PA view. pneumothorax.")
    page.focus("#am-explore-edited textarea")
    page.keyboard.press("Control+Enter")  # the run button of the open tool, not Generate
    sync_api.expect(page.locator("#am-explore-pair-shown img")).to_have_count(3, timeout=PATIENCE_MS)
    with page.expect_download() as download:
        page.click("#am-explore-pair-files")
    assert SECRET.encode() not in Path(download.value.path()).read_bytes()
    assert download.value.suggested_filename.endswith(".zip")


def test_a_file_is_opened_marked_and_redrawn(page: Any, tmp_path: Path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "x.png")
    page.get_by_role("tab", name=words.EDIT_TAB).click()
    page.click("#am-explore-edit")
    alert = page.locator("#am-explore-edit-shown [role=alert]")
    sync_api.expect(alert).to_have_text(words.NO_ORIGINAL, timeout=PATIENCE_MS)
    with page.expect_file_chooser() as chooser:
        page.click("#am-explore-open")
    chooser.value.set_files(tmp_path / "x.png")
    page.wait_for_selector("#am-explore-picture img")
    sync_api.expect(page.locator("#am-explore-original-notice")).to_contain_text("may be a patient")
    before = page.locator("#am-explore-picture img").get_attribute("src")
    page.locator("#am-explore-picture img").click(position={"x": 5, "y": 5})
    sync_api.expect(page.locator("#am-explore-picture img")).not_to_have_attribute("src", before, timeout=PATIENCE_MS)
    page.wait_for_selector("#am-explore-edit:enabled")
    page.click("#am-explore-edit")
    sync_api.expect(page.locator("#am-explore-edit-shown img")).to_have_count(4, timeout=PATIENCE_MS)


def test_phrases_are_marked_and_a_phone_needs_no_sideways_scrolling(page: Any):
    page.get_by_role("tab", name=words.EXPLAIN_TAB).click()
    page.click("#am-explore-explain")
    shown = page.locator("#am-explore-explain-shown .am-phrases")
    sync_api.expect(shown).to_contain_text(SECRET, timeout=PATIENCE_MS)
    assert shown.locator("mark, s").count() == 2
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_two_buttons_that_give_a_picture_wait_while_one_is_made_and_say_so(page: Any):
    page.get_by_role("tab", name=words.EDIT_TAB).click()
    page.locator("#am-explore-model label", has_text="Slow").click()
    page.click("#am-explore-draw")
    notice = page.locator("#am-explore-original-notice")
    sync_api.expect(notice.get_by_role("progressbar")).to_be_visible(timeout=PATIENCE_MS)
    for name in ("draw", "open"):
        sync_api.expect(page.locator(f"#am-explore-{name}")).to_be_disabled(timeout=PATIENCE_MS)
    page.wait_for_selector("#am-explore-picture img")
    for name in ("draw", "open"):
        sync_api.expect(page.locator(f"#am-explore-{name}")).to_be_enabled(timeout=PATIENCE_MS)
