"""The whole page in a real browser: nothing leaves the computer, nothing breaks, the files are what they say."""

import json
import os
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice
from PIL import Image

from arra_med.generate.export import read_provenance

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECRET = "Zzyzx"
REPORT = f"PA view. Pleural effusion. Mr {SECRET}."
PATIENCE_MS = 30_000


class Watched:
    """A browser page that remembers every request and complaint."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#am-generate")

    def write(self, report: str) -> None:
        self.page.fill("#am-report textarea", report)

    def prompt(self, text: str) -> None:
        sync_api.expect(self.page.locator("#am-prompt")).to_contain_text(text, timeout=PATIENCE_MS)

    def wait_for_images(self, count: int) -> None:
        thumbnails = self.page.locator("#am-gallery .gallery-item img")
        sync_api.expect(thumbnails).to_have_count(count, timeout=PATIENCE_MS)
        self.page.wait_for_selector("#am-generate:enabled")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    import shutil

    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("ARRA_MED_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium: set ARRA_MED_CHROMIUM to one")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def watched(browser: Any, page_url: str) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    watched = Watched(context.new_page(), page_url)
    yield watched
    outside = [url for url in watched.requests if not url.startswith((page_url, "data:", "blob:"))]
    context.close()
    assert not outside
    assert not watched.complaints


def test_a_report_becomes_images_that_can_be_downloaded(watched: Watched, tmp_path: Path, caplog: Any, capfd: Any):
    page = watched.page
    sync_api.expect(page.locator(".am-banner")).to_have_text(words.BANNER)
    watched.write(REPORT)
    watched.prompt("PA view chest X-ray image, Pleural effusion.")
    page.click("#am-generate")
    watched.wait_for_images(2)
    for image in page.locator("#am-gallery .gallery-item img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth") == 32
    sync_api.expect(page.locator("#am-settings")).to_contain_text("0 to 1")

    with page.expect_download() as download:
        page.click("#am-zip")
    with zipfile.ZipFile(download.value.path()) as pack:
        names = sorted(pack.namelist())
        assert len(names) == 5  # two PNG, two JSON, one note
        for name in names:
            assert SECRET.encode() not in pack.read(name)
        png = next(name for name in names if name.endswith(".png"))
        assert Image.open(BytesIO(pack.read(png))).size == (32, 32)
        pack.extract(png, tmp_path)
    provenance = read_provenance(tmp_path / png)
    assert provenance is not None
    assert provenance["seed"] == 0
    assert provenance["synthetic"]

    kept = page.evaluate("async () => JSON.stringify([{...localStorage}, await indexedDB.databases()])")
    assert SECRET not in kept
    printed = capfd.readouterr()
    assert SECRET not in caplog.text + printed.out + printed.err


def test_the_single_file_served_to_the_browser_is_the_file_with_provenance(watched: Watched, tmp_path: Path):
    page = watched.page
    page.get_by_role("button", name="Pleural effusion").click()
    watched.prompt("Pleural effusion")
    page.click("#am-generate")
    watched.wait_for_images(2)
    address = page.locator("#am-gallery .gallery-item img").nth(1).get_attribute("src")
    copy = tmp_path / "copy.png"
    copy.write_bytes(page.request.get(address).body())
    provenance = read_provenance(copy)
    assert provenance is not None
    assert provenance["seed"] == 1


def test_an_empty_report_gets_one_sentence(watched: Watched):
    watched.page.click("#am-generate")
    alert = watched.page.locator("#am-notice [role=alert]")
    sync_api.expect(alert).to_have_text(words.EMPTY_REPORT, timeout=PATIENCE_MS)
    assert "Traceback" not in watched.page.content()
    watched.page.wait_for_selector("#am-generate:enabled")


def test_the_keyboard_alone_suffices(watched: Watched):
    watched.write(REPORT)
    watched.page.focus("#am-report textarea")
    watched.page.keyboard.press("Control+Enter")
    watched.wait_for_images(2)


def test_next_seeds_go_on_where_the_last_images_ended(watched: Watched):
    watched.write(REPORT)
    watched.page.click("#am-generate")
    watched.wait_for_images(2)
    watched.page.click("#am-more")
    sync_api.expect(watched.page.locator("#am-settings")).to_contain_text("2 to 3", timeout=PATIENCE_MS)


def test_a_fundus_photograph_has_its_own_controls_and_examples(watched: Watched):
    page = watched.page
    page.get_by_role("button", name="Pneumothorax").click()
    watched.prompt("Pneumothorax")
    page.locator("#am-modality label", has_text="Fundus").click()
    sync_api.expect(page.locator("#am-eye")).to_be_visible()
    sync_api.expect(page.locator("#am-view")).to_be_hidden()
    sync_api.expect(page.locator("#am-report textarea")).to_have_value("")
    page.get_by_role("button", name="Glaucoma").click()
    page.locator("#am-eye label", has_text="Right").click()
    watched.prompt("right eye fundus photograph, Glaucoma.")
    watched.prompt("right was asked for")
    page.click("#am-generate")
    watched.wait_for_images(2)


def test_an_event_that_names_the_old_model_may_arrive_after_the_kind_of_image_was_switched(
    watched: Watched, choices: list[ModelChoice]
):
    page, late = watched.page, []
    name = json.dumps(choices[0].name)

    def hold(route: Any) -> None:
        sent = route.request.post_data or ""
        if name in sent and '"fundus"' in sent:
            late.append(route)
        else:
            route.continue_()

    page.route("**/gradio_api/**", hold)
    watched.write(REPORT)
    watched.prompt("PA view chest X-ray image, Pleural effusion.")
    page.locator("#am-modality label", has_text="Fundus").click()
    sync_api.expect(page.locator("#am-eye")).to_be_visible()
    assert late
    for route in late:
        with page.expect_response(route.request.url) as answer:
            route.continue_()
        assert answer.value.ok


def test_stop_ends_the_work_keeps_the_half_made_picture_and_frees_the_model_for_the_one_who_waits(
    watched: Watched, browser: Any, page_url: str
):
    page = watched.page
    page.get_by_role("button", name="Advanced").click()
    page.locator("#am-model label", has_text="Slow").click()
    watched.write(REPORT)
    page.click("#am-generate")
    sync_api.expect(page.locator(".am-status").first).to_contain_text("Making 2 images", timeout=PATIENCE_MS)

    other = Watched(browser.new_page(), page_url)
    other.write(REPORT)
    other.page.click("#am-generate")
    sync_api.expect(other.page.locator("#am-live")).to_contain_text(words.WAITING, timeout=PATIENCE_MS)

    page.click("#am-stop")
    sync_api.expect(page.locator("#am-notice")).to_have_text(words.STOPPED, timeout=PATIENCE_MS)
    sync_api.expect(page.locator("#am-live figure img")).to_have_count(2)
    sync_api.expect(page.locator("#am-generate")).to_be_enabled()
    other.wait_for_images(2)
    assert not page.locator("#am-gallery").is_visible()
    other.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_nothing_is_cut_off_and_text_stands_out(browser: Any, page_url: str, scheme: str, width: int):
    context = browser.new_context(viewport={"width": width, "height": 768}, color_scheme=scheme)
    page = Watched(context.new_page(), page_url).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sync_api.expect(page.locator("footer")).to_be_hidden()
    for selector in (".am-banner", ".am-header h1", "#am-generate", "#am-age label.selected span"):
        assert contrast(page, selector) >= 4.5, selector
    context.close()


def contrast(page: Any, selector: str) -> float:
    """Contrast of a text with what is behind it (WCAG 2.2, relative luminance)."""
    colours = page.locator(selector).first.evaluate(
        """element => {
            const opaque = colour => colour && !/, 0\\)$/.test(colour) && colour !== 'transparent';
            let behind = element;
            while (behind && !opaque(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(behind || document.body).backgroundColor];
        }"""
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
