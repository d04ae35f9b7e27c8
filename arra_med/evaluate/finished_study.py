"""A finished study's folder, read back: what `comparison.json` says, the answer in sentences, and the report's page."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arra_med.errors import EvaluationError
from arra_med.evaluate.study_answer import answer_sentences
from arra_med.evaluate.study_comparison import COMPARISON_FILE, FORMAT_VERSION
from arra_med.evaluate.study_report import REPORT_FILE

_MAX_BYTES = 64_000_000
_NO_NETWORK = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class FinishedStudy:
    """What a study's folder says.

    Attributes:
        name: The study's.
        question: What was asked.
        answers: The answer in sentences, what could have been found first.
        facts: Judge, seeds, images, date, in words.
        page: The report, self-contained HTML; whatever the file says, it may load nothing.
    """

    name: str
    question: str
    answers: tuple[str, ...]
    facts: dict[str, str]
    page: str


def read_finished_study(folder: Path) -> FinishedStudy:
    """Reads the folder that `arra-med compare` wrote.

    Raises:
        EvaluationError: If a file is missing, damaged, too large or of another format version.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: is no folder; give one that arra-med compare wrote")
    told = _json(folder / COMPARISON_FILE)
    version = told.get("format_version") if isinstance(told, dict) else None
    if version != FORMAT_VERSION:
        raise EvaluationError(
            f"{folder / COMPARISON_FILE}: has format version {version!r:.20}, this program reads {FORMAT_VERSION}: run "
            "arra-med compare into the folder again"
        )
    try:
        return FinishedStudy(
            name=str(told["name"]),
            question=str(told["question"]),
            answers=tuple(answer_sentences(told)),
            facts=_facts(told),
            page=_page(folder / REPORT_FILE),
        )
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, IndexError):
        raise EvaluationError(
            f"{folder / COMPARISON_FILE}: is damaged; copy the folder again, or run arra-med compare into it again"
        ) from None


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    primary = told["primary"]
    return {
        "Judge": f"{primary['judge']}, weights {primary['judge_sha256'][:12]}",
        "Measure": str(primary["measure"]),
        "Images": f"{primary['n']:,} {primary['split']} images of {primary['num_patients']:,} patients",
        "Training seeds": f"{len(primary['per_seed'])} for each arm",
        "Date": str(told["date"]),
        "Settings": f"registered {told['begun'][:10]}, SHA-256 {told['settings']['sha256'][:12]}",
    }


def _page(path: Path) -> str:
    """The report, with a policy of its own before anything of the file: nothing from a network, no script."""
    text = _text(path)
    if _HEAD.search(text) is None:
        raise EvaluationError(f"{path}: is no page that arra-med compare wrote; copy the folder again")
    return f"<!doctype html>{_NO_NETWORK}{text}"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EvaluationError(f"{path}: is larger than {_MAX_BYTES:,} bytes and no study's; give another folder")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EvaluationError(
            f"{path}: is not there; give the folder of a finished arra-med compare, or start that command again"
        ) from None
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{path}: is no UTF-8 text; copy the folder again") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError:
        raise EvaluationError(f"{path}: is damaged; copy the folder again, or run arra-med compare again") from None
