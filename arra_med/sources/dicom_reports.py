"""A folder of DICOM files and the reports of their studies, joined by accession number or study UID.

    reports.csv               study_uid or accession (or both), and report
    or *.txt                  named by a study UID or an accession number, anywhere in the folder, or beside an image of
                              the same stem

A report belongs to all images of its study; a study UID wins over an accession number, and that over a stem. Several
reports of one study, such as an addendum, are joined by a blank line. A report whose name stands for several patients is
given to none of them: accession numbers are unique in one hospital only.

Source: DICOM PS3.3 C.7.2.1 (Study Instance UID, Accession Number)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from arra_med.imaging.dicom import silent_pydicom
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord
from arra_med.sources.dicom_folder import header_text, read_header, record_of, split_dicom_files
from arra_med.sources.folder import read_report, visible_files, with_report
from arra_med.sources.layout import Found, SourceNote, missing
from arra_med.sources.tables import read_table

LAYOUT = "dicom_reports"
TABLE = "reports.csv"


@dataclass
class _Report:
    """A report, by what its row or file is named after."""

    place: str
    names: dict[str, str]
    text: str
    used: bool = False


@dataclass
class _Study:
    """The images of one name (a study UID, an accession number, a place), and whose they are."""

    images: list[int] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)


def read_dicom_reports(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads DICOM files with the reports of their studies.

    Yields:
        A record for each DICOM file, in order, with its report where one was found; then notes: images without a report,
        reports without an image, and reports whose name several patients share.

    Raises:
        ManifestError: If there is no DICOM file or no report, or the table breaks a rule.
    """
    dicom, others = split_dicom_files(visible_files(folder))
    if not dicom:
        raise missing(folder, LAYOUT, "DICOM files")
    reports = _read_reports(folder, others)
    if not reports:
        raise missing(folder, LAYOUT, f"the reports ({TABLE}, or .txt files named by accession number or study UID)")
    seen: set[str] = set()
    records: list[StudyRecord] = []
    studies: dict[tuple[str, str], _Study] = {}
    with silent_pydicom():
        for path in dicom:
            header = read_header(path)
            names = {
                "study_uid": header_text(header, "StudyInstanceUID"),
                "accession": header_text(header, "AccessionNumber"),
                "place": _place(path),
            }
            for name in names.items():
                study = studies.setdefault(name, _Study())
                study.images.append(len(records))
                study.patients.add(header_text(header, "PatientID") or names["study_uid"])
            records.append(record_of(path, folder, header, pseudonymizer, seen))
    texts, shared = _joined(reports, studies, len(records))
    for record, parts in zip(records, texts, strict=True):
        yield with_report(record, "\n\n".join(parts))
    for record, parts in zip(records, texts, strict=True):
        if not parts:
            yield SourceNote("image_without_report", record.path)
    for report in reports:
        if report.place in shared:
            yield SourceNote("shared_by_patients", report.place)
        elif not report.used:
            yield SourceNote("report_without_image", report.place)


def _read_reports(folder: Path, files: list[Path]) -> list[_Report]:
    if (folder / TABLE).is_file():
        names = ("study_uid", "accession")
        return [
            _Report(
                place=f"{folder / TABLE} row {row.number}",
                names={name: row.cells[name] for name in names if row.cells.get(name)},
                text=row.filled("report"),
            )
            for row in read_table(folder / TABLE, "report", either=names)
        ]
    return [
        _Report(str(path), {"study_uid": path.stem, "accession": path.stem, "place": _place(path)}, text)
        for path in files
        if path.suffix.lower() == ".txt" and (text := read_report(path))
    ]


def _place(path: Path) -> str:
    return str(path.with_suffix(""))


def _joined(
    reports: list[_Report], studies: dict[tuple[str, str], _Study], num_images: int
) -> tuple[list[list[str]], set[str]]:
    """Returns the texts of each image, and the places of the reports whose name several patients share."""
    texts: list[list[str]] = [[] for _ in range(num_images)]
    shared = set()
    for report in reports:
        name = next((name for name in report.names.items() if name in studies), None)
        if name is None:
            continue
        if len(studies[name].patients) > 1:
            shared.add(report.place)
            continue
        report.used = True
        for image in studies[name].images:
            texts[image].append(report.text)
    return texts, shared
