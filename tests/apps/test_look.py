"""Every tab, light, dark and on a phone: nothing cut off, nothing that axe-core calls serious in what is ours; screenshots.

ARRA_MED_SCREENSHOTS=docs/app python -m pytest tests/apps/test_look.py      writes the pictures of docs/app.md anew, with
                                                                            the bundled models
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arra_med_apps.app import serve
from arra_med_apps.choices import ModelChoice, bundled_choices
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra: test)")
pytestmark = pytest.mark.browser

TABS = ("Generate", "Explore", "Compare", "Reader study", "Data", "About")
SCREENS = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "phone": (390, 844, "light")}
REPORT = "FINDINGS: The heart is enlarged.\n\nIMPRESSION: Cardiomegaly."
PATIENCE_MS = 60_000
_SHOT_WIDTH_PX = 960
PICTURES = os.environ.get("ARRA_MED_SCREENSHOTS")

GRADIOS_OWN = (
    ("color-contrast", "max_value"),  # the ends of its sliders
    ("color-contrast", "min_value"),
    ("color-contrast", 'class="or '),  # the word between "Drop File Here" and "Click to Upload"
)
"""Rules that Gradio's own widgets break, and a word of those widgets; anything else is an error."""


@pytest.fixture(scope="module")
def url(choices: list[ModelChoice], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path_factory.mktemp("kept")))
        patch.setenv("GRADIO_TEMP_DIR", os.environ.get("GRADIO_TEMP_DIR", ""))
        served = serve(bundled_choices() if PICTURES else choices, "127.0.0.1", 0, open_browser=False)
        yield served.page.local_url
        served.close()


@pytest.fixture
def browser(browser_path: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=browser_path, headless=True, args=flags)
        yield chromium
        chromium.close()


def open_tab(page: Any, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():  # on a phone it stands in the menu of those that do not fit
        page.locator("#am-tabs .overflow-menu > button").first.click()
        tab = page.locator("#am-tabs .overflow-dropdown button", has_text=name)
    tab.first.click()
    page.wait_for_timeout(400)


def fill(page: Any, name: str) -> None:
    """What a person would do first in a tab."""
    if name == "Generate":
        page.fill("#am-report textarea", REPORT)
        page.click("#am-generate")
        page.wait_for_selector("#am-gallery .gallery-item img", timeout=PATIENCE_MS)
        page.wait_for_selector("#am-generate:enabled", timeout=PATIENCE_MS)
    elif name == "Data":
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((256, 256)).save(buffer, "PNG")
        page.set_input_files(
            "#am-drop input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        )
        sync_api.expect(page.locator("#am-drop")).to_contain_text("a.png", timeout=PATIENCE_MS)
        page.click("#am-look")
        page.wait_for_selector("#am-look:enabled", timeout=PATIENCE_MS)
        page.wait_for_selector(".am-file", timeout=PATIENCE_MS)
    elif name == "Compare" and PICTURES:
        page.fill("#am-cmp-report textarea", "PA view. Cardiomegaly.")
        page.click("#am-cmp-go")
        page.wait_for_selector("#am-cmp-grid .am-zoomable", timeout=PATIENCE_MS)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", TABS)
def test_a_tab_fits_its_screen_and_can_be_read_by_all(browser: Any, url: str, name: str, screen: str):
    width, height, scheme = SCREENS[screen]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#am-generate")
    open_tab(page, name)
    fill(page, name)
    page.wait_for_timeout(400)  # buttons that can be pressed again have their colours again
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not broken
    if PICTURES:
        shot = page.screenshot(full_page=True, animations="disabled")
        file = Path(PICTURES) / f"{name.lower().replace(' ', '_')}_{screen}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        picture.thumbnail((_SHOT_WIDTH_PX, picture.height))
        picture.save(file, quality=72, optimize=True)
    found = axe_api.Axe().run(page).response["violations"]
    ours = []
    for violation in found:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            target = " ".join(map(str, node["target"]))
            is_gradios = any(violation["id"] == rule and word in node["html"] for rule, word in GRADIOS_OWN)
            if not is_gradios:
                ours.append((violation["id"], target, node["html"][:160]))
    context.close()
    assert not ours, ours
