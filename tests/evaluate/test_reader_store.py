"""A study's file: nothing is lost in a crash, several write at once, orders are fixed, what is deleted is gone."""

import dataclasses
import os
import re
import signal
import sqlite3
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_database import database
from arra_med.evaluate.reader_order import reading_order
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import Code, OwnerLock, ReaderStudySettings, study_path
from arra_med.evaluate.reader_summary import answers_csv
from tests.evaluate.tiny_reader_study import arm_shown, read_all, tiny_arm, tiny_study

REAL = {"real_or_synthetic": "real"}


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_what_was_committed_survives_a_kill_and_a_half_written_answer_leaves_nothing(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, num=40)
    code = study.join(consented=True)
    told, tell = os.pipe()

    def reads_until_killed() -> None:
        for place in range(100):
            if place == 17:
                with database(study.path, writing=True) as connection:
                    connection.execute("INSERT INTO screens VALUES (1, 17, 0, 1.0)")
                    os.write(tell, b"half\n")
                    signal.pause()
            assert study.answer(code, place, REAL, 1.0)
            os.write(tell, b"%d\n" % place)

    child = in_child(reads_until_killed)
    with os.fdopen(told) as lines:
        seen = [lines.readline().strip() for _ in range(18)]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(tell)
    assert seen == [*map(str, range(17)), "half"]
    reopened = ReaderStudy(study.path)
    (reader,) = reopened.readers()
    assert [screen.showing.place for screen in reader.screens] == list(range(17))
    task = reopened.task(code)
    assert task is not None
    assert (task.place, task.total) == (17, 120)
    assert reopened.answer(code, 17, REAL, 1.0)


def test_two_processes_write_at_once_and_two_windows_of_one_reader_count_once(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, num=10)
    codes = [study.join(consented=True) for _ in range(2)]

    def reads(code: Code) -> None:
        for place in range(30):
            study.answer(code, place, REAL, 1.0)

    children = [in_child(lambda code=code: reads(code)) for code in (*codes, codes[0])]  # type: ignore[misc]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert [len(reader.screens) for reader in study.readers()] == [30, 30]


def test_the_order_follows_from_seed_and_reader_alone() -> None:
    order = reading_order(60, seed=7, reader=1, repeats=0.2)
    assert order == reading_order(60, seed=7, reader=1, repeats=0.2)
    assert [one.case for one in order[:8]] == [28, 42, 22, 21, 2, 10, 6, 43]  # pinned: a study goes on after an update
    assert order != reading_order(60, seed=7, reader=2, repeats=0.2)
    assert order != reading_order(60, seed=8, reader=1, repeats=0.2)


@pytest.mark.parametrize(("num", "repeats", "again"), [(60, 0.2, 12), (61, 1 / 3, 20), (6, 0.2, 1), (9, 0.0, 0)])
def test_each_case_comes_once_and_repeats_come_back_much_later_with_sides_changed(
    num: int, repeats: float, again: int
) -> None:
    for reader in range(1, 20):
        order = reading_order(num, seed=3, reader=reader, repeats=repeats)
        first = {one.case: one for one in order if not one.is_repeat}
        assert sorted(first) == list(range(num))
        assert [one.place for one in order] == list(range(num + again))
        assert sum(one.swapped for one in first.values()) == num // 2
        repeated = [one for one in order if one.is_repeat]
        assert len({one.case for one in repeated}) == again
        for one in repeated:
            assert one.place - first[one.case].place > num // 2 - num // 3
            assert one.swapped != first[one.case].swapped


def test_codes_open_what_they_should_and_the_file_holds_none_of_them(tmp_path: Path) -> None:
    study, owner_code = tiny_study(tmp_path)
    code = study.join(consented=True)
    assert re.fullmatch(r"[2-9A-Z]{8}-[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}", str(code))
    assert Code.parse(f"  {str(code).lower()} ") == code
    assert study.is_owner(f" {owner_code.lower()}")
    for wrong in ("", study.code, str(code), owner_code[:-1], "' OR 1=1 --", "é" * 10_000):
        assert not study.is_owner(wrong)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert str(code.reader).encode() not in stored
    assert owner_code.encode() not in stored
    assert stat.S_IMODE(study.path.stat().st_mode) == 0o600
    assert len({Code.for_study().study for _ in range(50)} | {OwnerLock.draw()[0]}) == 51


@pytest.mark.parametrize(
    "text",
    ["", "short", "../../etc/passwd", "K7QF2M9A/..", "K7QF2M9A'; DROP TABLE readers; --", "<script>alert(1)</script>",
     "K7QF2M9A-AAAA", "K7QF2M9A-AAAA-AAAA-AAAA-AAAA", "O0I1L0O0", "A" * 100_000, "K7QF2M9A\x00"],
)  # fmt: skip
def test_what_is_no_code_is_told_without_repeating_it(text: str) -> None:
    with pytest.raises(EvaluationError, match="^this is no code of a reader study: a study's has 8") as caught:
        Code.parse(text)
    assert not text or text not in str(caught.value)
    with pytest.raises(EvaluationError, match="no code"):
        study_path(text)


def test_an_unknown_reader_is_told_so_whatever_is_asked(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    stranger = Code.parse(f"{study.code}-AAAA-AAAA-AAAA")
    for ask in (
        lambda: study.task(stranger),
        lambda: study.answer(stranger, 0, REAL, 1.0),
        lambda: study.undo(stranger),
        lambda: study.forget(stranger),
    ):
        with pytest.raises(EvaluationError, match="knows no reader with this code: check it, or begin anew"):
            ask()
    with pytest.raises(EvaluationError, match="has no reader 5: give the number"):
        study.forget(5)


def test_consent_comes_first(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    with pytest.raises(EvaluationError, match="begins when you have agreed to the text above"):
        study.join(consented=False)
    assert study.readers() == []


@pytest.mark.parametrize(
    ("place", "choices", "seconds", "message"),
    [
        (0, {}, 1.0, "an answer to every question is needed: choose one of real, synthetic"),
        (0, {"real_or_synthetic": "<b>"}, 1.0, "an answer to every question is needed"),
        (0, {**REAL, "other": "1"}, 1.0, "an answer to a question was given that this study does not ask"),
        (1, REAL, 1.0, "this image is not the next one: go on with the one that is shown"),
        (0, REAL, float("nan"), "must be a number of seconds from 0 on"),
        (0, REAL, -1.0, "must be a number of seconds from 0 on"),
    ],
)
def test_an_answer_that_is_none_is_refused(
    tmp_path: Path, place: int, choices: dict[str, str], seconds: float, message: str
) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    with pytest.raises(EvaluationError, match=message):
        study.answer(code, place, choices, seconds)
    assert study.readers()[0].screens == ()


def test_a_second_click_changes_nothing_and_undo_takes_back_one(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    assert not study.undo(code)
    assert study.answer(code, 0, REAL, 1.0)
    assert not study.answer(code, 0, {"real_or_synthetic": "synthetic"}, 1.0)
    assert study.readers()[0].screens[0].choices == REAL
    assert study.undo(code)
    assert study.readers()[0].screens == ()


def test_what_readers_get_holds_pixels_and_nothing_of_the_arm(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    views = {arm: {view.tobytes() for view in tiny_arm(arm).views} for arm in ("real", "reconstructed", "arra")}
    shown = []
    for place in range(24):
        task = study.task(code)
        assert task is not None
        (png,) = task.pngs
        chunks, at = [], 8
        while at < len(png):
            chunks.append(png[at + 4 : at + 8])
            at += 12 + int.from_bytes(png[at : at + 4], "big")
        assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
        assert not re.search("real|arra|reconstruct|case|file", repr(dataclasses.replace(task, pngs=())))
        (arm,) = arm_shown(study, 1, place)
        assert Image.open(BytesIO(png)).tobytes() in views[arm]
        shown.append(arm)
        study.answer(code, place, REAL, 1.0)
    assert study.task(code) is None
    assert {arm: shown.count(arm) for arm in views} == dict.fromkeys(views, 8)
    assert shown != sorted(shown)


def test_a_deleted_reader_is_gone_from_the_bytes_of_the_file(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path, num=20)
    kept = read_all(study, lambda task: REAL, at_most=5)
    code = read_all(study, lambda task: REAL, at_most=20)

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert code.sha256.encode() in stored()
    assert study.forget(code) == 20
    assert code.sha256.encode() not in stored()
    assert kept.sha256.encode() in stored()
    with pytest.raises(EvaluationError, match="knows no reader"):
        study.task(code)
    assert [(reader.number, len(reader.screens)) for reader in study.readers()] == [(1, 5)]
    study.join(consented=True)
    assert [reader.number for reader in study.readers()] == [1, 3]  # a deleted number does not come back
    assert study.forget(1) == 5
    assert answers_csv(study).count("\n") == 1


def test_deletion_says_so_if_the_log_cannot_be_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.evaluate.reader_database._PATIENCE_S", 0.01)
    study, _ = tiny_study(tmp_path)
    code = read_all(study, lambda task: REAL, at_most=3)
    with database(study.path) as looking:
        looking.execute("SELECT * FROM readers").fetchall()
        with pytest.raises(EvaluationError, match="the log that still holds them is in use: try again"):
            study.forget(code)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE images SET arm = 'arra'", "was changed after it was made, and no result of it can be trusted"),
        ("UPDATE images SET role = 'real' WHERE case_number = 1", "was changed after it was made"),
        ("UPDATE cases SET report = 'x' WHERE number = 3", "was changed after it was made"),
        (
            "UPDATE study SET settings = replace(settings, '\"seed\": 0', '\"seed\": 1')",
            "was changed after it was made",
        ),
        ("UPDATE study SET owner_digest = 'abc'", "was changed after it was made"),
        ("DELETE FROM images WHERE case_number = 2", "was changed after it was made"),
        ("UPDATE study SET format_version = 9", "has another format version than 1"),
        ("DELETE FROM study", "has another format version than 1"),
        ("DROP TABLE images", "cannot be opened, or is not whole"),
        ("PRAGMA application_id = 5", "is no file of a reader study"),
    ],
)
def test_a_changed_study_is_not_opened(tmp_path: Path, change: str, message: str) -> None:
    study, _ = tiny_study(tmp_path)
    tamper(study.path, change)
    with pytest.raises(EvaluationError, match=f"^study.sqlite: {message}"):
        ReaderStudy(study.path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE answers SET choice = 'maybe' WHERE place = 1",
        "UPDATE answers SET question = 'other' WHERE place = 1",
        "DELETE FROM answers WHERE place = 1",
        "DELETE FROM screens WHERE place = 1",
        "UPDATE screens SET case_number = (case_number + 1) % 24 WHERE place = 1",
        "UPDATE screens SET place = 9 WHERE place = 2",
    ],
)
def test_changed_answers_are_told_and_not_counted(tmp_path: Path, change: str) -> None:
    study, _ = tiny_study(tmp_path)
    read_all(study, lambda task: REAL, at_most=3)
    tamper(study.path, change)
    with pytest.raises(EvaluationError, match="answers of reader 1 were changed and do not fit the study"):
        study.readers()


def test_a_changed_image_is_not_shown(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    tamper(study.path, "UPDATE images SET png = x'00'")
    with pytest.raises(EvaluationError, match="an image was changed after the study was made"):
        study.task(code)


def test_a_vanished_broken_or_foreign_file_gets_one_sentence(tmp_path: Path) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    with pytest.raises(EvaluationError, match="study.sqlite: is there already and may be in use"):
        tiny_study(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(EvaluationError, match="^study.sqlite: this reader study is not there; ask whoever runs it"):
        study.answer(code, 0, REAL, 1.0)
    assert list(tmp_path.iterdir()) == []  # and none is made in its place
    study.path.write_bytes(b"no database" * 100)
    with pytest.raises(EvaluationError, match="is damaged or no reader study; restore it"):
        ReaderStudy(study.path)
    study.path.write_bytes(b"")
    with pytest.raises(EvaluationError, match="is no file of a reader study"):
        ReaderStudy(study.path)


def test_a_full_disk_saves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, _ = tiny_study(tmp_path)
    code = study.join(consented=True)
    from arra_med.evaluate import reader_database

    connected = reader_database._connected

    def full(path: Path) -> sqlite3.Connection:
        connection = connected(path)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(reader_database, "_connected", full)
    with pytest.raises(EvaluationError, match="the disk is full and nothing was saved; make room, then go on"):
        for place in range(24):
            study.answer(code, place, REAL, 1.0)
            with database(study.path, writing=True) as connection:
                connection.execute("INSERT INTO cases VALUES (?, ?)", (1000 + place, "x" * 3000))


def test_settings_say_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match="items are needed for likert, and for no other design"):
        ReaderStudySettings(design="likert", size_px=16)


def tamper(path: Path, change: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()
