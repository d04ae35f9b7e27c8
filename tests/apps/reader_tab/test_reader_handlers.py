"""The tab without a browser: what readers are sent tells no arm, owners alone see results, mistakes are sentences."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import numpy as np
import pytest
from arra_med_apps.choices import Shelf
from arra_med_apps.reader_tab import presenting, words
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.owning import Owning
from arra_med_apps.reader_tab.reading import At, Reading
from arra_med_apps.reader_tab.tab import _is_local
from PIL import Image

from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import study_path

SECRET = "Zzyzx"


@pytest.fixture
def page(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Layout]:
    monkeypatch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path / "kept"))
    with gr.Blocks():
        yield Layout(shelf)


def images(folder: Path, seed: int, num: int = 4, side: int = 32) -> list[str]:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    files = [folder / f"Zzyzx{number}.png" for number in range(num)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(file)
    return list(map(str, files))


def values(**changes: Any) -> dict[str, Any]:
    arms = {f"{kind}_{arm}": None for arm, _ in words.ARMS for kind in ("files", "folder")}
    filled = {
        "design": "real_or_synthetic", "modality": "cxr", "title": "Study", "question": "", "items": words.DEFAULT_ITEMS,
        "prompts": None, "use_session": False, "size_px": 0, "per_arm": 0, "repeats": 0, "seed": None,
        "with_reports": False, "consent": "Agree <b>?", "ethics": "EC <i>", "model_baseline": "", "model_arra": "",
    }  # fmt: skip
    return {**filled, **arms, **changes}


def made(page: Layout, shelf: Shelf, history: Any = (), local: bool = True, **changes: Any) -> tuple[str, list[str]]:
    """What the page tells at the end: the problem, and the codes."""
    seen: dict[Any, Any] = {}
    for update in Owning(page, shelf).make(history, local=local, **values(**changes)):
        seen |= update
    problem = re.sub("<.*?>", "", seen[page.make_notice])
    assert seen[page.make].interactive
    return problem, re.findall(r"<code>(.*?)</code>", seen[page.made])


@pytest.fixture
def study(page: Layout, shelf: Shelf, tmp_path: Path) -> list[str]:
    files = {"files_real": images(tmp_path / "real", 1), "files_arra": images(tmp_path / "arra", 2)}
    problem, codes = made(page, shelf, **files)
    assert problem == ""
    assert not any(Path(file).exists() for its in files.values() for file in its)  # an upload is not kept
    return codes


def test_a_reader_reads_pauses_goes_on_and_finishes(page: Layout, study: list[str]) -> None:
    reading = Reading(page)
    updates = reading.enter(study[0].lower())
    assert "Agree &lt;b&gt;?" in updates[page.consent_text]
    assert "EC &lt;i&gt;" in updates[page.consent_text]
    refused = reading.begin(updates[page.state], False)
    assert "tick the box first" in refused[page.notice]
    updates = reading.begin(updates[page.state], True)
    code = updates[page.state].code
    assert code in updates[page.notice]
    for place in range(8):
        assert f"{place + 1} of 8" in updates[page.progress]
        state = updates[page.state]
        if place == 3:
            gone = reading.leave()
            assert gone[page.state] is None
            assert gone[page.image] == ""
            state = reading.enter(code)[page.state]
            assert state.place == 3
        updates = reading.choose(state, place % 2)
    assert words.THANKS in updates[page.thanks]
    assert words.THANKS in reading.enter(code)[page.thanks]
    (reader,) = ReaderStudy(study_path(study[0])).readers()
    assert [screen.choices["real_or_synthetic"] for screen in reader.screens] == ["real", "synthetic"] * 4


def test_nothing_that_a_reader_is_sent_tells_the_arm(page: Layout, study: list[str]) -> None:
    reading = Reading(page)
    updates = reading.begin(reading.enter(study[0])[page.state], True)
    kept = ReaderStudy(study_path(study[0]))
    texts = []
    for place in range(8):
        sent = " ".join(str(value) for key, value in updates.items() if isinstance(value, str))
        (source,) = re.findall(r'src="(.*?)"', sent)
        assert source.startswith("data:image/png;base64,")  # no address, no name
        text = sent.replace(source, "").replace(f"{place + 1} of 8", "N of 8").replace(f'data-place="{place}"', "")
        texts.append(re.sub(r'width:\d+%|valuenow="\d+"', "", text))
        assert not re.search(r"\breal\.|arra|file \d|Zzyzx|origin|sha256|\.png", text)
        arm = kept.cases[kept._order(1)[place].case][0].arm
        assert arm not in re.sub(
            r"real_or_synthetic|[Rr]eal, or synthetic|synthetic and real|<kbd>1</kbd> real", "", text
        )
        updates = reading.choose(updates[page.state], 0)
    assert len(set(texts[1:])) == 1  # the pages of all arms are the same but for the pixels


def test_a_second_click_and_taking_back(page: Layout, study: list[str]) -> None:
    reading = Reading(page)
    first = reading.begin(reading.enter(study[0])[page.state], True)
    assert words.NOTHING_TO_UNDO in reading.undo(first[page.state])[page.notice]
    second = reading.choose(first[page.state], 0)
    again = reading.choose(first[page.state], 1)
    assert words.ALREADY in again[page.notice]
    assert again[page.state].place == 1
    back = reading.undo(second[page.state])
    assert words.UNDONE in back[page.notice]
    assert back[page.state].place == 0
    assert back[page.image] == first[page.image]


def test_ratings_need_every_line(page: Layout, shelf: Shelf, tmp_path: Path) -> None:
    _, codes = made(page, shelf, design="likert", files_arra=images(tmp_path / "a", 1), consent="")
    reading = Reading(page)
    updates = reading.begin(reading.enter(codes[0])[page.state], False)
    assert words.ANSWER_ALL in reading.save(updates[page.state], "3", None)[page.notice]
    assert reading.save(updates[page.state], "3", "5", None)[page.state].place == 1
    (reader,) = ReaderStudy(study_path(codes[0])).readers()
    assert reader.screens[0].choices == {"realism": "3", "quality": "5"}


@pytest.mark.parametrize("text", ["", "<script>alert(1)</script>", "' OR 1=1 --", "../../etc/passwd", "x" * 10**6])
def test_what_is_no_code_is_one_sentence_and_is_not_shown_again(page: Layout, text: str) -> None:
    for updates in (Reading(page).enter(text), Owning(page, None).results(text, text)):  # type: ignore[arg-type]
        (notice,) = updates.values()
        assert "no code of a reader study" in notice
        assert "<script" not in notice


def test_an_unknown_study_a_vanished_one_and_no_study_are_sentences(page: Layout, study: list[str]) -> None:
    reading = Reading(page)
    assert "is not there; ask whoever runs it" in reading.enter("K7QF2M9A")[page.notice]
    assert "knows no reader with this code" in reading.enter(f"{study[0]}-AAAA-AAAA-AAAA")[page.notice]
    assert words.NOT_OPEN.rstrip(".") in reading.choose(None, 0)[page.notice]
    state = reading.begin(reading.enter(study[0])[page.state], True)[page.state]
    study_path(study[0]).unlink()
    notice = reading.choose(state, 0)[page.notice]
    assert "is not there" in notice
    assert str(study_path(study[0]).parent) not in notice


def test_results_open_for_the_owner_alone_and_a_reader_can_be_deleted(
    page: Layout, shelf: Shelf, study: list[str]
) -> None:
    reading, owning = Reading(page), Owning(page, shelf)
    state = reading.begin(reading.enter(study[0])[page.state], True)[page.state]
    reading.choose(state, 0)
    for code, owner, sentence in (
        (study[0], "", words.WRONG_OWNER),
        (study[0], state.code, words.WRONG_OWNER),
        (state.code, study[1], words.NEEDS_STUDY_CODE),
    ):
        refused = owning.results(code, owner)
        assert sentence.rstrip(".") in refused[page.results_notice]
        assert page.results not in refused
    shown = owning.results(study[0], study[1])[page.results]
    assert "1 of 8" in shown
    assert "Answers (CSV)" in shown
    assert state.code not in shown
    assert words.WRONG_OWNER.rstrip(".") in owning.forget(study[0], "x", 1)[page.results_notice]
    deleted = owning.forget(study[0], study[1], 1)
    assert words.DELETED.rstrip(".") in deleted[page.results_notice]
    assert "0 of 0" in deleted[page.results]
    assert "has no reader 1" in owning.forget(study[0], study[1], 1)[page.results_notice]


def test_baseline_and_arra_are_drawn_from_a_table_of_reports(page: Layout, shelf: Shelf, tmp_path: Path) -> None:
    table = tmp_path / "reports.csv"
    table.write_text("report\nPA view. Effusion.\nPA view. Pneumothorax.\n")
    names = list(shelf.choices)
    settings = {"design": "preference", "prompts": str(table), "with_reports": True}
    assert made(page, shelf, **settings)[0] == words.NO_TABLE
    # both arms by one model give the same images, which readers would know again
    problem, _ = made(page, shelf, **settings, model_baseline=names[0], model_arra=names[0])
    assert "images occur more than once" in problem
    problem, codes = made(page, shelf, **{**settings, "design": "likert"}, model_arra=names[0])
    assert problem == ""
    assert len(ReaderStudy(study_path(codes[0])).cases) == 2
    assert not table.exists()
    assert not shelf.generating.locked()


def test_folders_are_for_the_computer_of_the_app_alone(page: Layout, shelf: Shelf, tmp_path: Path) -> None:
    images(tmp_path / "real", 1)
    images(tmp_path / "arra", 2)
    folders = {"folder_real": str(tmp_path / "real"), "folder_arra": str(tmp_path / "arra")}
    assert made(page, shelf, local=False, **folders)[0] == words.NOT_LOCAL
    assert made(page, shelf, local=True, **folders)[0] == ""
    assert (tmp_path / "real" / "Zzyzx0.png").exists()  # an owner's folder is not touched

    class App:
        server_name = "127.0.0.1"

    class Request:
        headers: ClassVar[dict[str, str]] = {}

    assert _is_local(App(), Request())  # type: ignore[arg-type]
    for server, headers in (
        ("0.0.0.0", {}),
        ("10.0.0.5", {}),
        (None, {}),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.5"}),
    ):
        App.server_name, Request.headers = server, headers  # type: ignore[assignment]
        assert not _is_local(App(), Request())  # type: ignore[arg-type]


def test_mistakes_in_the_form_are_sentences(page: Layout, shelf: Shelf, tmp_path: Path) -> None:
    files = {"files_arra": images(tmp_path / "a", 1)}
    for changes, sentence in (
        ({}, "no image was given"),
        (files, "needs both, and no real arm was given"),
        ({**files, "design": "likert", "items": "realism"}, words.BAD_ITEMS),
        ({**files, "design": "likert", "seed": -1}, "seed cannot be used"),
        ({**files, "design": "other"}, "this design or kind of image is not offered here"),
        ({"folder_real": "/nowhere"}, "the folder of the arm real is not there"),
        ({"files_real": [str(tmp_path / "gone.png")]}, "1 of 1 images cannot be used (1 missing)"),
    ):
        problem, codes = made(page, shelf, **changes)  # type: ignore[arg-type]
        assert sentence.lower() in problem.lower()
        assert codes == []


def test_an_unexpected_error_is_a_sentence_and_its_text_is_not_logged(
    page: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("arra_med_apps.reader_tab.reading.ReaderStudy", broken)
    with caplog.at_level(logging.ERROR):
        updates = Reading(page).choose(At("K7QF2M9A-AAAA-AAAA-AAAA", 0, 0.0), 0)
    assert words.UNEXPECTED in updates[page.notice]
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_how_many_images_are_needed(page: Layout, shelf: Shelf) -> None:
    owning = Owning(page, shelf)
    told = owning.sample_size(65, 80, 70, 10)[page.planned]
    assert "exact binomial test" in told
    assert "±10 percentage points" in told
    assert "a number is missing" in owning.sample_size(None, 80, 70, 10)[page.planned].lower()  # type: ignore[arg-type]
    assert "share in (0, 1)" in owning.sample_size(50, 80, 70, 10)[page.planned]


def test_results_in_the_page_are_escaped() -> None:
    from arra_med.evaluate.reader_words import WordTable

    shown = presenting.results_panel([WordTable("<b>", ("<i>",), (("<script>",),))], "n", [("l", '"><script>', "c")])
    assert not re.search("<b>|<i>|<script>", shown)
