"""The sections of a radiology report, found by their headers (MIMIC-CXR style, other styles, or none)."""

import re
from typing import NamedTuple

SECTIONS: dict[str, tuple[str, ...]] = {
    "findings": (
        "findings",
        "finding",
        "imaging findings",
        "radiological findings",
        "chest findings",
        "observations",
        "description",
        "imaging notes",
        "findins",
        "findindgs",
        "findgings",
        "findngs",
        "findnings",
        "finidngs",
    ),
    "impression": (
        "impression",
        "impressions",
        "final impression",
        "conclusion",
        "conclusions",
        "opinion",
        "summary",
        "interpretation",
        "diagnosis",
        "final diagnosis",
        "keywords",
        "diagnostic keywords",
        "impresson",
        "imprression",
        "imoression",
        "impressoin",
        "imprssion",
        "impresion",
        "imperssion",
        "impession",
        "mpression",
        "findings and impression",
        "findings/impression",
        "impression and recommendation",
        "impression and recommendations",
    ),
    "indication": (
        "indication",
        "indications",
        "clinical indication",
        "history",
        "clinical history",
        "patient history",
        "clinical information",
        "clinical details",
        "clinical data",
        "reason for exam",
        "reason for examination",
        "reason for this examination",
        "reason for study",
        "presentation",
        "pfi",
        "idication",
    ),
    "comparison": (
        "comparison",
        "comparisons",
        "comparison study",
        "comparison exam",
        "comparison film",
        "reference exam",
        "prior studies",
        "previous studies",
        "comparision",
        "comparsion",
    ),
    "technique": (
        "technique",
        "examination",
        "exam",
        "procedure",
        "type of examination",
    ),
    "other": (
        "notification",
        "notifications",
        "recommendation",
        "recommendations",
        "recommendation(s)",
        "comment",
        "date",
        "discussion",
        "wet read",
        "wetread",
        "addendum",
    ),
}
"""Section name -> the headers that open it, misspelt ones of MIMIC-CXR among them. `other` does not describe the image."""

# Upper-case lines of MIMIC-CXR that no list can hold: "CT FINDINGS:", "PORTABLE CHEST, TWO VIEWS:".
_CONTAINED = {
    "impression": "impression",
    "findings": "findings",
    "history": "indication",
    "comparison": "comparison",
    "addendum": "other",
}
_NAMES_THE_IMAGE = re.compile(
    r"\b(?:chest|portable|views?|frontal|(?:pa|ap|lateral) and (?:pa|ap|lat(?:eral)?)|ribs)\b", re.IGNORECASE
)

_SECTION_OF = {header: section for section, headers in SECTIONS.items() for header in headers}
_HEADERS = "|".join(re.escape(name).replace(r"\ ", r"[ \t]+") for name in sorted(_SECTION_OF, key=len, reverse=True))
_INLINE_HEADERS = "findings|impression|conclusion|indication|comparison|technique"
_HEADER = re.compile(
    # At the start of a line or after a sentence a header's case is free, and it ends with a colon ...
    rf"(?:^|(?<=[\n.!?;\"]))[ \t*#]*(?P<after_sentence>{_HEADERS})[ \t*]*:[ \t*]*"
    # ... within a line it must be capitalised ("heart enlarged IMPRESSION: cardiomegaly") ...
    rf"|(?<!\S)(?=(?-i:[A-Z]))(?P<within_line>{_INLINE_HEADERS})[ \t]*:[ \t]*"
    # ... and on a line of its own it needs a capital ("no acute / findings" is a wrapped sentence) and no colon.
    rf"|^[ \t*#]*(?=(?-i:[A-Z]))(?P<own_line>{_HEADERS})[ \t*]*$"
    # An upper-case line up to its colon may be a header of another name.
    r"|^[ \t]*(?P<upper_case>(?-i:[A-Z][A-Z ()/,-]{2,60})):[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE_LINE = re.compile(
    r"^[ \t]*(?:final|preliminary|end of|radiology)[ \t]+report[ \t:.]*$", re.IGNORECASE | re.MULTILINE
)


class SectionSpan(NamedTuple):
    """A stretch of a report that belongs to one section.

    Attributes:
        name: Of the section; `""` outside headers.
        start: Of its text, behind the header.
        end: Behind its text.
    """

    name: str
    start: int
    end: int


def split_sections(text: str) -> dict[str, str]:
    """Splits a report at its headers; see `section_spans`.

    Args:
        text: The whole report.

    Returns:
        Text by section name (`findings`, `impression`, `indication`, `comparison`, `technique`, `other`), and `""` for
        text outside headers. Only sections that hold text are there; one that occurs twice is joined by a blank line.
    """
    text = _without_titles(unix_lines(text))
    bodies: dict[str, list[str]] = {}
    for name, start, end in section_spans(text):
        bodies.setdefault(name, []).append(text[start:end].strip())
    return {name: "\n\n".join(parts) for name, parts in bodies.items()}


def section_spans(text: str) -> list[SectionSpan]:
    """Finds the sections of a report, in its order.

    Headers may be in any case, inline or on a line of their own. An upper-case line that holds a section's name ("CT
    FINDINGS:") opens it too, and one that names the image ("PORTABLE CHEST:") opens the findings, or, with nothing behind
    it, is technique, as in the section parser published with MIMIC-CXR. Other upper-case words before a colon ("LUNGS:")
    are part of the text.

    Args:
        text: The whole report, as `unix_lines` gives it.

    Returns:
        Stretches that hold text.
    """
    text = _without_titles(text)
    spans: list[SectionSpan] = []
    section, start, body_start = "", 0, 0

    def close(end: int) -> None:
        # The words of a header that names the image are kept: they hold the view.
        names_the_image = start < body_start
        empty = names_the_image and not text[body_start:end].strip()
        if text[start:end].strip():
            spans.append(SectionSpan("technique" if empty else section, start, end))

    for header in _HEADER.finditer(text):
        name = header["after_sentence"] or header["within_line"] or header["own_line"]
        opened = _SECTION_OF[" ".join(name.lower().split())] if name else _section_of_line(header["upper_case"])
        if opened is None:
            continue
        close(header.start())
        section, start, body_start = opened, header.end(), header.end()
        if not name and not _contained_section(header["upper_case"]):
            start = header.start()
    close(len(text))
    return spans


def unix_lines(text: str) -> str:
    """Returns a text whose lines end with a line feed alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_titles(text: str) -> str:
    return _TITLE_LINE.sub(lambda title: " " * len(title[0]), text)


def _contained_section(words: str) -> str | None:
    return next((section for name, section in _CONTAINED.items() if name in words.lower()), None)


def _section_of_line(words: str) -> str | None:
    """Returns the section that an upper-case line opens; `None` if it is no header."""
    return _contained_section(words) or ("findings" if _NAMES_THE_IMAGE.search(words) else None)
