import dataclasses
from pathlib import Path

import pytest
from arra_med_apps.about_tab import tab
from arra_med_apps.choices import ModelChoice, found_choices

from arra_med.config import intended_use
from arra_med.errors import BundleError


def test_a_card_is_shown_as_text_and_a_credentialed_model_says_what_it_asks_for(choices: list[ModelChoice]):
    folder = choices[0].folder
    assert folder is not None
    card = folder / "MODEL_CARD.md"
    before = card.read_text()
    try:
        card.write_text("![x](http://evil.example/x.png) <script>alert(1)</script>")
        shown = tab._model(dataclasses.replace(choices[0], licence_class="credentialed"))
    finally:
        card.write_text(before)
    assert "<script>" not in shown
    assert "<img" not in shown
    assert "data use agreement" in shown
    assert tab.own_words.NO_CARD in tab._model(dataclasses.replace(choices[0], folder=folder / "nothing"))


def test_it_says_which_pictures_carry_marks_and_which_do_not():
    shown = tab._marks()
    assert "the buttons of this page download or send" in shown
    assert "copied from the screen carries none of this" in shown


def test_the_intended_use_has_no_links_and_names_what_it_is_not_for():
    text = intended_use()
    assert "](" not in text
    assert "not a medical device" in text.lower()


def test_bundles_of_a_folder_are_offered_and_damaged_ones_named(choices: list[ModelChoice], tmp_path: Path):
    folder = choices[0].folder
    assert folder is not None
    (tmp_path / "good").symlink_to(folder)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "bundle.json").write_text("{")
    offered, damaged = found_choices(tmp_path)
    assert [choice.label for choice in offered] == ["tiny-cxr"]
    assert len(damaged) == 1
    assert "damaged" in damaged[0]
    with pytest.raises(BundleError, match="holds no bundle that can be read"):
        found_choices(tmp_path / "damaged")
    with pytest.raises(BundleError, match="is no folder"):
        found_choices(tmp_path / "nothing")
