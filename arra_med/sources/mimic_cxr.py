"""MIMIC-CXR (DICOM) and MIMIC-CXR-JPG, in the folders and tables of PhysioNet, versions 2.0.0 to 2.1.0.

    cxr-record-list.csv.gz                  DICOM: subject_id, study_id, dicom_id, path
    mimic-cxr-2.0.0-metadata.csv.gz         JPG: dicom_id, subject_id, study_id, ViewPosition, ...
    mimic-cxr-2.0.0-split.csv.gz            train, validate or test of each dicom_id
    mimic-cxr-2.0.0-chexpert.csv.gz         labels of each study_id; without it, ...-negbio.csv.gz
    files/p10/p10000032/s50414267/          one .dcm or .jpg for each image
    mimic-cxr-reports/files/p10/p10000032/s50414267.txt    or the same below files/

The JPG tables serve the DICOM layout too where they are put beside its own; without the metadata the view is read from
each header. Without labels, the reports' own observations are used.

Source: https://physionet.org/content/mimic-cxr/ and https://physionet.org/content/mimic-cxr-jpg/
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from arra_med.records.observations import labels_from_report
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Split, StudyRecord, View
from arra_med.sources.chexpert_labels import read_study_labels
from arra_med.sources.dicom_folder import header_view
from arra_med.sources.folder import read_report
from arra_med.sources.layout import Found, Places, SourceNote, missing, terms_of
from arra_med.sources.patient import view_of
from arra_med.sources.tables import Row, find_table, read_table

SOURCE = "mimic_cxr"
RECORD_LIST = "cxr-record-list.csv"
METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
LABELS = ("mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-negbio.csv")
REPORTS = "mimic-cxr-reports"

_SPLITS: Mapping[str, Split] = {"train": "train", "validate": "validation", "test": "test"}
_SAME_STUDY = 16  # rows of one study follow each other


def read_mimic_cxr(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads MIMIC-CXR with DICOM images.

    Yields:
        A record for each row of the record list, in order, and a note for each image whose report file is not there.

    Raises:
        ManifestError: If the record list or all text (reports and labels) is missing, or a row breaks a rule.
    """
    table = find_table(folder, RECORD_LIST)
    if table is None:
        raise missing(folder, "mimic_cxr", f"{RECORD_LIST}.gz")
    rows = ((row, row.filled("path")) for row in read_table(table, "subject_id", "study_id", "dicom_id", "path"))
    metadata = find_table(folder, METADATA)
    if metadata is None:
        return _records(folder, "mimic_cxr", rows, pseudonymizer, lambda row, path: header_view(path))
    views = {row["dicom_id"]: _view(row) for row in read_table(metadata, "dicom_id", "ViewPosition")}
    return _records(folder, "mimic_cxr", rows, pseudonymizer, lambda row, path: views.get(row["dicom_id"]))


def read_mimic_cxr_jpg(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads MIMIC-CXR-JPG; reports come from MIMIC-CXR's `mimic-cxr-reports`, put into the same folder.

    Yields:
        A record for each row of the metadata, in order, and a note for each image whose report file is not there.

    Raises:
        ManifestError: If the metadata, the split or all text (reports and labels) is missing, or a row breaks a rule.
    """
    table = find_table(folder, METADATA)
    if table is None or find_table(folder, SPLIT) is None:
        raise missing(folder, "mimic_cxr_jpg", f"{SPLIT if table else METADATA}.gz")
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    rows = ((row, _jpg_place(row)) for row in read_table(table, *columns))
    return _records(folder, "mimic_cxr_jpg", rows, pseudonymizer, lambda row, path: _view(row))


def _jpg_place(row: Row) -> str:
    subject = row.filled("subject_id")
    return f"files/p{subject[:2]}/p{subject}/s{row.filled('study_id')}/{row.filled('dicom_id')}.jpg"


def _view(row: Row) -> View | None:
    return view_of(row["ViewPosition"]) or view_of(row.cells.get("ViewCodeSequence_CodeMeaning", ""))


def _records(
    folder: Path,
    layout: str,
    rows: Iterable[tuple[Row, str]],
    pseudonymizer: Pseudonymizer,
    view: Callable[[Row, Path], View | None],
) -> Iterator[Found]:
    places = Places(folder)
    label_table = next((table for name in LABELS if (table := find_table(folder, name))), None)
    has_reports = (folder / REPORTS).is_dir() or next(folder.glob("files/p*/p*/s*.txt"), None) is not None
    if label_table is None and not has_reports:
        raise missing(folder, layout, f"the reports ({REPORTS}/) or the labels ({LABELS[0]}.gz)")
    labels = read_study_labels(label_table) if label_table else {}
    splits = _read_splits(folder)
    terms = terms_of(SOURCE)

    @functools.lru_cache(maxsize=_SAME_STUDY)
    def text_and_labels(study: str, place: str) -> tuple[str, tuple[str, ...]]:
        reports = (path for parts in ((REPORTS, place), (place,)) if (path := places.inside(*parts)))
        text = next(filter(None, map(read_report, reports)), "") if has_reports else ""
        return text, labels.get(study, ()) if label_table else labels_from_report(text)

    for row, place in rows:
        path = row.inside(places, "path" if "path" in row.cells else "dicom_id", place)
        study = row.filled("study_id")
        report, findings = text_and_labels(study, f"{place.rpartition('/')[0]}.txt")
        if has_reports and not report:
            yield SourceNote("image_without_report", str(path))
        yield StudyRecord(
            image_id=f"{SOURCE}/{pseudonymizer.of(row.filled('dicom_id'))}",
            patient_id=f"{SOURCE}:{pseudonymizer.of(row.filled('subject_id'))}",
            patient_known=True,
            modality="cxr",
            view=view(row, path),
            path=str(path),
            report=report,
            report_kind="written" if report else None,
            labels=findings,
            split=splits.get(row["dicom_id"]),
            **terms,
        )


def _read_splits(folder: Path) -> dict[str, Split]:
    table = find_table(folder, SPLIT)
    rows = read_table(table, "dicom_id", "split") if table else ()
    return {row.filled("dicom_id"): row.one_of("split", _SPLITS) for row in rows}
