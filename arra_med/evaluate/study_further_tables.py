"""Tables of the parts of `comparison.json` that other modules write: records, mappings of records, and what nests in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.evaluate.study_tables import MISSING, readable
from arra_med.reporting.html import Cell
from arra_med.reporting.tables import Table

_BOUNDS = "interval"
_OF_A_SHARE = {"count", "total", "rate", "interval"}
_OF_AN_INTERVAL = {"low", "high", "confidence"}


def further_tables(title: str, content: Any) -> list[Table]:
    """Returns tables of a value whose form is not known beforehand.

    Records become rows; what is the same in all of them stands in the note. A mapping of records has a row for each
    name. What nests deeper has a table of its own, whose rows say which record they come from.

    Args:
        title: Of the part.
        content: A list of mappings, or a mapping of anything.
    """
    if _is_records(content):
        return _tables_of_records(title, content)
    if not isinstance(content, Mapping) or not content:
        return []
    if all(_is_flat_mapping(value) for value in content.values()):
        return _tables_of_records(title, [{"name": name, **value} for name, value in content.items()])
    nested = {name: value for name, value in content.items() if _is_nested(value)}
    plain = [(Cell(readable(str(name))), _shown(value)) for name, value in content.items() if name not in nested]
    tables = [Table(title, ("what", "value"), tuple(plain), "")] if plain else []
    for name, value in nested.items():
        tables += further_tables(f"{title}: {readable(str(name))}", value)
    return tables


def _tables_of_records(title: str, rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    deep = [name for name in columns if any(_is_records(row.get(name)) for row in rows)]
    columns = [name for name in columns if name not in deep]
    tables = [_table(title, columns, rows)] if columns else []
    whose = next((name for name in columns if any(isinstance(row.get(name), str) for row in rows)), None)
    for name in deep:
        inner = [
            {**({whose: row.get(whose)} if whose else {}), **record}
            for row in rows
            if _is_records(row.get(name))
            for record in row[name]
        ]
        tables += _tables_of_records(f"{title}: {readable(name)}", inner)
    return tables


def _table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [
        [_bounds(row[name]) if name == _BOUNDS and row.get(name) else _shown(row.get(name)) for name in columns]
        for row in rows
    ]
    for column, name in enumerate(columns):  # a value that is missing among numbers stands where they do
        there = [line[column] for row, line in zip(rows, cells, strict=True) if row.get(name) is not None]
        if there and all(cell.is_number for cell in there):
            for row, line in zip(rows, cells, strict=True):
                line[column] = line[column] if row.get(name) is not None else MISSING
    texts = {column: {line[column].text for line in cells} for column in range(len(columns))}
    varied = [column for column, there in texts.items() if column == 0 or len(cells) == 1 or len(there) > 1]
    same = {columns[column]: min(there) for column, there in texts.items() if column not in varied}
    told = [f"{readable(name)} {text}" for name, text in same.items() if text not in ("", MISSING.text)]
    return Table(
        title,
        tuple(readable(columns[column]) for column in varied),
        tuple(tuple(line[column] for column in varied) for line in cells),
        f"In all rows: {'; '.join(told)}." if told else "",
    )


def _is_records(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_interval(value: Any) -> bool:
    return isinstance(value, Mapping) and {"low", "high"} <= value.keys()


def _is_flat_mapping(value: Any) -> bool:
    """Whether a mapping fits into a row: its values are plain, intervals, or mappings of plain ones."""
    if not isinstance(value, Mapping) or _is_interval(value):
        return False
    return all(
        _is_interval(inner) or not isinstance(inner, Mapping) or not any(isinstance(v, Mapping) for v in inner.values())
        for inner in value.values()
    )


def _is_nested(value: Any) -> bool:
    return _is_records(value) or (isinstance(value, Mapping) and bool(value) and not _is_interval(value))


def _bounds(value: Any) -> Cell:
    """A pair of bounds that stands in a column of its own."""
    low, high = value
    return Cell(f"{_short(low)} to {_short(high)}", True)


def _shown(value: Any) -> Cell:
    if _is_interval(value):
        middle = next(
            (v for name, v in value.items() if name not in _OF_AN_INTERVAL and isinstance(v, int | float)), None
        )
        return Cell(f"{_short(middle)} [{_short(value['low'])}, {_short(value['high'])}]", True)
    if isinstance(value, Mapping) and value.keys() == _OF_A_SHARE:
        low, high = value["interval"]
        return Cell(f"{value['count']:,} of {value['total']:,} ({low:.1%} to {high:.1%})", True)
    if isinstance(value, Mapping):
        return Cell(", ".join(f"{readable(str(name))} {_shown(inner).text}" for name, inner in value.items()) or "–")
    if isinstance(value, list | tuple):
        return Cell(", ".join(_short(inner) for inner in value) or "–")
    return Cell(_short(value), isinstance(value, int | float) and not isinstance(value, bool))


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:z.3g}" if isinstance(value, float) else str(value)
