"""What is wrong with a table's rows, told all at once: each broken rule with the numbers of its rows, never a cell."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arra_med.errors import UserError


@dataclass
class RowProblems:
    """Broken rules, each with the rows that break it; row 1 is the first below the header."""

    rows: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: int, rule: str) -> None:
        """Notes that a row breaks a rule; the rule quotes no cell, since a shifted column may hold identifiers."""
        if not self.rows[rule] or self.rows[rule][-1] != row:
            self.rows[rule].append(row)

    def raise_if_any(self, path: Path | str, kind: type[UserError]) -> None:
        """Tells every rule with its rows.

        Args:
            path: The table, or what the message calls it.
            kind: The error to raise.

        Raises:
            UserError: Of `kind`, if any row breaks a rule.
        """
        if self.rows:
            bad = {row for rows in self.rows.values() for row in rows}
            lines = [f"row {_ranges(rows)}: {rule}" for rule, rows in sorted(self.rows.items(), key=lambda i: i[1][0])]
            raise kind(
                f"{path}: {len(bad)} bad rows; mend them and try again (row 1 is the first below the header):\n"
                + "\n".join(lines)
            )


def read_csv_rows(reader: csv.DictReader, problems: RowProblems) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (row number from 1, cells by column), absent cells empty; reports rows of another length than the header."""
    for number, row in enumerate(reader, start=1):
        if None in row:
            problems.add(number, "has more cells than the header has columns")
        elif None in row.values():
            problems.add(number, "has fewer cells than the header has columns")
        yield number, {name: cell or "" for name, cell in row.items() if name is not None}


def _ranges(rows: Sequence[int]) -> str:
    """Returns rows as text, neighbours joined: [2, 3, 4, 9] -> "2-4, 9"."""
    parts: list[list[int]] = []
    for row in rows:
        if parts and row == parts[-1][1] + 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
