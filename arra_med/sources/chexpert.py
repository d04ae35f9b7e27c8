"""CheXpert and CheXpert Plus, as Stanford AIMI publishes them.

CheXpert (CheXpert-v1.0 and -small):

    train.csv  valid.csv                            Path, Sex, Age, Frontal/Lateral, AP/PA and the 14 observations
    train/patient00001/study1/view1_frontal.jpg     named "CheXpert-v1.0-small/train/..." in the tables

CheXpert Plus:

    df_chexpert_plus_240401.csv                     path_to_image, path_to_dcm, the report and its sections, split, ...
    impression_fixed.json                           the 14 observations of each impression (JSON lines), here or one
                                                    folder below; without it, the report's own observations are used
    PNG/train/patient00001/study1/view1_frontal.png, DICOM/train/....dcm, or train/....jpg

Train stays train and valid becomes validation; the test set is not among these files.

Source: https://stanfordmlgroup.github.io/competitions/chexpert/ and arXiv 2405.19538 (CheXpert Plus)
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from arra_med.errors import ManifestError
from arra_med.records.observations import OBSERVATIONS, labels_from_report
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Split, StudyRecord, View
from arra_med.sources.chexpert_labels import labels_of
from arra_med.sources.layout import Found, Places, missing, terms_of
from arra_med.sources.patient import age_fields, sex_of, view_of
from arra_med.sources.tables import Row, read_table

CHEXPERT, CHEXPERT_PLUS = "chexpert", "chexpert_plus"
TABLES: Mapping[str, Split] = {"train.csv": "train", "valid.csv": "validation"}
PLUS_TABLE = "df_chexpert_plus_240401.csv"
PLUS_LABELS = "impression_fixed.json"

_SPLITS: Mapping[str, Split | None] = {"train": "train", "valid": "validation", "": None}
_FRONTAL_OR_LATERAL: Mapping[str, View | None] = {"Frontal": None, "Lateral": "lateral", "": None}
_PLUS_COLUMNS = (
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "report",
    "section_findings",
    "section_impression",
    "age",
    "sex",
    "split",
)
_UNKNOWN_AGE = "0"  # of adults; it stands beside sex "Unknown"


def read_chexpert(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads CheXpert: labels without reports.

    Yields:
        A record for each row of train.csv, then of valid.csv.

    Raises:
        ManifestError: If a table is missing, or a row breaks a rule.
    """
    for name in TABLES:
        if not (folder / name).is_file():
            raise missing(folder, CHEXPERT, name)
    places, terms = Places(folder), terms_of(CHEXPERT)
    for name, split in TABLES.items():
        for row in read_table(folder / name, "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS):
            place = row.filled("Path")
            first, _, rest = place.partition("/")
            if first.startswith("CheXpert-v1.0"):
                place = rest
            path = row.inside(places, "Path", place)
            yield StudyRecord(
                image_id=f"{CHEXPERT}/{pseudonymizer.of(place)}",
                patient_id=_patient_id(CHEXPERT, row, "Path", place, pseudonymizer),
                patient_known=True,
                modality="cxr",
                view=_view(row, "Frontal/Lateral", "AP/PA"),
                sex=sex_of(row["Sex"]),
                path=str(path),
                labels=labels_of(row),
                split=split,
                **age_fields("" if row["Age"] == _UNKNOWN_AGE else row["Age"]),
                **terms,
            )


def read_chexpert_plus(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads CheXpert Plus: reports, and the observations of their impressions.

    The report of a record is its sections FINDINGS and IMPRESSION, or the whole text where it has neither.

    Yields:
        A record for each row, in order.

    Raises:
        ManifestError: If the table is missing, the labels cannot be read, or a row breaks a rule.
    """
    table = folder / PLUS_TABLE
    if not table.is_file():
        raise missing(folder, CHEXPERT_PLUS, PLUS_TABLE)
    places, terms, labels = Places(folder), terms_of(CHEXPERT_PLUS), _read_plus_labels(folder)
    for row in read_table(table, *_PLUS_COLUMNS):
        image = row.filled("path_to_image")
        sections = {name: row[f"section_{name}"] for name in ("findings", "impression")}
        report = "\n".join(f"{name.upper()}: {text}" for name, text in sections.items() if text) or row["report"]
        yield StudyRecord(
            image_id=f"{CHEXPERT_PLUS}/{pseudonymizer.of(image)}",
            patient_id=_patient_id(CHEXPERT_PLUS, row, "path_to_image", image, pseudonymizer),
            patient_known=True,
            modality="cxr",
            view=_view(row, "frontal_lateral", "ap_pa"),
            sex=sex_of(row["sex"]),
            path=str(_plus_path(row, places)),
            report=report,
            report_kind="written" if report else None,
            labels=labels_from_report(report) if labels is None else labels.get(image, ()),
            split=row.one_of("split", _SPLITS),
            **age_fields(row["age"]),
            **terms,
        )


def _patient_id(source: str, row: Row, column: str, place: str, pseudonymizer: Pseudonymizer) -> str:
    patient = next((step for step in place.split("/") if step.startswith("patient")), None)
    if patient is None:
        raise row.refusal(column, "must name the patient's folder, such as patient00001")
    return f"{source}:{pseudonymizer.of(patient)}"


def _view(row: Row, side: str, projection: str) -> View | None:
    return row.one_of(side, _FRONTAL_OR_LATERAL) or view_of(row[projection])


def _plus_path(row: Row, places: Places) -> Path:
    """Returns where the image lies: its PNG, its DICOM file or its JPEG; the PNG's place where none is there."""
    image = row["path_to_image"]
    png = row.inside(places, "path_to_image", "PNG", f"{image.rpartition('.')[0]}.png")
    others = [row.inside(places, "path_to_image", image)]
    if row["path_to_dcm"]:
        others.append(row.inside(places, "path_to_dcm", "DICOM", row["path_to_dcm"]))
    return next((path for path in (png, *others) if path.is_file()), png)


def _read_plus_labels(folder: Path) -> dict[str, tuple[str, ...]] | None:
    path = next((path for pattern in ("", "*/") for path in sorted(folder.glob(pattern + PLUS_LABELS))), None)
    if path is None:
        return None
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            told = [json.loads(line) for line in lines if line.strip()]
        present = ((each["path_to_image"], tuple(name for name in OBSERVATIONS if each[name] == 1)) for each in told)
        return {image: shared.setdefault(labels, labels) for image, labels in present}
    except (OSError, ValueError, LookupError, TypeError):
        raise ManifestError(f"{path}: is not the published table of labels (JSON lines); copy it again") from None
