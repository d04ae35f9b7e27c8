"""A reader study in a real browser: set up, read, close the browser, go on, finish, results."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arra_med_apps.reader_tab import words
from arra_med_apps.words import GENERATE_TAB
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_READER_STUDIES", str(folder))
        yield folder


@pytest.fixture
def browser(browser_path: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser_path, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


def opened(browser: Any, url: str, **settings: Any) -> Any:
    page = browser.new_context(accept_downloads=True, **settings).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.wait_for_selector("#am-tabs")
    tab = page.get_by_role("tab", name=words.TAB, exact=True)
    if not tab.is_visible():  # on a phone it stands in the menu of those that do not fit
        page.locator("#am-tabs .overflow-menu > button").first.click()
        tab = page.locator("#am-tabs .overflow-dropdown button", has_text=words.TAB)
    tab.click()
    return page


def write(folder: Path, seed: int) -> list[str]:
    folder.mkdir()
    files = [folder / f"Zzyzx{number}.png" for number in range(3)]
    rng = np.random.default_rng(seed)
    for file in files:
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
    return list(map(str, files))


def make_study(page: Any, files: dict[str, list[str]]) -> list[str]:
    page.get_by_role("tab", name=words.SET_UP, exact=True).click()
    for arm, its in files.items():
        page.locator(f"#am-files-{arm} input[type=file]").set_input_files(its)
        sync_api.expect(page.locator(f"#am-files-{arm}")).to_contain_text("Zzyzx2", timeout=PATIENCE_MS)
    page.click("#am-make")
    codes = page.locator(".am-made code")
    sync_api.expect(codes).to_have_count(3, timeout=PATIENCE_MS)
    return codes.all_inner_texts()


def wait_for_image(page: Any, place: int) -> None:
    page.wait_for_selector(f'#am-read[data-place="{place}"]')
    sync_api.expect(page.locator("#am-read-progress")).to_contain_text(f"{place + 1} of 6")


def enter(page: Any, code: str) -> None:
    page.locator("#am-code").locator("input, textarea").first.fill(code)
    page.click("#am-code-go")


def read_a_new_study(page: Any, folder: Path) -> None:
    codes = make_study(page, {"real": write(folder / "real", 3), "arra": write(folder / "arra", 4)})
    page.get_by_role("tab", name=words.READ, exact=True).click()
    enter(page, codes[0])
    page.locator("#am-agree input").check()
    page.click("#am-begin")
    wait_for_image(page, 0)


def window_of(page: Any) -> tuple[float, float]:
    part = page.locator("#am-read-window-filter feFuncR")
    return float(part.get_attribute("slope")), float(part.get_attribute("intercept"))


def test_a_study_from_its_making_over_a_closed_browser_to_its_results(
    browser: Any, kept: Path, page_url: str, tmp_path: Path
) -> None:
    owner = opened(browser, page_url)
    files = {"real": write(tmp_path / "real", 1), "arra": write(tmp_path / "arra", 2)}
    study_code, owner_code, link = make_study(owner, files)
    owner.context.close()

    reader = browser.new_page()
    reader.set_default_timeout(PATIENCE_MS)
    seen: list[str] = []
    reader.on("response", lambda response: seen.append(response.url))
    reader.goto(page_url + link)
    sync_api.expect(reader.locator("#am-code").locator("input, textarea").first).to_have_value(
        study_code, timeout=PATIENCE_MS
    )
    reader.click("#am-code-go")
    reader.locator("#am-agree input").check()
    reader.click("#am-begin")
    wait_for_image(reader, 0)
    reader_code = reader.locator("#am-read-progress code").inner_text()
    reader.keyboard.press("1")
    wait_for_image(reader, 1)
    reader.click("#am-choice-1")
    wait_for_image(reader, 2)
    reader.keyboard.press("u")
    wait_for_image(reader, 1)
    reader.keyboard.press("2")
    wait_for_image(reader, 2)
    assert "Zzyzx" not in reader.content()
    assert not [url for url in seen if ".png" in url]
    reader.context.close()

    reader = opened(browser, page_url)
    enter(reader, reader_code)
    wait_for_image(reader, 2)
    for place in range(2, 6):
        wait_for_image(reader, place)
        reader.keyboard.press("1")
    sync_api.expect(reader.locator("#am-thanks")).to_contain_text(words.THANKS, timeout=PATIENCE_MS)

    reader.get_by_role("tab", name=words.RESULTS, exact=True).click()
    reader.locator("#am-results-code").locator("input, textarea").first.fill(study_code)
    reader.locator("#am-owner-code input").fill(reader_code)
    reader.click("#am-results-go")
    sync_api.expect(reader.locator("#am-results-problem")).to_contain_text(words.WRONG_OWNER, timeout=PATIENCE_MS)
    assert reader.locator(".am-results").count() == 0
    reader.locator("#am-owner-code input").fill(owner_code)
    reader.click("#am-results-go")
    sync_api.expect(reader.locator(".am-results").first).to_contain_text("6 of 6", timeout=PATIENCE_MS)
    with reader.expect_download() as download:
        reader.get_by_text("Answers (CSV)").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [row["choice"] for row in rows] == ["real", "synthetic", "real", "real", "real", "real"]
    assert sum(row["arm"] == "arra" for row in rows) == 3


def test_the_window_is_a_real_one_and_keys_wait_for_the_next_image(
    browser: Any, kept: Path, page_url: str, tmp_path: Path
) -> None:
    page = opened(browser, page_url)
    read_a_new_study(page, tmp_path)

    page.evaluate("[['am-read-window', 100], ['am-read-level', 80]].forEach(([id, value]) => {"
                  "const s = document.getElementById(id); s.value = value;"
                  "s.dispatchEvent(new Event('input', {bubbles: true})); })")  # fmt: skip
    slope, intercept = window_of(page)
    for level, expected in ((30, 0.0), (80, 0.5), (130, 1.0)):  # level - window / 2, level, level + window / 2
        assert slope * level / 255 + intercept == pytest.approx(expected, abs=1e-6)
    page.keyboard.press("0")
    assert window_of(page) == (1, 0)

    five = "for (let i = 0; i < 5; i++) document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true}))"
    page.evaluate(five)
    wait_for_image(page, 1)
    page.wait_for_timeout(500)
    wait_for_image(page, 1)  # five hits answered one image
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("generated", [True, False])
def test_the_window_of_a_reader_is_not_that_of_the_generate_tab(
    browser: Any, kept: Path, page_url: str, tmp_path: Path, generated: bool
) -> None:
    page = opened(browser, page_url)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    if generated:
        page.get_by_role("tab", name=GENERATE_TAB, exact=True).click()
        page.fill("#am-report textarea", "PA view. effusion.")
        page.click("#am-generate")
        page.wait_for_selector("#am-gallery .gallery-item img")
        page.get_by_role("tab", name=words.TAB, exact=True).click()
    read_a_new_study(page, tmp_path)

    page.click("#am-read-window-reset")
    assert window_of(page) == (1, 0)
    page.locator("#am-read-window").fill("100")
    assert window_of(page) == pytest.approx((255 / 100, 0.5 - 128 / 100))
    assert page.evaluate("document.documentElement.dataset.amWindow || ''") == ""  # the gallery keeps its own
    page.click("#am-read-window-reset")
    assert window_of(page) == (1, 0)
    assert not broken


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_fits_a_phone(browser: Any, kept: Path, page_url: str, scheme: str) -> None:
    page = opened(browser, page_url, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    for part in (words.SET_UP, words.RESULTS, words.READ):
        page.get_by_role("tab", name=part, exact=True).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    enter(page, "<script>alert(1)</script>")
    sync_api.expect(page.locator("#am-read-problem [role=alert]")).to_contain_text("no code of a reader study")
