"""The sections of a radiology report, found by their headers (MIMIC-CXR style, other styles, or none)."""

import re

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
    ),
    "comparison": ("comparison", "comparisons", "comparison study", "prior studies", "previous studies"),
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
        "discussion",
        "wet read",
        "addendum",
    ),
}
"""Section name -> the headers that open it. `other` holds what does not describe the image."""

_SECTION_OF = {header: section for section, headers in SECTIONS.items() for header in headers}
_HEADERS = "|".join(name.replace(" ", r"[ \t]+") for name in sorted(_SECTION_OF, key=len, reverse=True))
_INLINE_HEADERS = "findings|impression|conclusion|indication|comparison|technique"
_HEADER = re.compile(
    # At the start of a line or after a sentence a header's case is free, and it ends with a colon ...
    rf"(?:^|(?<=[\n.!?;\"]))[ \t*#]*(?P<after_sentence>{_HEADERS})[ \t*]*:[ \t*]*"
    # ... within a line it must be capitalised ("heart enlarged IMPRESSION: cardiomegaly") ...
    rf"|(?<!\S)(?=(?-i:[A-Z]))(?P<within_line>{_INLINE_HEADERS})[ \t]*:[ \t]*"
    # ... and on a line of its own it needs no colon.
    rf"|^[ \t*#]*(?P<own_line>{_HEADERS})[ \t*]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE_LINE = re.compile(
    r"^[ \t]*(?:final|preliminary|end of|radiology)[ \t]+report[ \t:.]*$", re.IGNORECASE | re.MULTILINE
)


def split_sections(text: str) -> dict[str, str]:
    """Splits a report at its headers.

    Headers may be in any case, inline or on a line of their own; a section that occurs twice is joined by a blank line.

    Args:
        text: The whole report.

    Returns:
        Text by section name (`findings`, `impression`, `indication`, `comparison`, `technique`, `other`), and `""` for
        text outside headers. Only sections that hold text are there.
    """
    text = _TITLE_LINE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    bodies: dict[str, list[str]] = {}
    section, start = "", 0
    for header in _HEADER.finditer(text):
        bodies.setdefault(section, []).append(text[start : header.start()])
        name = header["after_sentence"] or header["within_line"] or header["own_line"]
        section, start = _SECTION_OF[" ".join(name.lower().split())], header.end()
    bodies.setdefault(section, []).append(text[start:])
    joined = {name: "\n\n".join(body.strip() for body in parts if body.strip()) for name, parts in bodies.items()}
    return {name: body for name, body in joined.items() if body}
