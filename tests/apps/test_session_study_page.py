"""A preference study from images that two models made on the same page, in a real browser."""

import dataclasses
from typing import Any

import pytest
from arra_med_apps.choices import ModelChoice, bundle_choice
from arra_med_apps.reader_tab import words

from tests.apps.conftest import write_tiny_bundle
from tests.apps.test_page import PATIENCE_MS, Watched, browser, sync_api, watched

__all__ = ["browser", "watched"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> list[ModelChoice]:
    folder = tmp_path_factory.mktemp("twins")
    twins = {"ARRA": ("arra", 0), "Fine-tuned": ("finetuned", 1)}
    return [
        dataclasses.replace(bundle_choice(write_tiny_bundle(folder / variant, "cxr", variant, seed)), label=label)
        for label, (variant, seed) in twins.items()
    ]


@pytest.fixture(scope="module", autouse=True)
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path_factory.mktemp("kept")))
        yield


def make(page: Any) -> None:
    page.get_by_role("tab", name=words.TAB, exact=True).click()
    page.get_by_role("tab", name=words.SET_UP, exact=True).click()
    page.locator("#am-design label", has_text="Baseline against ARRA").click()
    page.locator("#am-use-session input").check()
    page.click("#am-make")


def test_a_preference_study_of_the_sessions_images_is_made_and_read(watched: Watched):
    page = watched.page
    make(page)
    problem = page.locator("#am-make-problem [role=alert]")
    sync_api.expect(problem).to_have_text(words.SESSION_EMPTY, timeout=PATIENCE_MS)

    page.get_by_role("tab", name="Generate", exact=True).click()
    page.get_by_role("button", name="Advanced").click()
    watched.write("PA view. effusion.")
    for label in ("ARRA", "Fine-tuned"):
        page.locator("#am-model label", has_text=label).click()
        page.click("#am-generate")
        sync_api.expect(page.locator("#am-settings")).to_contain_text(f"({label})", timeout=PATIENCE_MS)
        watched.wait_for_images(2)

    make(page)
    codes = page.locator(".am-made code")
    sync_api.expect(codes).to_have_count(3, timeout=PATIENCE_MS)
    sync_api.expect(page.locator(".am-made li").first).to_have_text("2 cases of 2 arms, 32 px")
    code = codes.first.inner_text()
    page.get_by_role("tab", name=words.READ, exact=True).click()
    page.locator("#am-code").locator("input, textarea").first.fill(code)
    page.click("#am-code-go")
    page.locator("#am-agree input").check()
    page.click("#am-begin")
    sync_api.expect(page.locator("#am-read img")).to_have_count(2, timeout=PATIENCE_MS)
    page.click("#am-choice-0")
    sync_api.expect(page.locator("#am-read-progress")).to_contain_text("2 of 2", timeout=PATIENCE_MS)
