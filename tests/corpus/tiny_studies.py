"""Tiny studies, made by hand: X-ray-like views of patients with two images each, and a word tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.corpus.parquet import write_table
from arra_med.corpus.study_rows import STUDY_SCHEMA, encode_png, record_row, view_sha256
from arra_med.corpus.study_set import StudySetInfo, finish_study_set, study_shard_path
from arra_med.imaging.perceptual_hash import perceptual_hash
from arra_med.imaging.view import CanonicalView
from arra_med.records.study import StudyRecord

SPEC = CanonicalView(modality="cxr", size_px=16)
PATIENTS = (0, 0, 1, 1, 2, 3)
SPLITS = ("train", "train", "train", "train", "validation", "test")


def record(number: int, **changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "image_id": f"kermany_pneumonia/img{number}",
        "patient_id": f"hash{PATIENTS[number]}",
        "modality": "cxr",
        "view": "AP",
        "age_group": "child",
        "labels": ("normal",) if number % 2 else ("bacterial pneumonia",),
        "report": "Frontal chest radiograph.",
        "report_kind": "from_labels",
        "source": "kermany_pneumonia",
        "licence": "CC BY 4.0",
        "attribution": "Kermany et al.",
        "redistributable": True,
        "patient_known": True,
        "split": SPLITS[number],
    }
    return StudyRecord(**{**values, **changes})


def view(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (1, 16, 16), dtype=np.uint8)


def write_study_set(folder: Path, num_studies: int = 6, **changes: Any) -> StudySetInfo:
    """Writes a study set of two shards without any decoding; `changes` go into every record."""
    rows = [study_row(number, **changes) for number in range(num_studies)]
    for fingerprint, its_rows in (("first", rows[:2]), ("second", rows[2:])):
        write_table(study_shard_path(folder, fingerprint), its_rows, STUDY_SCHEMA, {"fingerprint": fingerprint})
    return finish_study_set(folder, ["first", "second"], spec=SPEC, num_quarantined=0, skipped={})


def study_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **record_row(record(number, **changes)),
        "view_png": encode_png(view(number)),
        "view_sha256": view_sha256(view(number)),
        "perceptual_hash": perceptual_hash(view(number)),
        "flags": ["overlay_ignored"] if number == 1 else [],
        "quality": [{"name": "sharpness", "score": number / 2}],
        "state_hash": f"state{number}",
        "file_hash": f"file{number}",
    }


def write_records(
    folder: Path, records: Sequence[StudyRecord], views: Sequence[np.ndarray], spec: CanonicalView = SPEC
) -> Path:
    """Writes a study set of one shard with these records and views."""
    rows = [
        {
            **record_row(record),
            "view_png": encode_png(view),
            "view_sha256": view_sha256(view),
            "perceptual_hash": perceptual_hash(view),
            "flags": [],
            "quality": [],
            "state_hash": "state",
            "file_hash": f"file {record.image_id}",
        }
        for record, view in zip(records, views, strict=True)
    ]
    write_table(study_shard_path(folder, "one"), rows, STUDY_SCHEMA, {"fingerprint": "one"})
    finish_study_set(folder, ["one"], spec=spec, num_quarantined=0, skipped={}, key_id="key")
    return folder


class WordTokenizer:
    """One id for each word, by its letters alone, from 4 to 103."""

    def __call__(self, text: str, **settings: bool) -> dict[str, list[int]]:
        assert settings["add_special_tokens"] is False
        return {"input_ids": [4 + sum(map(ord, word)) % 100 for word in text.split()]}
