"""The Data tab in a real browser: a header full of identifiers, the nearest training image, a file that is none."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps.choices import ModelChoice
from arra_med_apps.data_tab import words
from arra_med_apps.settings import AppSettings

from tests.apps.compare_tab.test_handlers import studies
from tests.apps.data_tab.test_data_handlers import made_dicom
from tests.apps.test_bad_input_page import GRADIOS_OWN
from tests.apps.test_page import PATIENCE_MS, Watched, browser, sync_api
from tests.planted_identifiers import plant_everywhere

__all__ = ["browser", "studies"]

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")]


@pytest.fixture(scope="module")
def url(choices: list[ModelChoice], studies: Path) -> Iterator[tuple[str, Path]]:
    from arra_med_apps.app import serve

    before = os.environ.get("GRADIO_TEMP_DIR")
    served = serve(choices, "127.0.0.1", 0, False, AppSettings(training=studies))
    yield served.page.local_url, served.folder
    served.close()
    os.environ.pop("GRADIO_TEMP_DIR", None) if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


def test_a_header_full_of_identifiers_is_named_and_nothing_of_it_is_shown_or_kept(browser: Any, url: tuple[str, Path]):
    made, stream = made_dicom(), io.BytesIO()
    traces = plant_everywhere(made)
    made.save_as(stream, enforce_file_format=True)
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    watched = Watched(context.new_page(), url[0])
    page = watched.page
    page.get_by_role("tab", name=words.DATA_TAB, exact=True).click()
    sync_api.expect(page.locator("#am-data-stop")).to_be_disabled()
    files = {"a.dcm": stream.getvalue(), "b.dcm": b"a letter"}
    given = [{"name": name, "mimeType": "application/dicom", "buffer": data} for name, data in files.items()]
    page.set_input_files("#am-drop input[type=file]", given)
    page.wait_for_selector("#am-drop a[href*='b.dcm']")  # a link stands there once it is uploaded
    page.click("#am-look")
    page.wait_for_selector("#am-look:enabled")
    sync_api.expect(page.locator(".am-file")).to_have_count(2, timeout=PATIENCE_MS)
    sync_api.expect(page.locator(".am-file .am-fine")).to_contain_text(words.ACCEPTED.rstrip("."))
    sync_api.expect(page.locator(".am-file .am-problem")).to_contain_text(words.REFUSED)
    sync_api.expect(page.locator(".am-file").first).to_contain_text("Nearest training image")
    details = page.locator(".am-file details").first
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    sync_api.expect(details).to_contain_text("Patient's Name")
    colours = [
        page.locator(f".am-file .{name}").first.evaluate("node => getComputedStyle(node).backgroundColor")
        for name in ("am-fine", "am-problem", "am-notices")
    ]
    assert len(set(colours)) == 3
    content = page.content()
    assert not [trace for trace in traces if trace in content]
    context.close()
    assert not [text for text in watched.complaints if text != GRADIOS_OWN]
    assert not [path for path in url[1].rglob("*") if path.is_file() and path.stat().st_size]  # Gradio's names, empty
