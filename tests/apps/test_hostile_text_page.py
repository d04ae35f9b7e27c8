"""Hostile text in the boxes and files that another text goes before: a region's report, a reader study, a table's cells."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arra_med_apps.reader_tab import words as reader_words
from PIL import Image

from tests.apps.test_bad_input_page import TEXTS, assert_is_text, page, press, served
from tests.apps.test_look import open_tab
from tests.apps.test_page import REPORT, browser

__all__ = ["browser", "page", "served"]

pytestmark = pytest.mark.browser

MARKUP = TEXTS["markup"]


@pytest.mark.parametrize("text", TEXTS)
def test_in_the_report_of_a_region(page: Any, text: str):
    open_tab(page, "Explore")
    page.fill("#am-explore-report textarea", REPORT)
    page.get_by_role("tab", name="Redraw", exact=True).click()
    page.click("#am-explore-draw")
    page.wait_for_selector("#am-explore-picture img")
    page.fill("#am-explore-new textarea", TEXTS[text])
    press(page, "#am-explore-edit", "#am-explore-edit-shown")
    assert_is_text(page)


def write_pictures(folder: Path, seed: int) -> list[str]:
    folder.mkdir()
    files = [folder / f"{number}.png" for number in range(3)]
    noise = np.random.default_rng(seed)
    for file in files:
        Image.fromarray(noise.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
    return [str(file) for file in files]


@pytest.mark.parametrize(
    ("text", "design"), [*((text, "Ratings") for text in TEXTS), ("markup", "Baseline against ARRA")]
)
def test_in_every_box_of_a_reader_study(
    page: Any, text: str, design: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path / "studies"))
    open_tab(page, reader_words.TAB)
    page.get_by_role("tab", name=reader_words.SET_UP, exact=True).click()
    page.locator("#am-design label", has_text=design).click()
    own = "#am-study-items" if design == "Ratings" else "#am-study-question"
    typed = {
        own: f"{TEXTS[text]}: {TEXTS[text]}",
        **dict.fromkeys(("#am-study-title", "#am-consent-text", "#am-ethics"), TEXTS[text]),
    }
    for box, value in typed.items():
        page.locator(box).locator("input, textarea").first.fill(value)
    for seed, arm in enumerate(("real" if design == "Ratings" else "baseline", "arra")):
        page.locator(f"#am-files-{arm} input[type=file]").set_input_files(write_pictures(tmp_path / arm, seed))
        page.wait_for_selector(f"#am-files-{arm} a[href*='2.png']")  # a link stands there once it is uploaded
    press(page, "#am-make", "#am-make-problem, #am-made")
    codes = page.locator(".am-made code").all_inner_texts()
    if codes:
        page.get_by_role("tab", name=reader_words.READ, exact=True).click()
        page.locator("#am-code").locator("input, textarea").first.fill(codes[0])
        page.click("#am-code-go")
        page.locator("#am-agree input").check()
        assert_is_text(page)
        page.click("#am-begin")
        page.wait_for_selector("#am-read")
        page.get_by_role("tab", name=reader_words.RESULTS, exact=True).click()
        page.locator("#am-owner-code input").fill(codes[1])
        page.click("#am-results-go")
        page.wait_for_selector(".am-results")
    assert_is_text(page)
    assert codes or design == "Ratings"  # whose lines have rules of their own


@pytest.mark.parametrize(
    "column", ["report", "id", "modality", "view", "age_group", "laterality", "seed", "num_images", MARKUP]
)
def test_in_the_cells_of_a_table(page: Any, column: str, tmp_path: Path):
    rows = [{"report": "PA view. effusion.", column: f"{row}. {MARKUP}"} for row in range(2)]
    load(page, tmp_path / "reports.csv", rows)
    page.wait_for_selector("#am-table-told .am-help, #am-table-told [role=alert]")
    assert_is_text(page)
    if page.locator("#am-table-draw").is_enabled():
        press(page, "#am-table-draw", "#am-notice, #am-gallery")
    else:
        said = page.locator("#am-table-told [role=alert]").inner_text()
        assert said.endswith(".")
        assert len(said) < 600
    assert_is_text(page)


def load(page: Any, path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with page.expect_file_chooser() as chooser:
        page.click("#am-upload")
    chooser.value.set_files(path)
