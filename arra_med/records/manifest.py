"""Tables of studies: CSV, JSONL or Parquet in, `StudyRecord`s out, and every bad row reported at once.

Columns are the fields of `StudyRecord`. `image_id`, `path`, `patient_id`, `modality` and `source` must be there;
an empty cell means unknown. Several labels in one cell are separated by `|`, or by commas where there is no `|`.
"""

import csv
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from arra_med.errors import ManifestError
from arra_med.records.row_problems import RowProblems, read_csv_rows
from arra_med.records.study import (
    AgeGroup,
    Laterality,
    Modality,
    ReportKind,
    Split,
    StudyRecord,
    View,
    age_group_of,
)
from arra_med.runs import atomic_file

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
REQUIRED_COLUMNS = ("image_id", "path", "patient_id", "modality", "source")
COLUMNS = tuple(StudyRecord.model_fields)

_CLOSED: dict[str, tuple[str, ...]] = {
    "modality": get_args(Modality),
    "view": get_args(View),
    "laterality": get_args(Laterality),
    "sex": ("F", "M"),
    "age_group": get_args(AgeGroup),
    "report_kind": get_args(ReportKind),
    "split": get_args(Split),
}
_TRUTH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_TRUTH_COLUMNS = ("redistributable", "patient_known")
_FILLED = ("image_id", "path", "modality", "source")
_OLDEST_YEARS = 130


def read_manifest(path: Path) -> list[StudyRecord]:
    """Reads a table of studies.

    Args:
        path: A .csv (UTF-8), .jsonl or .parquet file. Relative image paths count from its folder.

    Returns:
        One record for each row, in order. A row without `patient_id` is its own patient with `patient_known` false;
        a missing `age_group` follows from `age`.

    Raises:
        ManifestError: If the file cannot be read, columns are missing or unknown, or any row breaks a rule; the message
            lists every rule with its rows and column. No cell is quoted: a shifted column may hold identifiers.
    """
    problems = RowProblems()
    rows = list(_read_rows(path, problems))
    if not rows:
        problems.raise_if_any(path, ManifestError)
        raise ManifestError(f"{path}: holds no rows; a manifest needs at least one study")
    _check_columns(path, {name for _, row in rows for name in row})
    records = []
    image_ids: set[str] = set()
    splits: dict[tuple[str, str], Split] = {}
    for number, row in rows:
        values = _values_of(row, number, problems)
        if values is None:
            continue
        record = StudyRecord.model_validate(values | {"path": os.path.normpath(path.parent / values["path"])})
        if record.image_id in image_ids:
            problems.add(number, "column 'image_id': must be unique, but an earlier row has the same")
        image_ids.add(record.image_id)
        patient = (record.source, record.patient_id)
        if record.split and splits.setdefault(patient, record.split) != record.split:
            problems.add(number, "column 'split': an earlier row puts the same patient into another split")
        records.append(record)
    problems.raise_if_any(path, ManifestError)
    return records


def write_manifest(records: Sequence[StudyRecord], path: Path) -> None:
    """Writes records as a table that `read_manifest` reads back to equal ones, atomically.

    Args:
        records: The studies; image paths inside the table's folder are written relative to it.
        path: A .csv, .jsonl or .parquet file.

    Raises:
        ManifestError: If the suffix is another, or a label holds `|`.
    """
    _check_suffix(path)
    rows = [_row_of(record, path.parent) for record in records]
    with atomic_file(path) as partial:
        if path.suffix.lower() == ".parquet":
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_parquet_schema()), partial)
        elif path.suffix.lower() == ".jsonl":
            partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS)
                writer.writeheader()
                writer.writerows(_cells_of(row) for row in rows)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        raise ManifestError(f"{path}: a manifest must end with {', '.join(MANIFEST_SUFFIXES)}")


def _check_columns(path: Path, names: Iterable[str]) -> None:
    found = set(names)
    complaints = [f"column {name!r} is missing" for name in REQUIRED_COLUMNS if name not in found]
    for name in sorted(found - set(COLUMNS)):
        near = difflib.get_close_matches(name, COLUMNS, n=1)
        complaints.append(f"column {name!r} is unknown" + (f"; did you mean {near[0]!r}?" if near else ""))
    if complaints:
        raise ManifestError(f"{path}: {'; '.join(complaints)}. Known columns: {', '.join(COLUMNS)}")


def _read_rows(path: Path, problems: RowProblems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (row number from 1, row); reports rows that are no rows at all."""
    _check_suffix(path)
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file; give a table of studies")
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            yield from enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1)
        elif path.suffix.lower() == ".jsonl":
            yield from _read_json_lines(path.read_text(encoding="utf-8-sig"), problems)
        else:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                yield from read_csv_rows(csv.DictReader(stream, strict=True), problems)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror or 'not a table of this kind'})") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: is not UTF-8 text; save it as UTF-8 and try again") from None
    except (csv.Error, ValueError):
        # pyarrow's errors are ValueErrors; their texts may hold cells.
        raise ManifestError(f"{path}: is not a valid {path.suffix} table; export it again") from None


def _read_json_lines(text: str, problems: RowProblems) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(filter(str.strip, text.split("\n")), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict):
            yield number, row
        else:
            problems.add(number, "is not a JSON object on one line")


def _values_of(row: Mapping[str, Any], number: int, problems: RowProblems) -> dict[str, Any] | None:
    """Returns the values of a record, or `None` if the row breaks a rule."""
    rules = []
    cells = {name: "" if row.get(name) is None else row[name] for name in COLUMNS}
    values: dict[str, Any] = {name: str(cell).strip() for name, cell in cells.items()}
    values["report"] = str(cells["report"])
    for name in _FILLED:
        if not values[name]:
            rules.append(f"column {name!r}: must not be empty")
    for name, choices in _CLOSED.items():
        values[name] = values[name] or None
        if values[name] is not None and values[name] not in choices:
            allowed = ", ".join(choices) + ("" if name in _FILLED else ", or empty")
            rules.append(f"column {name!r}: must be one of {allowed}")
    for name in _TRUTH_COLUMNS:
        values[name] = _TRUTH.get(values[name].lower())
        if values[name] is None:
            rules.append(f"column {name!r}: must be yes or no, or empty")
    try:
        values["age"] = float(values["age"]) if values["age"] else None
    except ValueError:
        values["age"] = -1.0
    if values["age"] is not None and not 0 <= values["age"] <= _OLDEST_YEARS:
        rules.append(f"column 'age': must be a number of years from 0 to {_OLDEST_YEARS}, or empty")
    values["labels"] = _labels_of(cells["labels"])
    if rules:
        for rule in rules:
            problems.add(number, rule)
        return None
    if not values["patient_id"]:
        values |= {"patient_id": values["image_id"], "patient_known": False}
    values["age_group"] = values["age_group"] or age_group_of(values["age"])
    return values


def _labels_of(cell: Any) -> tuple[str, ...]:
    if isinstance(cell, str):
        cell = cell.split("|") if "|" in cell else re.split(r"[,\uff0c]", cell)
    elif not isinstance(cell, list):
        cell = [cell]
    return tuple(label for label in (str(part).strip() for part in cell) if label)


def _row_of(record: StudyRecord, folder: Path) -> dict[str, Any]:
    if any("|" in label for label in record.labels):
        raise ManifestError("a label holds '|', which separates labels in a table: rename the label")
    row = record.model_dump(mode="json")
    image, base = Path(os.path.abspath(record.path)), Path(os.path.abspath(folder))
    row["path"] = str(image.relative_to(base)) if image.is_relative_to(base) else str(image)
    return row


def _cells_of(row: Mapping[str, Any]) -> dict[str, Any]:
    labels = row["labels"]
    # One label that holds a comma needs a "|" beside it, so that it is not split.
    joined = "|".join(labels) + ("|" if len(labels) == 1 and "," in labels[0] else "")
    truths = {name: "yes" if row[name] else "no" for name in _TRUTH_COLUMNS}
    return {name: "" if value is None else value for name, value in {**row, **truths, "labels": joined}.items()}


def _parquet_schema() -> Any:
    import pyarrow

    kinds = {"age": pyarrow.float64(), "labels": pyarrow.list_(pyarrow.string())}
    kinds |= dict.fromkeys(_TRUTH_COLUMNS, pyarrow.bool_())
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
