"""Tables of prompts: one CSV row for each report, every bad row reported at once.

`report` must be there. Optional are `id`, `modality`, `view`, `age_group`, `laterality`, `seed` and `num_images`; an empty
cell means what the command says, else what the report says.
"""

import csv
import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from arra_med.errors import GenerationError
from arra_med.generate.request import MAX_IMAGES, MAX_REPORT_CHARACTERS, MAX_SEED, GenerationRequest
from arra_med.records.row_problems import RowProblems, read_csv_rows
from arra_med.records.study import AgeGroup, Laterality, Modality, View
from arra_med.runs import sha256_json

COLUMNS = ("id", "report", "modality", "view", "age_group", "laterality", "seed", "num_images")
_CLOSED: dict[str, tuple[str, ...]] = {
    "modality": get_args(Modality),
    "view": get_args(View),
    "age_group": get_args(AgeGroup),
    "laterality": get_args(Laterality),
}
_NUMBERS = {"seed": (0, MAX_SEED), "num_images": (1, MAX_IMAGES)}
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}")
_LONGEST_NAME = 80
_HASH_CHARACTERS = 12


@dataclass(frozen=True)
class PromptRow:
    """One row of a table.

    Attributes:
        number: Of the row, from 1.
        id: As the table gives it; empty if it gives none.
        name: What its files are called by: the id made safe, or a hash of the row's content.
        request: What is asked for; image i has the seed `request.seed + i`.
    """

    number: int
    id: str
    name: str
    request: GenerationRequest


def read_prompt_table(
    path: Path,
    *,
    modality: Modality,
    seed: int = 0,
    max_rows: int | None = None,
    shown: str | None = None,
    **settings: Any,
) -> list[PromptRow]:
    """Reads a CSV of prompts (UTF-8).

    A row without a seed gets one that follows from `seed` and its id, or else from its content, so that rows may be
    added or moved without a change of any other image.

    Args:
        path: The file.
        modality: What the bundle draws.
        seed: Base of the seeds that the table does not give.
        max_rows: More are refused; none: any number is read.
        shown: What errors call the table; its path if not given.
        settings: Of `GenerationRequest`, for cells that are empty or missing.

    Raises:
        GenerationError: If the file cannot be read, the header is wrong, or any row breaks a rule; the message lists
            every rule with its rows and column, and quotes no cell.
    """
    problems = RowProblems()
    rows: list[PromptRow] = []
    names: set[str] = set()
    repeats: Counter[str] = Counter()
    shown = shown or str(path)
    for number, cells in _read_rows(path, shown, problems):
        if max_rows is not None and number > max_rows:
            raise GenerationError(
                f"{shown}: has more than {max_rows} reports, which is too many here; draw it with the command arra-med "
                "generate --prompts FILE.csv --out FOLDER, or cut it into smaller tables"
            )
        values = _values_of(cells, number, settings, problems)
        if values is None:
            continue
        if values.setdefault("modality", modality) != modality:
            problems.add(number, f"column 'modality': must be {modality}, which is what the bundle draws, or empty")
            continue
        row_id = cells.get("id", "").strip()
        content = sha256_json({name: value for name, value in values.items() if name != "rules"})
        repeats[content] += not row_id
        key = row_id or f"{content} {repeats[content]}"
        name = safe_name(row_id) if row_id else content[:_HASH_CHARACTERS] + _suffix(repeats[content])
        if name.casefold() in names:
            problems.add(number, "column 'id': must be unique, upper and lower case alike, but an earlier row has it")
        names.add(name.casefold())
        if not row_id and repeats[content] > 1 and "seed" in values:
            problems.add(number, "column 'seed': an earlier row asks for the same images; give another seed, or an id")
        values.setdefault("seed", _seed_of(seed, key))
        try:
            rows.append(PromptRow(number, row_id, name, GenerationRequest(**values)))
        except GenerationError as error:  # two columns that do not go together; its words quote no cell
            problems.add(number, str(error))
    problems.raise_if_any(shown, GenerationError)
    if not rows:
        raise GenerationError(f"{shown}: holds no rows; give at least one report")
    return rows


def table_modality(path: Path, shown: str | None = None) -> Modality | None:
    """Returns the modality that all rows of a table name; none if they name none, or more than one.

    Args:
        path: The file.
        shown: What errors call the table; its path if not given.

    Raises:
        GenerationError: If the file cannot be read or the header is wrong.
    """
    named = {cells.get("modality", "").strip() for _, cells in _read_rows(path, shown or str(path), RowProblems())}
    return next((known for known in get_args(Modality) if named == {known}), None)


def safe_name(text: str) -> str:
    """Returns a text as part of a file's name: letters, digits, `-`, `_` and single dots, at most 80 characters.

    Where that changes the text, a piece of its hash follows, so that two texts never share a name. No name leaves its
    folder, since none holds a separator or is made of dots.
    """
    safe = re.sub(r"\.{2,}|[^A-Za-z0-9._-]", "_", text).strip(".")[:_LONGEST_NAME]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARACTERS]}"


def _seed_of(seed: int, key: str) -> int:
    return (seed + int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)) % (MAX_SEED + 1)


def _suffix(repeat: int) -> str:
    return f"-{repeat}" if repeat > 1 else ""


def _read_rows(path: Path, shown: str, problems: RowProblems) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise GenerationError(f"{shown}: there is no such file; give a CSV with a column 'report'")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(shown, list(reader.fieldnames or ()))
            yield from read_csv_rows(reader, problems)
    except OSError as error:
        raise GenerationError(f"{shown}: cannot be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise GenerationError(f"{shown}: is not UTF-8 text; save it as CSV in UTF-8 and try again") from None
    except csv.Error:  # its text may hold a cell
        raise GenerationError(f"{shown}: is not a valid CSV table; export it again") from None


def _check_columns(shown: str, names: list[str]) -> None:
    """Refuses a header that is missing or mistyped; other columns are a table's own business and are passed over."""
    if not names:
        raise GenerationError(f"{shown}: is empty; give a CSV with a column 'report' and a row for each report")
    complaints = [f"column {name!r} stands twice" for name in COLUMNS if names.count(name) > 1]
    if "report" not in names:
        hint = "; separate columns by commas" if len(names) == 1 and re.search(r"[;\t]", names[0]) else ""
        complaints.append(f"column 'report' is missing{hint}")
    for name in COLUMNS:
        near = difflib.get_close_matches(name, [found for found in names if found not in COLUMNS], n=1, cutoff=0.75)
        if near and name not in names:
            complaints.append(f"a column is nearly called {name!r}; call it so, or something else")
    if complaints:
        raise GenerationError(f"{shown}: {'; '.join(complaints)}. Known columns: {', '.join(COLUMNS)}")


def _values_of(
    cells: Mapping[str, str], number: int, settings: Mapping[str, Any], problems: RowProblems
) -> dict[str, Any] | None:
    """Returns the settings of a request, or `None` if the row breaks a rule."""
    values = {name: value for name, value in settings.items() if value is not None}
    values["report"] = cells["report"]
    rules = []
    if not cells["report"].strip():
        rules.append("column 'report': must not be empty")
    if len(cells["report"]) > MAX_REPORT_CHARACTERS:
        rules.append(f"column 'report': must have at most {MAX_REPORT_CHARACTERS:,} characters")
    for name, choices in _CLOSED.items():
        if cell := cells.get(name, "").strip():
            values[name] = cell
            if cell not in choices:
                rules.append(f"column {name!r}: must be one of {', '.join(choices)}, or empty")
    for name, (least, most) in _NUMBERS.items():
        if cell := cells.get(name, "").strip():
            values[name] = int(cell) if _WHOLE_NUMBER.fullmatch(cell) else -1
            if not least <= values[name] <= most:
                rules.append(f"column {name!r}: must be a whole number from {least} to {most}, or empty")
    for rule in rules:
        problems.add(number, rule)
    return None if rules else values
