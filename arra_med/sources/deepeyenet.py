"""DeepEyeNet, as its authors hand it out.

    DeepEyeNet_train.json  DeepEyeNet_valid.json  DeepEyeNet_test.json
        [{"eyenet0420/train_set/name.jpg": {"keywords": "...", "clinical-description": "..."}}, ...]
    eyenet0420/train_set/name.jpg, or train_set/name.jpg

The clinical description is the report and the keywords, which commas separate, are the labels. Patients are not known.
Fluorescein angiograms stand among the photographs without a mark.

Source: https://github.com/Jhhuangkay/DeepOpht-Medical-Report-Generation-for-Retinal-Images-via-Deep-Models-and-Visual-Explanation
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arra_med.errors import ManifestError
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Split, StudyRecord
from arra_med.sources.layout import Found, Places, missing, terms_of
from arra_med.sources.tables import read_json

SOURCE = "deepeyenet"
TABLES: Mapping[str, Split] = {
    "DeepEyeNet_train.json": "train",
    "DeepEyeNet_valid.json": "validation",
    "DeepEyeNet_test.json": "test",
}

_TOP_FOLDER = "eyenet0420/"
_TEXTS = ("keywords", "clinical-description")


def read_deepeyenet(folder: Path, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    """Reads DeepEyeNet.

    Yields:
        A record for each entry of the three lists, in order.

    Raises:
        ManifestError: If a list is missing or no such list, or an entry breaks a rule.
    """
    for name in TABLES:
        if not (folder / name).is_file():
            raise missing(folder, SOURCE, name)
    places, terms = Places(folder), terms_of(SOURCE)
    for name, split in TABLES.items():
        for place, told in _entries(folder / name):
            image = place.removeprefix(_TOP_FOLDER)
            below_top, below_folder = places.inside(_TOP_FOLDER + image), places.inside(image)
            if below_top is None or below_folder is None:
                raise _refusal(folder / name, "names an image that does not lie inside the folder, also behind links")
            path = below_folder if below_folder.is_file() else below_top
            image_id = f"{SOURCE}/{pseudonymizer.of(image)}"
            report = told["clinical-description"].strip()
            yield StudyRecord(
                image_id=image_id,
                patient_id=image_id,
                patient_known=False,
                modality="fundus",
                path=str(path),
                report=report,
                report_kind="written" if report else None,
                labels=tuple(dict.fromkeys(label for part in told["keywords"].split(",") if (label := part.strip()))),
                split=split,
                **terms,
            )


def _entries(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    entries: Any = read_json(table)
    if not isinstance(entries, list):
        raise ManifestError(f"{table}: must hold a list of images; use the list as it was published")
    for number, entry in enumerate(entries, start=1):
        place, told = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else ("", None)
        if not (place and isinstance(told, dict) and all(isinstance(told.get(name), str) for name in _TEXTS)):
            raise _refusal(table, f"entry {number} must be one image with {' and '.join(map(repr, _TEXTS))}")
        yield place, told


def _refusal(table: Path, rule: str) -> ManifestError:
    return ManifestError(f"{table}: {rule}; mend the entry and try again")
