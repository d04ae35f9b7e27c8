"""A study set that is large enough to be judged: 40 training images, 40 validation images, chest views of 16 px."""

from pathlib import Path
from typing import Any

from arra_med.records.study import Split, StudyRecord
from tests.corpus.tiny_studies import write_records
from tests.evaluate.tiny_judges import smooth_images

_REPORTS = ("Pleural effusion.", "Pneumothorax.", "No finding.")


def write_studies(folder: Path, num_validation: int = 40, **changes: Any) -> None:
    """Writes the study set; `changes` go into the first validation record."""
    views = smooth_images(40 + num_validation, 0)
    records = []
    for number in range(len(views)):
        split: Split = "train" if number < 40 else "validation"
        values: dict[str, Any] = {
            "image_id": f"nih_cxr14/img{number}",
            "patient_id": f"hash{number // 2}",
            "modality": "cxr",
            "view": "PA",
            "labels": (("effusion",), ("pneumothorax",), ("normal",))[number % 3],
            "report": _REPORTS[number % 3],
            "report_kind": "from_labels",
            "source": "nih_cxr14",
            "attribution": "NIH Clinical Center",
            "redistributable": True,
            "patient_known": True,
            "split": split,
        }
        records.append(StudyRecord(**{**values, **(changes if number == 40 else {})}))
    write_records(folder, records, views)
