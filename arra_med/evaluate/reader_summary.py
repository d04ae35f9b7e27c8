"""What a reader study found, for each reader and all together, and every answer as a row of a table.

First showings alone count; repeats serve the agreement of a reader with the same reader's first answers. Reconstructed images are neither real
nor synthetic, and stand in their arm's row alone.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.reader_agreement import Agreement, preferred_image, reader_agreement
from arra_med.evaluate.reader_rates import SignTest, mean_of, share_of, sign_test
from arra_med.evaluate.reader_records import Reader, Screen
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.runs import versions

SUMMARY_NOTICE = "A blinded reader study of synthetic and real images. Research use only, not for clinical decisions."
ANSWER_COLUMNS = (
    "study",
    "reader",
    "place",
    "repeat",
    "case",
    "question",
    "choice",
    "arm",
    "other_arm",
    "role",
    "correct",
    "seconds",
)


@dataclass(frozen=True)
class ArmRow:
    """One question about one arm.

    Attributes:
        arm: Its name.
        role: The right answer.
        question: Which.
        measure: `called synthetic`, `preferred` or `mean mark`.
        num_answers: First showings.
        interval: The share or mean; `None` where there are too few answers.
    """

    arm: str
    role: str
    question: str
    measure: str
    num_answers: int
    interval: Interval | None


@dataclass(frozen=True)
class Reading:
    """By one reader, or by all.

    Attributes:
        reader: `reader 1`, or `all`.
        num_answered: First showings that were answered.
        num_screens: First showings there are.
        median_seconds: For each case, repeats included; `None` without an answer.
        accuracy: Share of right answers about real and synthetic images.
        sensitivity: Share of synthetic images that were called synthetic.
        specificity: Share of real images that were called real.
        arms: A row for each arm and question.
        preference: Exact test for the first arm of `arms` against the second.
        chose_left: Share of preferences for the left side, which should be about half.
    """

    reader: str
    num_answered: int
    num_screens: int
    median_seconds: float | None
    accuracy: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    arms: tuple[ArmRow, ...]
    preference: SignTest | None
    chose_left: float | None


@dataclass(frozen=True)
class ReaderSummary:
    """All of it. `summary_json` is how it is written.

    Attributes:
        study: Its code.
        title: As readers saw it.
        design: What was asked.
        ethics: As stated by the owner.
        seed: Of the orders.
        num_cases: In the study.
        num_readers: Who joined.
        num_finished: Who answered every screen.
        readings: All together first, then each reader if there are several.
        agreement: Between readers, and of readers with themselves.
    """

    study: str
    title: str
    design: str
    ethics: str
    seed: int
    num_cases: int
    num_readers: int
    num_finished: int
    readings: tuple[Reading, ...]
    agreement: tuple[Agreement, ...]


def reader_summary(study: ReaderStudy) -> ReaderSummary:
    """Opens the blinding.

    Raises:
        EvaluationError: As `ReaderStudy.readers`.
    """
    readers = study.readers()
    readings = [_reading("all", study, readers)]
    if len(readers) > 1:
        readings += [_reading(f"reader {reader.number}", study, [reader]) for reader in readers]
    return ReaderSummary(
        study=study.code,
        title=study.settings.title,
        design=study.settings.design,
        ethics=study.settings.ethics,
        seed=study.settings.seed,
        num_cases=len(study.cases),
        num_readers=len(readers),
        num_finished=sum(len(reader.screens) == reader.total for reader in readers),
        readings=tuple(readings),
        agreement=tuple(reader_agreement(study.settings.questions, readers)),
    )


def summary_json(summary: ReaderSummary) -> dict[str, Any]:
    """Returns the summary as JSON values, with the versions behind it; the app and the command write the same."""
    return {"notice": SUMMARY_NOTICE, **dataclasses.asdict(summary), "versions": versions()}


def answers_csv(study: ReaderStudy) -> str:
    """Returns every answer as CSV, `ANSWER_COLUMNS` first; it breaks the blinding and names no reader."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(ANSWER_COLUMNS)
    for reader in study.readers():
        for screen in reader.screens:
            for question in study.settings.questions:
                writer.writerow(_row(study, reader.number, screen, question.name))
    return stream.getvalue()


def _row(study: ReaderStudy, reader: int, screen: Screen, question: str) -> tuple[Any, ...]:
    showing, choice = screen.showing, screen.choices[question]
    images = study.cases[showing.case]
    meant, other = images[0], None
    correct: Any = ""
    if study.settings.design == "preference":
        meant, other = (images[preferred_image(screen)], images[1 - preferred_image(screen)])
    elif study.settings.design == "real_or_synthetic" and meant.role != "reconstructed":
        correct = int(choice == meant.role)
    other_arm = "" if other is None else other.arm
    place, repeat = showing.place + 1, int(showing.is_repeat)
    row = (study.code, reader, place, repeat, showing.case + 1, question, choice, meant.arm, other_arm)
    return (*row, meant.role, correct, f"{screen.seconds:.2f}")


def _table(
    study: ReaderStudy, readers: Sequence[Reader], said: Callable[[Screen], float | None], cases: Sequence[int]
) -> np.ndarray:
    """What was said at first showings (R, C), NaN where nothing was."""
    column = {case: at for at, case in enumerate(cases)}
    table = np.full((len(readers), len(cases)), np.nan)
    for at, reader in enumerate(readers):
        for screen in reader.screens:
            value = said(screen)
            if not screen.showing.is_repeat and screen.showing.case in column and value is not None:
                table[at, column[screen.showing.case]] = value
    return table


def _reading(name: str, study: ReaderStudy, readers: Sequence[Reader]) -> Reading:
    first = [screen for reader in readers for screen in reader.screens if not screen.showing.is_repeat]
    seconds = [screen.seconds for reader in readers for screen in reader.screens]
    design, every = study.settings.design, range(len(study.cases))
    rates: list[Interval | None] = [None, None, None]
    preference, chose_left = None, None
    if design == "real_or_synthetic":
        of_role = {
            role: [case for case in every if study.cases[case][0].role == role] for role in ("real", "synthetic")
        }

        def right(screen: Screen) -> float:
            return float(screen.choices["real_or_synthetic"] == study.cases[screen.showing.case][0].role)

        chosen = (of_role["real"] + of_role["synthetic"], of_role["synthetic"], of_role["real"])
        rates = [share_of(_table(study, readers, right, cases)) for cases in chosen]
        arms = _arm_rows(
            study, readers, lambda screen: float(screen.choices["real_or_synthetic"] == "synthetic"), "called synthetic"
        )
    elif design == "preference":
        names = _arm_order(study)
        tables = [_table(study, readers, _prefers(study, arm), every) for arm in names]
        arms = [
            ArmRow(arm, _role(study, arm), "preference", "preferred", len(first), share_of(table))
            for arm, table in zip(names, tables, strict=True)
        ]
        preference = sign_test(tables[0])
        chose_left = float(np.mean([s.choices["preference"] == "left" for s in first])) if first else None
    else:
        arms = [
            row
            for item in study.settings.questions
            for row in _arm_rows(study, readers, _mark(item.name), "mean mark", item.name)
        ]
    return Reading(
        reader=name,
        num_answered=len(first),
        num_screens=len(study.cases) * len(readers),
        median_seconds=float(np.median(seconds)) if seconds else None,
        accuracy=rates[0],
        sensitivity=rates[1],
        specificity=rates[2],
        arms=tuple(arms),
        preference=preference,
        chose_left=chose_left,
    )


def _prefers(study: ReaderStudy, arm: str) -> Callable[[Screen], float]:
    return lambda screen: float(study.cases[screen.showing.case][preferred_image(screen)].arm == arm)


def _mark(question: str) -> Callable[[Screen], float]:
    return lambda screen: float(screen.choices[question])


def _arm_rows(
    study: ReaderStudy,
    readers: Sequence[Reader],
    said: Callable[[Screen], float],
    measure: str,
    question: str = "real_or_synthetic",
) -> list[ArmRow]:
    rows = []
    for arm in _arm_order(study):
        cases = [case for case, images in enumerate(study.cases) if images[0].arm == arm]
        table = _table(study, readers, said, cases)
        interval = mean_of(table) if measure == "mean mark" else share_of(table)
        rows.append(ArmRow(arm, _role(study, arm), question, measure, int((~np.isnan(table)).sum()), interval))
    return rows


def _arm_order(study: ReaderStudy) -> list[str]:
    return sorted({image.arm for images in study.cases for image in images})


def _role(study: ReaderStudy, arm: str) -> str:
    return next(image.role for images in study.cases for image in images if image.arm == arm)
