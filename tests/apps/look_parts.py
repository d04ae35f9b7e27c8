"""The parts within tabs, each as it stands after a person has used it."""

import io
from typing import Any

import numpy as np
from arra_med_apps.explore_tab import words as explore_words
from arra_med_apps.reader_tab import words as reader_words
from PIL import Image

from arra_med.evaluate.reader_arms import PreparedArm
from arra_med.evaluate.reader_making import StudyPlan, make_study
from arra_med.evaluate.reading_set import ReadingArm

PARTS = (
    (explore_words.TAB, explore_words.EDIT_TAB),
    (explore_words.TAB, explore_words.EXPLAIN_TAB),
    (reader_words.TAB, reader_words.SET_UP),
    (reader_words.TAB, reader_words.RESULTS),
)
"""Tab and part; the first part of a tab is what the tab itself shows."""

REPORT = "PA view. normal effusion."
_SIDE_PX, _CASES = 32, 4


def png(picture: np.ndarray) -> bytes:
    """Returns a picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def read_study() -> tuple[str, str]:
    """Makes a study and reads it.

    Returns:
        The study's code and its owner's.
    """
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, _CASES, 1, _SIDE_PX, _SIDE_PX), dtype=np.uint8)
    names = [f"case {number}" for number in range(_CASES)]
    arms = [
        PreparedArm(ReadingArm(arm, list(its), [""] * _CASES, names), 0)
        for arm, its in zip(reader_words.DRAWN_ARMS, views, strict=True)
    ]
    study, owner_code = make_study(StudyPlan(design="preference", consent=""), arms)
    reader = study.join(consented=False)
    for place in range(_CASES):
        study.answer(reader, place, {study.settings.questions[0].name: "left"}, 1.0)
    return study.code, owner_code


def use_part(page: Any, name: str) -> None:
    """Opens a part of the open tab and does what a person would do in it."""
    page.get_by_role("tab", name=name, exact=True).click()
    if name == explore_words.EDIT_TAB:
        page.fill("#am-explore-report textarea", REPORT)
        page.click("#am-explore-draw")
        page.wait_for_selector("#am-explore-picture img")
        page.click("#am-explore-edit")
        page.wait_for_selector("#am-explore-edit-shown figure")
        page.wait_for_selector("#am-explore-edit:enabled")
    elif name == explore_words.EXPLAIN_TAB:
        page.fill("#am-explore-report textarea", REPORT)
        page.click("#am-explore-explain")
        page.wait_for_selector("#am-explore-explain-shown .am-phrases")
        page.wait_for_selector("#am-explore-explain:enabled")
    elif name == reader_words.SET_UP:
        picture = {"name": "case0.png", "mimeType": "image/png", "buffer": png(np.asarray(Image.linear_gradient("L")))}
        page.set_input_files("#am-files-real input[type=file]", picture)
        page.wait_for_selector("#am-files-real .file-preview")
        page.click("#am-make")
        page.wait_for_selector("#am-make-problem [role=alert]")
        page.wait_for_selector("#am-make:enabled")
    else:
        study_code, owner_code = read_study()
        page.locator("#am-results-code").locator("input, textarea").first.fill(study_code)
        page.locator("#am-owner-code input").fill(owner_code)
        page.click("#am-results-go")
        page.wait_for_selector(".am-results table")
