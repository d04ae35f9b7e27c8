"""The reports in one file that a user gives: plain text, a DICOM structured report, or a CSV with a column `report`."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from arra_med.errors import ImageError, ReportError
from arra_med.imaging.dicom import parse_dicom, silent_pydicom

MAX_REPORT_BYTES = 1_000_000
MAX_FILE_BYTES = 16_000_000
"""Of a structured report, which may hold much beside its text."""

_DICOM_MAGIC = slice(128, 132)
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a compressed file",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"{\\rtf": "rich text",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
_MAX_DEPTH = 20
_SR_CLASS = "1.2.840.10008.5.1.4.1.1.88."  # all storage classes of structured reports: DICOM PS3.4, table B.5-1


def read_report_file(path: Path, name: str | None = None) -> list[str]:
    """Reads the reports of a file; what it is is told by its content, a table by the suffix `.csv` of its name.

    Args:
        path: The file.
        name: What errors call it; the path if not given.

    Returns:
        One report; of a table, that of every row.

    Raises:
        ReportError: If the file cannot be read, is too large, of another kind, or holds no report. Nothing of its content
            is quoted.
    """
    shown = name or str(path)
    try:
        size = path.stat().st_size
        if size <= MAX_FILE_BYTES:
            raw = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{shown}: cannot be read ({error.strerror}); give an existing text file") from None
    is_dicom = size <= MAX_FILE_BYTES and raw[_DICOM_MAGIC] == b"DICM"
    if size > (MAX_FILE_BYTES if is_dicom else MAX_REPORT_BYTES):
        advice = "a report is a page of text"
        if path.suffix.lower() == ".csv":
            advice = "draw a large table with the command arra-med generate --prompts FILE.csv --out FOLDER"
        raise ReportError(f"{shown}: is larger than {MAX_REPORT_BYTES:,} bytes; {advice}")
    if is_dicom:
        return [_structured_report(raw, shown)]
    text = decoded_report(raw, shown)
    return _table(text, shown) if path.suffix.lower() == ".csv" else [text]


def decoded_report(raw: bytes, shown: str) -> str:
    """Returns the text of a plain report.

    Args:
        raw: The file's bytes.
        shown: What errors call it.

    Raises:
        ReportError: If it is too large, or no text in UTF-8.
    """
    if len(raw) > MAX_REPORT_BYTES:
        raise ReportError(f"{shown}: is larger than {MAX_REPORT_BYTES:,} bytes; a report is a page of text")
    for magic, kind in _OTHER_KINDS.items():
        if raw.startswith(magic):
            raise ReportError(f"{shown}: is {kind}; save the report as plain UTF-8 text, or give a DICOM SR or a CSV")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReportError(f"{shown}: is not UTF-8 text; save the report as plain UTF-8 text") from None
    if "\0" in text:
        raise ReportError(f"{shown}: is no text, it holds zero bytes; save the report as plain UTF-8 text")
    return text


def _table(text: str, shown: str) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error:
        raise ReportError(f"{shown}: is no readable CSV; save the table again as CSV in UTF-8") from None
    if not rows or "report" not in rows[0]:
        raise ReportError(f"{shown}: is a table without a row or a column 'report'; name the column of the reports so")
    reports = [row["report"] or "" for row in rows]
    if not any(report.strip() for report in reports):
        raise ReportError(f"{shown}: all reports of the table are empty; give a table with at least one report")
    return reports


def _structured_report(raw: bytes, shown: str) -> str:
    """The text of a DICOM SR, its headings as section headers; persons, dates and numbers in it are left out."""
    with silent_pydicom():
        try:
            header = parse_dicom(raw)
            sop_class = str(header.get("SOPClassUID", ""))
            text = "\n\n".join(_texts(header, 0))
        except ImageError as error:
            raise ReportError(f"{shown}: {error}") from None
        except Exception as error:  # noqa: BLE001 - pydicom raises anything on damaged data
            raise ReportError(
                f"{shown}: is a damaged DICOM file ({type(error).__name__}); export it again from its source"
            ) from None
    if not sop_class.startswith(_SR_CLASS):
        raise ReportError(f"{shown}: is a DICOM file, but no structured report; give a DICOM SR or the report's text")
    if not re.search(r"\w", text):
        raise ReportError(f"{shown}: is a structured report without text; give the report as plain text")
    return text


def _texts(item: Dataset, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        return []
    found: list[str] = []
    for content in item.get("ContentSequence") or ():
        kind = content.get("ValueType")
        heading = _meaning(content.get("ConceptNameCodeSequence")).upper()
        if kind == "CONTAINER":
            parts = _texts(content, depth + 1)
        elif kind == "TEXT":
            parts = [str(content.get("TextValue", "")).strip(), *_texts(content, depth + 1)]
        elif kind == "CODE":
            parts = [_meaning(content.get("ConceptCodeSequence")), *_texts(content, depth + 1)]
        else:
            continue  # persons, dates, UIDs, numbers, images
        body = "\n".join(part for part in parts if part)
        if body:
            found.append(f"{heading}:\n{body}" if heading else body)
    return found


def _meaning(codes: Any) -> str:
    return str(codes[0].get("CodeMeaning", "")).strip() if codes else ""
