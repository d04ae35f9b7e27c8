"""The tab Compare in a real browser: a grid forms, enlarges, is looked up, and the study runs no script."""

import dataclasses
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps import words as shared
from arra_med_apps.choices import ModelChoice
from arra_med_apps.compare_tab import words
from arra_med_apps.settings import AppSettings

from tests.apps.compare_tab.test_handlers import studies
from tests.apps.test_page import PATIENCE_MS, Watched, browser
from tests.evaluate.test_finished_study import PAGE, write_study
from tests.evaluate.tiny_classifier import write_classifier

__all__ = ["browser", "studies"]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
pytestmark = pytest.mark.browser


class Spy(ThreadingHTTPServer):
    """A web server that the study's page of these tests tries to reach."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def hostile(self, page: str) -> str:
        """A study's page that runs a script and loads an image, also before its own head."""
        image = f"<img src='{self.url}{{}}.png' onerror='parent.hacked = 1'>"
        script = "<script>top.hacked = 1</script>"
        return f"<!-- <head> -->{image.format('first')}" + page.replace(
            "<body>", f"<body>{script}{image.format('body')}"
        )


@pytest.fixture(scope="module")
def spy() -> Iterator[Spy]:
    server = Spy()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def url(
    choices: list[ModelChoice], studies: Path, spy: Spy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    from arra_med_apps.app import serve

    folder = tmp_path_factory.mktemp("extras")
    chest, slow, fundus = choices
    offered = [
        dataclasses.replace(chest, label="ARRA"),
        dataclasses.replace(chest, name="twin", label="Fine-tuned"),
        slow,
        fundus,
    ]
    study = write_study(folder / "study", page=spy.hostile(PAGE))
    settings = AppSettings(studies, write_classifier(folder / "judge"), study)
    before = os.environ.get("GRADIO_TEMP_DIR")
    served = serve(offered, "127.0.0.1", 0, False, settings)
    yield served.page.local_url, served.folder
    served.close()
    os.environ.pop("GRADIO_TEMP_DIR", None) if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


@pytest.fixture
def page(browser: Any, url: tuple[str, Path], spy: Spy) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    watched = Watched(context.new_page(), url[0])
    watched.page.get_by_role("tab", name=words.TAB).click()
    watched.page.wait_for_selector("#am-cmp-go")
    yield watched.page
    known = (
        url[0],
        spy.url,
        "data:",
        "blob:",
        "about:",
    )  # Chromium may name a request that the page's policy then blocks
    outside = [seen for seen in watched.requests if not seen.startswith(known)]
    context.close()
    assert not outside
    assert not spy.asked
    blocked = ("Content Security Policy", "sandbox")  # the study's page of this test tries to break out
    assert not [text for text in watched.complaints if not any(word in text for word in blocked)]


def untick(page: Any, *labels: str) -> None:
    for label in labels:
        page.locator("#am-cmp-models label", has_text=label).click()


def test_a_grid_forms_enlarges_and_is_looked_up_and_scored(page: Any, url: tuple[str, Path]) -> None:
    page.get_by_role("button", name="Pleural effusion").last.click()
    untick(page, "Slow")
    page.click("#am-cmp-go")
    pictures = page.locator(".am-cmp-grid .am-zoomable")
    sync_api.expect(pictures).to_have_count(8, timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-cmp-scores")).to_contain_text("AUROC 0.77", timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-cmp-scores")).to_contain_text(words.FEW_PICTURES)

    pictures.first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#am-zoom")
    sync_api.expect(dialog).to_be_visible()
    sync_api.expect(dialog).to_contain_text("Synthetic, Fine-tuned, seed 0")
    page.keyboard.press("ArrowRight")
    sync_api.expect(dialog).to_contain_text("Synthetic, Fine-tuned, seed 1")
    page.keyboard.press("Escape")
    sync_api.expect(dialog).to_be_hidden()
    sync_api.expect(pictures.first).to_be_focused()

    page.click("#am-cmp-find")
    sync_api.expect(page.locator(".am-cmp-near")).to_have_count(8, timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-cmp-nearest")).to_contain_text(shared.PATIENTS_NOTICE)
    assert not [path for path in url[1].rglob("*") if path.suffix in (".png", ".webp", ".jpg")]


def test_stop_keeps_the_half_made_grid(page: Any) -> None:
    page.fill("#am-cmp-report textarea", "PA view. Pleural effusion.")
    untick(page, "ARRA", "Fine-tuned")
    page.click("#am-cmp-go")
    sync_api.expect(page.locator(".am-cmp-grid figure img").first).to_be_visible(timeout=PATIENCE_MS)
    page.click("#am-cmp-stop")
    sync_api.expect(page.locator("#am-cmp-notice")).to_have_text(words.STOPPED, timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-cmp-go")).to_be_enabled()
    sync_api.expect(page.locator("#am-cmp-find")).to_be_disabled()
    assert page.locator(".am-cmp-grid figure img").count() >= 1


def test_the_study_is_shown_and_cannot_run_or_load_anything(page: Any) -> None:
    sync_api.expect(page.locator("#am-cmp-study")).to_contain_text("arra helped", timeout=PATIENCE_MS)
    frame = page.frame_locator("iframe.am-cmp-report")
    page.locator(".am-cmp-report").scroll_into_view_if_needed()
    sync_api.expect(frame.locator("body")).to_contain_text("Answer", timeout=PATIENCE_MS)
    with page.context.expect_page() as opened:
        page.click(".am-cmp-open")
    inner = opened.value.frame_locator("iframe")
    sync_api.expect(inner.locator("body")).to_contain_text("Answer", timeout=PATIENCE_MS)
    assert page.evaluate("window.hacked") is None
    assert opened.value.evaluate("window.hacked") is None


def test_an_empty_report_gets_one_sentence(page: Any) -> None:
    page.click("#am-cmp-go")
    alert = page.locator("#am-cmp-notice [role=alert]")
    sync_api.expect(alert).to_contain_text("The report box is empty", timeout=PATIENCE_MS)
