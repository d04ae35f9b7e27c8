"""ImageNet (ILSVRC 2012), or any tree of class folders, each image with the text "a photo of a ...".

    train/n01440764/*.JPEG    val/n01440764/*.JPEG    (also below ILSVRC/Data/CLS-LOC)
    LOC_synset_mapping.txt    "n01440764 tench, Tinca tinca"; the first name is used, without the file the folder's name
    LOC_val_solution.csv      ImageId, PredictionString; the classes of a val/ without folders

train becomes train and val validation; test has no classes and is not read.

Source: https://www.image-net.org/ and the Kaggle edition of ILSVRC
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from arra_med.errors import ManifestError
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Split, StudyRecord
from arra_med.sources.folder import IMAGE_SUFFIXES
from arra_med.sources.layout import Found, Places, missing, terms_of
from arra_med.sources.tables import read_table

SOURCE = "imagenet"
NAMES, VALIDATION_CLASSES = "LOC_synset_mapping.txt", "LOC_val_solution.csv"
DATA = ("", "ILSVRC/Data/CLS-LOC/")
PARTS: dict[str, Split] = {"train": "train", "val": "validation"}

_VOWELS = tuple("aeiouAEIOU")


def read_imagenet(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads class folders of photographs.

    Args:
        folder: The folder that holds train/, or the class folders themselves.
        pseudonymizer: Not used: the set is public, and its ids stay as they are.

    Yields:
        A record for each image, sorted by part, class and name.

    Raises:
        ManifestError: If there is no class folder, val/ has images without classes, or a table breaks a rule.
    """
    names = _read_names(folder / NAMES)
    places, terms = Places(folder), terms_of(SOURCE)
    for place, class_name, split in _images(folder):
        path = places.inside(place)
        if path is None:
            raise ManifestError(f"{folder}: holds a link that leads out of it; copy the images into the folder")
        name = names.get(class_name, class_name.replace("_", " "))
        image_id = f"{SOURCE}/{path.stem}" if split else f"{SOURCE}/{class_name}/{path.stem}"
        yield StudyRecord(
            image_id=image_id,
            patient_id=image_id,
            patient_known=False,
            modality="photo",
            path=str(path),
            report=f"a photo of {'an' if name.startswith(_VOWELS) else 'a'} {name}",
            report_kind="from_labels",
            labels=(name,),
            split=split,
            **terms,
        )


def _images(folder: Path) -> Iterator[tuple[str, str, Split | None]]:
    """Yields (path below the folder, class, split)."""
    data = next((data for data in DATA if (folder / data / "train").is_dir()), None)
    parts: dict[str, Split | None] = (
        {f"{data}{part}/": split for part, split in PARTS.items()} if data is not None else {}
    )
    found = False
    for part, split in (parts or {"": None}).items():
        classes = _folders(folder / part)
        for class_name in classes:
            for name in _files(folder / part / class_name):
                found = True
                yield f"{part}{class_name}/{name}", class_name, split
        flat = _files(folder / part) if not classes and split == "validation" else []
        class_of = _read_validation_classes(folder) if flat else {}
        for name in flat:
            if Path(name).stem not in class_of:
                raise ManifestError(
                    f"{folder / VALIDATION_CLASSES}: lacks an image of val/; use the table as published"
                )
            yield f"{part}{name}", class_of[Path(name).stem], split
    if not found:
        raise missing(folder, SOURCE, "class folders with images, such as train/n01440764/")


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES)


def _read_names(table: Path) -> dict[str, str]:
    if not table.is_file():
        return {}
    names = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        parts = re.fullmatch(r"(n\d{8}) ([^,]+)(,.*)?", line.strip())
        if parts is None:
            raise ManifestError(f"{table}: line {number}: must be a class and its names; use the table as published")
        names[parts[1]] = parts[2].strip()
    return names


def _read_validation_classes(folder: Path) -> dict[str, str]:
    table = folder / VALIDATION_CLASSES
    if not table.is_file():
        raise missing(folder, SOURCE, VALIDATION_CLASSES)
    return {
        row.filled("ImageId"): row.filled("PredictionString").split()[0]
        for row in read_table(table, "ImageId", "PredictionString")
    }
