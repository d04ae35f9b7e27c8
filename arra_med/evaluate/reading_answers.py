"""Answers of readers: the CSV files that the reading page saves, checked against the set's key."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arra_med.errors import EvaluationError
from arra_med.evaluate.reading_set import ReadingKey
from arra_med.reporting.reading_page import ANSWER_COLUMNS, KINDS, QUALITIES, SHOWN

_CHOICES = {"real_or_synthetic": KINDS, "quality": QUALITIES, "shows_finding": SHOWN}


@dataclass(frozen=True)
class Answer:
    """What one reader said of one image; `None` where a question has no answer.

    Attributes:
        synthetic: Whether the reader called it synthetic.
        quality: 1 (unusable) to 5 (excellent).
        shows_finding: `yes`, `no` or `unsure`; `None` also where the set has no reports.
        comment: Free text; it may name a person and goes into no result.
    """

    synthetic: bool | None
    quality: int | None
    shows_finding: str | None
    comment: str


def read_answers(paths: Sequence[Path], key: ReadingKey, *, allow_missing: bool = False) -> list[dict[str, Answer]]:
    """Reads the files of all readers, one each.

    Args:
        paths: The files.
        key: Of the set that they judged.
        allow_missing: Whether images may be without an answer.

    Returns:
        For each reader, in the order of the files, the answer by image.

    Raises:
        EvaluationError: If a file is damaged, belongs to another set, names unknown images or one twice, holds a value
            that the page cannot give, lacks answers, or two files are of one reader. Readers are not named.
    """
    if not paths:
        raise EvaluationError("no file of answers was given: give one for each reader")
    readers: list[str] = []
    found = []
    for path in paths:
        reader, answers = _read_file(path, key)
        if reader in readers:
            raise EvaluationError(
                f"{path}: is of the same reader as {paths[readers.index(reader)]}; give one file for each reader"
            )
        readers.append(reader)
        _require_complete(path, answers, key, allow_missing)
        found.append(answers)
    return found


def _read_file(path: Path, key: ReadingKey) -> tuple[str, dict[str, Answer]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except FileNotFoundError:
        raise EvaluationError(f"{path}: is not there; give the CSV file that a reader saved") from None
    except (OSError, UnicodeDecodeError, csv.Error):
        raise EvaluationError(f"{path}: cannot be read as CSV in UTF-8; ask the reader to save it again") from None
    if not rows or any(set(row) != set(ANSWER_COLUMNS) or None in row.values() for row in rows):
        raise EvaluationError(
            f"{path}: the columns {', '.join(ANSWER_COLUMNS)} are required in every row; give the file as the page saved it"
        )
    if {row["set_id"] for row in rows} != {key.set_id}:
        raise EvaluationError(f"{path}: answers another reading set than the key's; give the key of that set")
    names = {row["reader"].strip().casefold() for row in rows}
    if len(names) != 1 or "" in names:
        raise EvaluationError(f"{path}: one reader's name in all rows is required, found {len(names - {''})}")
    unknown = {row["image"] for row in rows} - {image.image for image in key.images}
    if unknown:
        raise EvaluationError(f"{path}: {len(unknown)} images are not in the key; give the answers to this set alone")
    twice = [image for image, count in Counter(row["image"] for row in rows).items() if count > 1]
    if twice:
        raise EvaluationError(f"{path}: {len(twice)} images are answered more than once; keep one row for each image")
    return names.pop(), {row["image"]: _answer(path, number, row) for number, row in enumerate(rows, start=2)}


def _answer(path: Path, number: int, row: dict[str, str]) -> Answer:
    for column, allowed in _CHOICES.items():
        if row[column] not in ("", *allowed):
            raise EvaluationError(f"{path}: row {number} has another {column} than {', '.join(allowed)} or none")
    return Answer(
        synthetic=row["real_or_synthetic"] == "synthetic" if row["real_or_synthetic"] else None,
        quality=int(row["quality"]) if row["quality"] else None,
        shows_finding=row["shows_finding"] or None,
        comment=row["comment"],
    )


def _require_complete(path: Path, answers: dict[str, Answer], key: ReadingKey, allow_missing: bool) -> None:
    def is_complete(image: str, has_report: bool) -> bool:
        answer = answers.get(image)
        if answer is None or answer.synthetic is None or answer.quality is None:
            return False
        return not has_report or answer.shows_finding is not None

    missing = sum(not is_complete(image.image, image.has_report) for image in key.images)
    if missing == len(key.images) or (missing and not allow_missing):
        raise EvaluationError(
            f"{path}: {missing} of {len(key.images)} images have no complete answer; let the reader finish them, or give "
            "--allow-missing"
        )
