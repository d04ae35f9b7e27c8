"""A credentialed model in a real browser: pictures are shown, and no file leaves before the acknowledgement."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps.app import serve
from arra_med_apps.choices import ModelChoice
from arra_med_apps.explore_tab import words

from arra_med.generate.export import read_provenance
from tests.apps.test_look import open_tab
from tests.apps.test_page import PATIENCE_MS, REPORT, Watched, browser, sync_api

__all__ = ["browser"]

pytestmark = pytest.mark.browser

OF_ONE_PICTURE = "#am-gallery button[aria-label='Download']"
WAIT_MS = 1_000


@pytest.fixture
def watched(browser: Any, choices: list[ModelChoice], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    chest, _, fundus = choices
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    served = serve(
        [dataclasses.replace(chest, licence_class="credentialed"), fundus], "127.0.0.1", 0, open_browser=False
    )
    context = browser.new_context(viewport={"width": 1366, "height": 900}, accept_downloads=True)
    watched = Watched(context.new_page(), served.page.local_url)
    yield watched
    context.close()
    served.close()
    assert not watched.complaints


def enlarge_first(page: Any) -> None:
    page.locator("#am-gallery .gallery-item img").first.click()
    page.wait_for_selector("#am-gallery .preview")


def test_generate_has_nothing_to_download_before_the_acknowledgement(watched: Watched):
    page, begun = watched.page, []
    page.on("download", lambda download: begun.append(download))
    watched.write(REPORT)
    page.click("#am-generate")
    refusal = page.locator("#am-notice [role=alert]")
    sync_api.expect(refusal).to_contain_text("tick the acknowledgement", timeout=PATIENCE_MS)
    watched.wait_for_images(2)
    page.click("#am-zip")
    enlarge_first(page)
    page.wait_for_selector("#am-gallery button[aria-label='Fullscreen']")
    page.wait_for_timeout(WAIT_MS)
    assert page.locator(OF_ONE_PICTURE).count() == 0
    assert not begun
    page.get_by_role("button", name="Files to take away").click()
    page.locator("#am-acknowledged input").check()
    sync_api.expect(refusal).to_have_count(0, timeout=PATIENCE_MS)
    page.wait_for_selector(OF_ONE_PICTURE)
    with page.expect_download() as download:
        page.click(OF_ONE_PICTURE)
    assert read_provenance(Path(download.value.path()))
    with page.expect_download():
        page.click("#am-zip")


def test_explore_has_nothing_to_download_before_the_acknowledgement(watched: Watched):
    page = watched.page
    open_tab(page, words.TAB)
    page.fill("#am-explore-report textarea", REPORT)
    page.fill("#am-explore-edited textarea", "PA view. pneumothorax.")
    page.click("#am-explore-pair")
    sync_api.expect(page.locator("#am-explore-pair-shown img")).to_have_count(3, timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-explore-pair-shown [role=alert]")).to_contain_text(words.ACKNOWLEDGE)
    sync_api.expect(page.locator("#am-explore-pair-files")).to_be_hidden()
    page.locator("#am-explore-acknowledged input").check()
    page.wait_for_selector("#am-explore-pair:enabled")
    page.click("#am-explore-pair")
    page.wait_for_selector("#am-explore-pair-files")
    with page.expect_download() as download:
        page.click("#am-explore-pair-files")
    assert download.value.suggested_filename.endswith(".zip")


def test_the_box_is_there_for_credentialed_models_alone_and_is_ticked_anew(watched: Watched):
    page = watched.page
    open_tab(page, words.TAB)
    box = page.locator("#am-explore-acknowledged")
    box.locator("input").check()
    page.locator("#am-explore-modality label", has_text="Fundus").click()
    sync_api.expect(box).to_be_hidden(timeout=PATIENCE_MS)
    page.locator("#am-explore-modality label", has_text="Chest").click()
    sync_api.expect(box).to_be_visible(timeout=PATIENCE_MS)
    sync_api.expect(box.locator("input")).not_to_be_checked()
