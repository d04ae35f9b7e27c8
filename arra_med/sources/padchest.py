"""PadChest, as BIMCV publishes it.

    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz    (or .csv) one row for each image
    0/*.png ... 54/*.png                                       ImageDir/ImageID; or all images in images/ or images-224/

The reports are Spanish, in lower case and without inflections: they are not taken, since prompts are English. The labels
are. Images whose projection is EXCLUDE (no chest radiograph, or damaged) or COSTAL (ribs) are left out with a note. The
set has no official split.

Source: https://bimcv.cipf.es/bimcv-projects/padchest/, Bustos et al., Medical Image Analysis 2020, arXiv 1901.07441
"""

import re
from collections.abc import Iterator
from pathlib import Path

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord
from arra_med.sources.layout import Found, Places, SourceNote, missing, terms_of
from arra_med.sources.patient import age_fields, sex_of, view_of
from arra_med.sources.tables import Row, find_table, read_table

SOURCE = "padchest"
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
FLAT_FOLDERS = ("images", "images-224")

_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Labels",
)
_EXCLUDED = frozenset({"EXCLUDE", "COSTAL"})
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_LABEL_LIST = re.compile(r"\[[^\[\]]*\]|nan|")
_DAMAGED = "must be a list such as ['cardiomegaly', 'pleural effusion']"


def read_padchest(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads PadChest.

    Yields:
        A record for each row, in order; a note for each image that is left out.

    Raises:
        ManifestError: If the table is missing, or a row breaks a rule.
    """
    table = find_table(folder, TABLE)
    if table is None:
        raise missing(folder, SOURCE, f"{TABLE}.gz")
    flat = next((name for name in FLAT_FOLDERS if (folder / name).is_dir()), None)
    places, terms = Places(folder), terms_of(SOURCE)
    for row in read_table(table, *_COLUMNS):
        name = row.filled("ImageID")
        path = row.inside(places, "ImageID", flat or re.sub(r"\.0$", "", row.filled("ImageDir")), name)
        if row["Projection"] in _EXCLUDED:
            yield SourceNote("excluded", str(path))
            continue
        yield StudyRecord(
            image_id=f"{SOURCE}/{pseudonymizer.of(name)}",
            patient_id=f"{SOURCE}:{pseudonymizer.of(row.filled('PatientID'))}",
            patient_known=True,
            modality="cxr",
            view=view_of(row["Projection"]),
            sex=sex_of(row["PatientSex_DICOM"]),
            path=str(path),
            labels=_labels(row),
            **age_fields(_age(row)),
            **terms,
        )


def _labels(row: Row) -> tuple[str, ...]:
    if not _LABEL_LIST.fullmatch(row["Labels"]):
        raise row.refusal("Labels", _DAMAGED)
    quoted = (single or double for single, double in _QUOTED.findall(row["Labels"]))
    return tuple(dict.fromkeys(" ".join(label.split()) for label in quoted if label.strip()))


def _age(row: Row) -> str:
    """Returns the difference of the years of study and birth; the day of birth is not published."""
    study, birth = re.match(r"\d{4}", row["StudyDate_DICOM"]), re.match(r"\d{4}", row["PatientBirth"])
    return str(int(study[0]) - int(birth[0])) if study and birth else ""
