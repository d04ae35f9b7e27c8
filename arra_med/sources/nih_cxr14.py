"""NIH ChestX-ray14, as the NIH Clinical Center and its mirrors publish it.

    Data_Entry_2017.csv or Data_Entry_2017_v2020.csv    one row for each image; several findings are joined by "|"
    images/*.png or images_001/images/*.png ...         the archives unpacked into one folder or into twelve
    train_val_list.txt  test_list.txt                   the official split, one file name a line

The official split has no validation part: a tenth of the patients of `train_val_list.txt`, chosen by a hash of the patient,
becomes it. An image in neither list, and all of them without the lists, gets its split at ingestion.

Source: https://nihcc.app.box.com/v/ChestXray-NIHCC
"""

from collections.abc import Iterator
from pathlib import Path

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.splits import assign_splits
from arra_med.records.study import StudyRecord
from arra_med.sources.layout import Found, Places, missing, terms_of
from arra_med.sources.patient import age_fields, sex_of, view_of
from arra_med.sources.tables import read_table

SOURCE = "nih_cxr14"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
TRAIN_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"

_IMAGE_FOLDERS = ("images*", "images*/images")
_SEX_COLUMNS = ("Patient Gender", "Patient Sex")  # as the first table and its later editions call it
_TRAIN_AND_VALIDATION = (0.9, 0.1, 0.0)


def read_nih_cxr14(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads ChestX-ray14.

    Args:
        folder: The folder that holds the table.
        pseudonymizer: Not used: the set is public, and its ids stay as they are.

    Yields:
        A record for each row, in order.

    Raises:
        ManifestError: If the table, the image folders or one of the two lists is missing, or a row breaks a rule.
    """
    table = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is None:
        raise missing(folder, SOURCE, TABLES[0])
    image_folders = sorted(path for pattern in _IMAGE_FOLDERS for path in folder.glob(pattern) if path.is_dir())
    if not image_folders:
        raise missing(folder, SOURCE, "images/ or images_001/images/")
    of_training, of_test = _read_lists(folder)
    place_of = {image.name: image.relative_to(folder) for images in image_folders for image in images.glob("*.png")}
    places, terms = Places(folder), terms_of(SOURCE)
    columns = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")
    for row in read_table(table, *columns, either=_SEX_COLUMNS):
        name = row.filled("Image Index")
        place = place_of.get(name, image_folders[0].relative_to(folder) / name).as_posix()
        record = StudyRecord(
            image_id=f"{SOURCE}/{Path(name).stem}",
            patient_id=f"{SOURCE}:{row.filled('Patient ID')}",
            patient_known=True,
            modality="cxr",
            view=view_of(row["View Position"]),
            sex=sex_of(next(row[column] for column in _SEX_COLUMNS if column in row.cells)),
            path=str(row.inside(places, "Image Index", place)),
            labels=tuple(label for label in row["Finding Labels"].split("|") if label),
            split="test" if name in of_test else None,
            **age_fields(row["Patient Age"]),
            **terms,
        )
        yield assign_splits([record], _TRAIN_AND_VALIDATION)[0] if name in of_training else record


def _read_lists(folder: Path) -> tuple[set[str], set[str]]:
    lists = {name: folder / name for name in (TRAIN_LIST, TEST_LIST)}
    there = [path for path in lists.values() if path.is_file()]
    if len(there) == 1:
        raise missing(folder, SOURCE, next(name for name, path in lists.items() if path not in there))
    if not there:
        return set(), set()
    of_training, of_test = (set(path.read_text(encoding="utf-8").split()) for path in lists.values())
    return of_training, of_test
