"""What a folder of studies holds: its files in a fixed order, and the reports beside them."""

import os
from pathlib import Path

from arra_med.records.observations import labels_from_report
from arra_med.records.study import StudyRecord

LOCAL_LICENCE = "Local data: the holder's own terms"

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"})
"""Files with these suffixes are meant as images; those that cannot be read go to quarantine, not out of sight."""


def visible_files(folder: Path) -> list[Path]:
    """Returns all regular files below a folder, sorted, without hidden files and folders; links are not followed."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(base, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def report_beside(image: Path) -> str:
    """Returns the text of the .txt file with the image's stem, or "" if there is none."""
    return read_report(image.with_suffix(".txt"))


def read_report(path: Path) -> str:
    """Returns the text of a report file, or "" if it is not there, is a link or cannot be opened.

    A link may point to any file of the machine. Files that are not UTF-8 are read as Latin-1, which older report
    systems write.
    """
    try:
        content = b"" if path.is_symlink() else path.read_bytes()
    except OSError:
        return ""
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()


def with_report(record: StudyRecord, report: str) -> StudyRecord:
    """Returns the record with a clinician's report and, of a chest radiograph, the findings that the report states."""
    if not report:
        return record
    labels = labels_from_report(report) if record.modality == "cxr" else ()
    return record.model_copy(update={"report": report, "report_kind": "written", "labels": labels})
