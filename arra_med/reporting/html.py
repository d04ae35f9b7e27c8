"""A report as one HTML file that needs nothing else: no script, no network, readable on a phone and on paper.

Every text goes through the template's escaping, whatever its source; charts are XML elements and pictures data URIs, so
no caller can hand markup in. The page forbids itself scripts and requests by a content security policy.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self
from xml.etree import ElementTree

import jinja2
import numpy as np
from markupsafe import Markup

from arra_med.reporting.pictures import data_uri
from arra_med.runs import atomic_file

_FOLDER = Path(__file__).resolve().parent
_SHOWN_SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True)
class Cell:
    """A value as it is shown."""

    text: str
    is_number: bool = False
    share: float = 0.0


Value = str | int | float | Cell | None
"""A cell: numbers are aligned and get thousands separators, `None` is shown as a dash, a `Cell` is taken as it is."""


@dataclass(frozen=True)
class _Text:
    kind: ClassVar[str] = "text"
    words: str


@dataclass(frozen=True)
class _Marked:
    kind: ClassVar[str] = "marked"
    parts: tuple[tuple[str, bool | None], ...]


@dataclass(frozen=True)
class _Facts:
    kind: ClassVar[str] = "facts"
    facts: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class _Counts:
    kind: ClassVar[str] = "counts"
    lists: tuple[tuple[str, tuple[tuple[str, Cell, str], ...]], ...]


@dataclass(frozen=True)
class _Table:
    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class _Charts:
    kind: ClassVar[str] = "charts"
    caption: str
    drawings: tuple[Markup, ...]


@dataclass(frozen=True)
class _Pictures:
    kind: ClassVar[str] = "pictures"
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Plot:
    kind: ClassVar[str] = "plot"
    source: str
    caption: str


@dataclass
class Section:
    """One part of a report; every method adds a block at its end and returns the section.

    Attributes:
        title: Its heading.
        blocks: What it holds, in order.
    """

    title: str
    blocks: list[Any] = field(default_factory=list)

    def text(self, words: str) -> Self:
        """Adds a paragraph."""
        return self._add(_Text(words))

    def marked(self, parts: Iterable[tuple[str, bool | None]]) -> Self:
        """Adds a paragraph of parts that are marked (True), struck out in grey (False) or plain (None)."""
        return self._add(_Marked(tuple(parts)))

    def facts(self, facts: Mapping[str, Value]) -> Self:
        """Adds key figures: a large value over a small name each."""
        return self._add(_Facts(tuple((name, cell(value)) for name, value in facts.items())))

    def counts(self, counts: Mapping[str, Mapping[str, int]]) -> Self:
        """Adds lists of counts, as many side by side as fit, with bars and each count's share of its list.

        Args:
            counts: Count by name, in the order wanted, by the list's title; lists without a count are left out.
        """
        return self._add(
            _Counts(tuple((title, _bars(its_counts)) for title, its_counts in counts.items() if its_counts))
        )

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Value]], caption: str = "") -> Self:
        """Adds a table.

        Args:
            columns: Their names.
            rows: Values in the order of the columns.
            caption: What the table shows.

        Raises:
            ValueError: If a row has not one value for each column.
        """
        cells = tuple(tuple(map(cell, row)) for row in rows)
        if any(len(row) != len(columns) for row in cells):
            raise ValueError(f"every row of a table needs {len(columns)} values, one for each column")
        return self._add(_Table(caption, tuple(columns), cells))

    def cross_table(
        self, corner: str, columns: Sequence[str], counts: Mapping[str, Mapping[str, int]], caption: str = ""
    ) -> Self:
        """Adds a table of counts whose cells are shaded by their share of the row's sum, which stands in a last column.

        Args:
            corner: Names what the rows are.
            columns: Names of the columns.
            counts: Count by row and column; a missing one is a dash.
            caption: What the table shows.
        """
        rows = []
        for name, row in counts.items():
            total = sum(row.values())
            cells = [Cell(f"{row[c]:,}", True, row[c] / total) if row.get(c) else Cell("–", True) for c in columns]
            rows.append((Cell(name), *cells, Cell(f"{total:,}", True)))
        return self._add(_Table(caption, (corner, *columns, "all"), tuple(rows)))

    def charts(self, drawings: Iterable[ElementTree.Element], caption: str = "") -> Self:
        """Adds SVG charts of `arra_med.reporting.charts` side by side, as many as fit."""
        drawn = tuple(Markup(ElementTree.tostring(drawing, encoding="unicode")) for drawing in drawings)
        return self._add(_Charts(caption, drawn))

    def plot(self, svg: bytes, caption: str) -> Self:
        """Adds a finished plot over the whole width; on a phone it scrolls in its own frame.

        Args:
            svg: An SVG file, shown as a picture, so that nothing in it can run.
            caption: What it shows, for those who do not see it, too.
        """
        return self._add(_Plot(f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}", caption))

    def pictures(self, pictures: Iterable[tuple[np.ndarray, str]], max_side_px: int = 192) -> Self:
        """Adds a sheet of (pixels, caption).

        Args:
            pictures: Pixels are uint8, (H, W) grayscale or (H, W, 3) RGB.
            max_side_px: Larger pictures are made smaller.
        """
        return self._add(_Pictures(tuple((data_uri(pixels, max_side_px), caption) for pixels, caption in pictures)))

    def _add(self, block: Any) -> Self:
        self.blocks.append(block)
        return self


class HtmlReport:
    """A report that is written as one HTML file.

    Example:
        `report = HtmlReport("Two runs", banner="Research use only"); report.section("Losses").text("They agree.")`,
        then `report.write(path)`.

    Args:
        title: Heading and title of the page.
        banner: What a reader must know before anything else; it stays on top of the screen.
        subtitle: One sentence below the heading.
        footer: What made the report.
    """

    def __init__(self, title: str, *, banner: str, subtitle: str = "", footer: str = "") -> None:
        self.title = title
        self.banner = banner
        self.subtitle = subtitle
        self.footer = footer
        self.sections: list[Section] = []

    def section(self, title: str) -> Section:
        """Adds an empty section at the end and returns it."""
        self.sections.append(Section(title))
        return self.sections[-1]

    def html(self) -> str:
        """Returns the page; the same content gives the same text."""
        return page_template("report.html.jinja").render(report=self, style=Markup(page_file("report.css")))

    def write(self, path: Path, mode: int = 0o644) -> None:
        """Writes the page atomically, with these permission bits."""
        with atomic_file(path, mode) as partial:
            partial.write_text(self.html(), encoding="utf-8")


def page_file(name: str) -> str:
    """Returns the text of a style or script that goes into a page."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def page_template(name: str) -> jinja2.Template:
    """Returns a template of this room, which escapes every text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _bars(counts: Mapping[str, int]) -> tuple[tuple[str, Cell, str], ...]:
    total, largest = sum(counts.values()) or 1, max(counts.values()) or 1
    return tuple(
        (name, Cell(f"{count:,}", True, count / largest), f"{count / total:.1%}") for name, count in counts.items()
    )


def cell(value: Value) -> Cell:
    """Returns a value as reports show it."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–")
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, int):
        return Cell(f"{value:,}", True)
    return Cell(f"{value:.{_SHOWN_SIGNIFICANT_DIGITS}g}", True)
