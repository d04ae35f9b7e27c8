"""The tables of published data sets, row by row: CSV, plain or gzipped, and JSON. Messages never hold a cell."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from arra_med.errors import ManifestError
from arra_med.sources.layout import Places

_Meaning = TypeVar("_Meaning")
_UNREADABLE = (OSError, EOFError, csv.Error, zlib.error, UnicodeDecodeError)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: The table.
        number: Counts from 1, the first row below the header.
        cells: Text by column, without space around it; an empty cell is unknown.
    """

    table: Path
    number: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def refusal(self, column: str, rule: str) -> ManifestError:
        """Returns the error that says which cell breaks which rule, without the cell."""
        return ManifestError(f"{self.table}: row {self.number}: column {column!r}: {rule}; mend the row and try again")

    def filled(self, column: str) -> str:
        """Returns a cell that must not be empty.

        Raises:
            ManifestError: If it is.
        """
        if not self[column]:
            raise self.refusal(column, "must not be empty")
        return self[column]

    def one_of(self, column: str, meanings: Mapping[str, _Meaning]) -> _Meaning:
        """Returns what a cell of a closed vocabulary means.

        Raises:
            ManifestError: If the cell holds another word.
        """
        if self[column] not in meanings:
            words = ", ".join(word or "empty" for word in meanings)
            raise self.refusal(column, f"must be one of {words}")
        return meanings[self[column]]

    def inside(self, places: Places, column: str, *parts: str) -> Path:
        """Returns the path that a cell names.

        Args:
            places: The folder it must lie in.
            column: The column to blame.
            parts: The path's parts, made from the cell; without any, the cell itself.

        Raises:
            ManifestError: If the path leaves the folder, by `..`, as an absolute path, or through a link.
        """
        path = places.inside(*(parts or (self[column],)))
        if path is None:
            raise self.refusal(column, "must name a file that lies inside the folder, also behind links")
        return path


def find_table(folder: Path, name: str) -> Path | None:
    """Returns the table `name` or `name.gz` in a folder, or `None`."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_table(path: Path, *columns: str, either: tuple[str, ...] = ()) -> Iterator[Row]:
    """Reads a CSV table (UTF-8, also gzipped) row by row.

    Args:
        path: The table.
        columns: Columns that must be there; others are read too.
        either: Columns of which at least one must be there.

    Raises:
        ManifestError: If the file cannot be read, a column is missing, or a row has too many or too few cells.
    """
    try:
        with _open(path) as stream:
            reader = csv.DictReader(stream, strict=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            absent = [repr(name) for name in columns if name not in names]
            if either and not set(either) & set(names):
                absent.append(" or ".join(map(repr, either)))
            if absent:
                raise ManifestError(f"{path}: column {', '.join(absent)} is missing; use the table as it was published")
            for number, cells in enumerate(reader, start=1):
                if None in cells or None in cells.values():
                    raise ManifestError(
                        f"{path}: row {number}: must have as many cells as the header; mend the row and try again"
                    )
                yield Row(path, number, {name: cell.strip() for name, cell in cells.items()})
    except _UNREADABLE:
        raise ManifestError(f"{path}: cannot be read as a CSV table; copy it again from its source") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ManifestError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raise ManifestError(f"{path}: cannot be read as JSON; copy it again from its source") from None


def _open(path: Path) -> io.TextIOWrapper:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
