"""A table that stands in a report and in a Markdown file with the same values."""

from collections.abc import Iterable, Sequence
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


def markdown(
    tables: Iterable[Table], heading: str, notice: str, opening: Sequence[str] = (), closing: Sequence[str] = ()
) -> str:
    """Returns tables as one Markdown text; numbers are aligned to the right.

    Args:
        tables: In order.
        heading: Over all of it.
        notice: What a reader must know before anything else.
        opening: Paragraphs of Markdown before the tables.
        closing: Paragraphs of Markdown after them.
    """
    parts = [f"# {escaped(heading)}", escaped(notice), *opening]
    for table in tables:
        marks = [
            "---:" if table.rows and any(row[column].is_number for row in table.rows) else "---"
            for column in range(len(table.columns))
        ]
        lines = [table.columns, marks, *([cell.text for cell in row] for row in table.rows)]
        grid = "\n".join(f"| {' | '.join(escaped(text) for text in line)} |" for line in lines)
        parts += [f"## {escaped(table.title)}", grid, *([escaped(table.note)] if table.note else [])]
    return "\n\n".join([*parts, *closing]) + "\n"


def add_table(section: Section, table: Table) -> None:
    """Adds a table to a report's section; its title and note stand over it."""
    section.table(table.columns, table.rows, f"{table.title}. {table.note}" if table.note else table.title)


def escaped(text: str) -> str:
    """Returns a text as Markdown shows it: on one line, without markup of its own."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
