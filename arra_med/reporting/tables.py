"""A table that stands in a report and in a Markdown file with the same values."""

from collections.abc import Iterable
from dataclasses import dataclass

from arra_med.reporting.html import Cell, Section


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        title: Over it in Markdown.
        columns: Their names.
        rows: Cells in the order of the columns; the first one names the row.
        note: What it shows and what its words mean.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str


def markdown(tables: Iterable[Table], heading: str, notice: str) -> str:
    """Returns tables as one Markdown text; numbers are aligned to the right."""
    parts = [f"# {_escaped(heading)}", _escaped(notice)]
    for table in tables:
        marks = [
            "---:" if table.rows and any(row[column].is_number for row in table.rows) else "---"
            for column in range(len(table.columns))
        ]
        lines = [table.columns, marks, *([cell.text for cell in row] for row in table.rows)]
        grid = "\n".join(f"| {' | '.join(_escaped(text) for text in line)} |" for line in lines)
        parts += [f"## {_escaped(table.title)}", grid, *([_escaped(table.note)] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def add_table(section: Section, table: Table) -> None:
    """Adds a table to a report's section; its title and note stand over it."""
    section.table(table.columns, table.rows, f"{table.title}. {table.note}" if table.note else table.title)


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
