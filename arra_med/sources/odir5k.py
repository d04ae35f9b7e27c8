"""ODIR-5K, as the challenge ODIR-2019 and its mirrors publish it.

    full_df.csv                                         ID, Patient Age, Patient Sex, Left-Fundus, Right-Fundus, Left- and
                                                        Right-Diagnostic Keywords, N D G C A H M O, filename, ...
    or ODIR-5K_Training_Annotations(Updated)_V2.xlsx    the same for each patient, without a file name; needs openpyxl
    ODIR-5K_Training_Dataset/0_left.jpg                 or the mirrors' "ODIR-5K/Training Images", preprocessed_images

The keywords of an eye are its report and its labels. The columns N to O are of both eyes together and not used. An eye whose
keywords say that its picture shows no fundus is left out with a note. The test set has no labels and is not read.

Source: https://odir2019.grand-challenge.org/
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arra_med.errors import ManifestError
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Laterality, StudyRecord
from arra_med.sources.layout import Found, Places, SourceNote, missing, terms_of
from arra_med.sources.patient import age_fields, sex_of
from arra_med.sources.tables import Row, read_table

SOURCE = "odir5k"
CSV_TABLE = "full_df.csv"
XLSX_TABLES = ("ODIR-5K_Training_Annotations*.xlsx", "data.xlsx", "*/data.xlsx")
IMAGES = (
    "ODIR-5K_Training_Dataset",
    "ODIR-5K_Training_Images",
    "ODIR-5K/Training Images",
    "Training Images",
    "preprocessed_images",
)

_COLUMNS = (
    "ID",
    "Patient Age",
    "Patient Sex",
    "Left-Fundus",
    "Right-Fundus",
    "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords",
)
_EYES: dict[str, Laterality] = {"Left": "L", "Right": "R"}
_KEYWORD_SEPARATOR = re.compile("[,\uff0c]")
_SHOWS_NO_FUNDUS = frozenset({"no fundus image", "anterior segment image"})


def read_odir5k(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads ODIR-5K.

    Args:
        folder: The folder that holds the table and the images.
        pseudonymizer: Not used: the set's patients are numbers that it made up, and they stay as they are.

    Yields:
        A record for each eye (of full_df.csv: for each image that `filename` lists), in order; a note for each picture
        that shows no fundus.

    Raises:
        ManifestError: If the table or the images are missing, or a row breaks a rule.
    """
    image_folder = next((name for name in IMAGES if (folder / name).is_dir()), None)
    if image_folder is None:
        raise missing(folder, SOURCE, f"the images ({IMAGES[0]}/)")
    places, terms = Places(folder), terms_of(SOURCE)
    for row in _rows(folder):
        for eye, laterality in _EYES.items():
            column = f"{eye}-Fundus"
            name = row.filled(column)
            if row.cells.get("filename", name) != name:
                continue
            path = row.inside(places, column, image_folder, name)
            keywords = [part.strip() for part in _KEYWORD_SEPARATOR.split(row[f"{eye}-Diagnostic Keywords"])]
            labels = tuple(dict.fromkeys(keyword for keyword in keywords if keyword))
            if _SHOWS_NO_FUNDUS & set(labels):
                yield SourceNote("excluded", str(path))
                continue
            yield StudyRecord(
                image_id=f"{SOURCE}/{Path(name).stem}",
                patient_id=f"{SOURCE}:{row.filled('ID')}",
                patient_known=True,
                modality="fundus",
                laterality=laterality,
                sex=sex_of(row["Patient Sex"]),
                path=str(path),
                report=f"{', '.join(labels).capitalize()}." if labels else "",
                report_kind="keywords" if labels else None,
                labels=labels,
                **age_fields(row["Patient Age"]),
                **terms,
            )


def _rows(folder: Path) -> Iterator[Row]:
    if (folder / CSV_TABLE).is_file():
        return read_table(folder / CSV_TABLE, *_COLUMNS, "filename")
    workbook = next((path for pattern in XLSX_TABLES for path in sorted(folder.glob(pattern))), None)
    if workbook is None:
        raise missing(folder, SOURCE, f"{CSV_TABLE} or {XLSX_TABLES[0]}")
    return _workbook_rows(workbook)


def _workbook_rows(path: Path) -> Iterator[Row]:
    try:
        import openpyxl
    except ImportError:
        raise ManifestError(
            f"{path}: an Excel table needs openpyxl: run pip install 'arra-med[xlsx]', or use {CSV_TABLE}"
        ) from None
    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0]
        header, *table = [[_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
    except Exception:  # noqa: BLE001 - openpyxl raises many types on a damaged workbook
        raise ManifestError(f"{path}: cannot be read as an Excel table; copy it again from its source") from None
    absent = [repr(name) for name in _COLUMNS if name not in header]
    if absent:
        raise ManifestError(f"{path}: column {', '.join(absent)} is missing; use the table as it was published")
    for number, cells in enumerate(table, start=1):
        if any(cells):
            yield Row(path, number, dict(zip(header, cells, strict=True)))


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()
