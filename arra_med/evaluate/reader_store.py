"""A reader study at work: made, joined, answered, and opened again for its results.

Each answer is one transaction. What readers get holds no arm: a case number is a place in a random order.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydantic

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_cases import Case
from arra_med.evaluate.reader_database import database, empty_log, new_database
from arra_med.evaluate.reader_order import Showing, reading_order
from arra_med.evaluate.reader_records import ImageFacts, Reader, Screen, Task
from arra_med.evaluate.reader_study import FORMAT_VERSION, Code, OwnerLock, ReaderStudySettings
from arra_med.runs import sha256_json, versions

LONGEST_S = 86_400.0


class ReaderStudy:
    """An opened study. It holds no connection: processes and threads share a study by its file alone.

    Attributes:
        path: The file.
        code: Of the study.
        settings: What it asks.
        cases: What each case's images are; for the owner alone.
    """

    def __init__(self, path: Path) -> None:
        """Opens a study and checks that nobody changed what it asks.

        Raises:
            EvaluationError: If it is missing, damaged, of another format version or changed.
        """
        self.path = path
        with database(path) as connection:
            row = connection.execute(
                "SELECT format_version, code, settings, owner_salt, owner_digest, content_sha256 FROM study"
            ).fetchone()
            if row is None or row[0] != FORMAT_VERSION:
                raise EvaluationError(f"{path.name}: has another format version than {FORMAT_VERSION}; make it again")
            described = _described(connection)
        if sha256_json([*row[:5], described]) != row[5]:
            raise EvaluationError(f"{path.name}: was changed after it was made, and no result of it can be trusted")
        try:
            self.settings = ReaderStudySettings.model_validate(json.loads(row[2]))
        except (ValueError, pydantic.ValidationError):
            raise EvaluationError(f"{path.name}: is damaged or no reader study; restore it from a copy") from None
        self.code = str(row[1])
        self._lock = OwnerLock(row[3], row[4])
        self.cases: tuple[tuple[ImageFacts, ...], ...] = tuple(
            tuple(ImageFacts(arm, role, origin) for arm, role, origin, _ in images) for _, images in described
        )

    @classmethod
    def make(
        cls, path: Path, settings: ReaderStudySettings, cases: Sequence[Case], code: str
    ) -> tuple["ReaderStudy", str]:
        """Writes a new study.

        Args:
            path: The file; it must not be there yet.
            settings: What it asks.
            cases: Of `study_cases`.
            code: Of `Code.for_study`.

        Returns:
            The study, and its owner's code, which is kept nowhere.

        Raises:
            EvaluationError: If the file is there already or cannot be written.
        """
        owner_code, lock = OwnerLock.draw()
        asked = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
        with new_database(path) as connection:
            for number, case in enumerate(cases):
                connection.execute("INSERT INTO cases VALUES (?, ?)", (number, case.report))
                connection.executemany(
                    "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(number, side, i.arm, i.role, i.origin, i.sha256, i.png) for side, i in enumerate(case.images)],
                )
            head = (FORMAT_VERSION, code, asked, lock.salt, lock.digest)
            connection.execute(
                "INSERT INTO study VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
                (*head, json.dumps(versions()), sha256_json([*head, _described(connection)])),
            )
        return cls(path), owner_code

    def is_owner(self, text: str) -> bool:
        """Tells whether a text is the owner's code."""
        return self._lock.opens(text)

    def join(self, *, consented: bool) -> Code:
        """Adds a reader.

        Returns:
            The reader's code, with which reading goes on later; it is kept nowhere.

        Raises:
            EvaluationError: If the study asks for consent and none was given.
        """
        if self.settings.consent and not consented:
            raise EvaluationError("reading begins when you have agreed to the text above: tick the box first")
        code = Code(self.code).for_reader()
        with database(self.path, writing=True) as connection:
            connection.execute("INSERT INTO readers (code_sha256) VALUES (?)", (code.sha256,))
        return code

    def task(self, code: Code) -> Task | None:
        """Returns what a reader sees next; `None` when all is answered.

        Raises:
            EvaluationError: If the code is unknown, or an image is damaged.
        """
        with database(self.path) as connection:
            order, done = self._progress(connection, code)
            if done == len(order):
                return None
            showing = order[done]
            (report,) = connection.execute("SELECT report FROM cases WHERE number = ?", (showing.case,)).fetchone()
            images = connection.execute(
                "SELECT png, sha256 FROM images WHERE case_number = ? ORDER BY side", (showing.case,)
            ).fetchall()
        if any(hashlib.sha256(png).hexdigest() != sha256 for png, sha256 in images):
            raise EvaluationError(f"{self.path.name}: an image was changed after the study was made; restore a copy")
        pngs = tuple(png for png, _ in images)
        return Task(done, len(order), report, pngs[::-1] if showing.swapped else pngs)

    def answer(self, code: Code, place: int, choices: Mapping[str, str], seconds: float) -> bool:
        """Saves the answer to one screen; it is on the disk when this returns.

        Returns:
            Whether it was saved: not if the screen was answered before, as by a second click or in another window.

        Raises:
            EvaluationError: If the code is unknown, an answer is missing or not allowed, or the screen is not the next.
        """
        for question in self.settings.questions:
            if choices.get(question.name) not in question.choices:
                raise EvaluationError(f"an answer to every question is needed: choose one of {_told(question.choices)}")
        if set(choices) != {question.name for question in self.settings.questions}:
            raise EvaluationError("an answer to a question was given that this study does not ask")
        seconds = float(seconds)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise EvaluationError("the time of an answer must be a number of seconds from 0 on")
        with database(self.path, writing=True) as connection:
            order, done = self._progress(connection, code)
            if place < done:
                return False
            if place != done or place >= len(order):
                raise EvaluationError("this image is not the next one: go on with the one that is shown")
            reader = _reader_number(connection, code)
            connection.execute(
                "INSERT INTO screens VALUES (?, ?, ?, ?)",
                (reader, place, order[place].case, round(min(seconds, LONGEST_S), 2)),
            )
            connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?)", [(reader, place, *one) for one in choices.items()]
            )
        return True

    def undo(self, code: Code) -> bool:
        """Takes back a reader's last answer; returns whether there was one."""
        with database(self.path, writing=True) as connection:
            _, done = self._progress(connection, code)
            reader = _reader_number(connection, code)
            connection.execute("DELETE FROM screens WHERE reader = ? AND place = ?", (reader, done - 1))
        return done > 0

    def forget(self, reader: Code | int) -> int:
        """Deletes a reader and all answers: they are overwritten in the file, and the log is emptied.

        Args:
            reader: The code, or the number in the results.

        Returns:
            How many screens were deleted.

        Raises:
            EvaluationError: If there is no such reader, or the log is in use all the while.
        """
        with database(self.path, writing=True) as connection:
            number = _reader_number(connection, reader) if isinstance(reader, Code) else int(reader)
            found = connection.execute("SELECT count(*) FROM screens WHERE reader = ?", (number,)).fetchone()[0]
            if not connection.execute("DELETE FROM readers WHERE number = ?", (number,)).rowcount:
                raise EvaluationError(f"the study has no reader {number}: give the number that the results name")
        empty_log(self.path)
        return int(found)

    def readers(self) -> list[Reader]:
        """Returns everyone's answers, the order of each reader checked against the study's seed.

        Raises:
            EvaluationError: If an answer does not fit the study.
        """
        with database(self.path) as connection:
            numbers = [number for (number,) in connection.execute("SELECT number FROM readers ORDER BY number")]
            screens = connection.execute(
                "SELECT reader, place, case_number, seconds FROM screens ORDER BY 1, 2"
            ).fetchall()
            answers = connection.execute("SELECT reader, place, question, choice FROM answers").fetchall()
        choices: dict[tuple[int, int], dict[str, str]] = {}
        for reader, place, question, choice in answers:
            choices.setdefault((reader, place), {})[question] = choice
        allowed = {question.name: question.choices for question in self.settings.questions}
        found: dict[int, list[Screen]] = {number: [] for number in numbers}
        orders = {number: self._order(number) for number in numbers}
        for reader, place, case, seconds in screens:
            its, order, before = choices.get((reader, place), {}), orders[reader], found[reader]
            fits = place == len(before) < len(order) and order[place].case == case and set(its) == set(allowed)
            if not fits or any(choice not in allowed[question] for question, choice in its.items()):
                raise EvaluationError(
                    f"{self.path.name}: answers of reader {reader} were changed and do not fit the study"
                )
            before.append(Screen(order[place], seconds, its))
        return [Reader(number, len(orders[number]), tuple(found[number])) for number in numbers]

    def _progress(self, connection: sqlite3.Connection, code: Code) -> tuple[tuple[Showing, ...], int]:
        reader = _reader_number(connection, code)
        done = connection.execute("SELECT count(*) FROM screens WHERE reader = ?", (reader,)).fetchone()[0]
        return self._order(reader), int(done)

    def _order(self, reader: int) -> tuple[Showing, ...]:
        return reading_order(len(self.cases), seed=self.settings.seed, reader=reader, repeats=self.settings.repeats)


def _reader_number(connection: sqlite3.Connection, code: Code) -> int:
    row = connection.execute("SELECT number FROM readers WHERE code_sha256 = ?", (code.sha256,)).fetchone()
    if row is None:
        raise EvaluationError("the study knows no reader with this code: check it, or begin anew with the study's code")
    return int(row[0])


def _described(connection: sqlite3.Connection) -> list[list]:
    """What the study shows: of each case its report and its images' arm, role, origin and hash."""
    images: dict[int, list[list[str]]] = {}
    rows = connection.execute("SELECT case_number, arm, role, origin, sha256 FROM images ORDER BY case_number, side")
    for number, *facts in rows:
        images.setdefault(number, []).append(facts)
    reports = connection.execute("SELECT number, report FROM cases ORDER BY number")
    return [[report, images.get(number, [])] for number, report in reports]


def _told(choices: Sequence[str]) -> str:
    return ", ".join(choices)
