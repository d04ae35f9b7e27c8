"""A study set that is large enough to be judged: 40 training images, 40 validation images, chest views of 16 px."""

from pathlib import Path
from typing import Any

from arra_med.corpus.parquet import write_table
from arra_med.corpus.study_rows import STUDY_SCHEMA, encode_png, record_row, view_sha256
from arra_med.corpus.study_set import finish_study_set, study_shard_path
from arra_med.imaging.perceptual_hash import perceptual_hash
from arra_med.imaging.view import CanonicalView
from arra_med.records.study import Split, StudyRecord
from tests.evaluate.tiny_judges import smooth_images

SPEC = CanonicalView(modality="cxr", size_px=16)
_REPORTS = ("Pleural effusion.", "Pneumothorax.", "No finding.")


def write_studies(folder: Path, num_validation: int = 40, **changes: Any) -> None:
    """Writes the study set; `changes` go into the first validation record."""
    views = smooth_images(40 + num_validation, 0)
    rows = []
    for number, view in enumerate(views):
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
        record = StudyRecord(**{**values, **(changes if number == 40 else {})})
        told = {
            "view_png": encode_png(view),
            "view_sha256": view_sha256(view),
            "perceptual_hash": perceptual_hash(view),
            "flags": [],
            "quality": [],
            "state_hash": f"state{number}",
            "file_hash": f"file{number}",
        }
        rows.append({**record_row(record), **told})
    write_table(study_shard_path(folder, "only"), rows, STUDY_SCHEMA, {"fingerprint": "only"})
    finish_study_set(folder, ["only"], spec=SPEC, num_quarantined=0, skipped={}, key_id="key")
