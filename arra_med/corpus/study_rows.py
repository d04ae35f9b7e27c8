"""The rows of a study set: a record's columns, its canonical view, losslessly encoded, and what decoding noticed."""

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from arra_med.imaging.view import as_picture
from arra_med.records.study import StudyRecord
from arra_med.runs import sha256_json

RECORD_FIELDS = [
    ("image_id", pa.string()),
    ("patient_hash", pa.string()),
    ("source", pa.string()),
    ("modality", pa.string()),
    ("view", pa.string()),
    ("laterality", pa.string()),
    ("sex", pa.string()),
    ("age", pa.float64()),
    ("age_group", pa.string()),
    ("labels", pa.list_(pa.string())),
    ("report", pa.string()),
    ("report_kind", pa.string()),
    ("licence", pa.string()),
    ("redistributable", pa.bool_()),
    ("attribution", pa.string()),
    ("patient_known", pa.bool_()),
    ("split", pa.string()),
]
"""Columns of a record, the same in a study set and in a corpus."""

DECODED_FIELDS = [
    ("view_png", pa.binary()),
    ("view_sha256", pa.string()),
    ("perceptual_hash", pa.uint64()),
    ("flags", pa.list_(pa.string())),
    ("quality", pa.list_(pa.struct([("name", pa.string()), ("score", pa.float32())]))),
    ("state_hash", pa.string()),
    ("file_hash", pa.string()),
]
"""Columns that decoding fills. `state_hash` is a keyed hash of the file's path, size, time of change and the settings it
was read with; `file_hash` is one of its content."""

STUDY_SCHEMA = pa.schema([*RECORD_FIELDS, *DECODED_FIELDS])


def encode_png(view: np.ndarray) -> bytes:
    """Encodes a uint8 view (C, S, S), C = 1 or 3, as PNG: lossless."""
    stream = io.BytesIO()
    Image.fromarray(as_picture(view)).save(stream, format="PNG")
    return stream.getvalue()


def decode_png(png: bytes) -> np.ndarray:
    """Returns the uint8 view (C, S, S) that `encode_png` encoded."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def view_sha256(view: np.ndarray) -> str:
    """Returns the SHA-256 of a view's pixels (uint8, C order) and shape."""
    return hashlib.sha256(str(view.shape).encode() + np.ascontiguousarray(view).tobytes()).hexdigest()


def record_row(record: StudyRecord) -> dict[str, Any]:
    """Returns the columns of a record whose patient id is a pseudonym: no path."""
    values = record.model_dump(exclude={"path", "patient_id"})
    return {**values, "labels": list(record.labels), "patient_hash": record.patient_id}


def record_of(row: Mapping[str, Any]) -> StudyRecord:
    """Returns the record of a row: `path` is empty and `patient_id` is the patient's hash."""
    values = {name: row[name] for name, _ in RECORD_FIELDS if name != "patient_hash"}
    return StudyRecord(**{**values, "labels": tuple(row["labels"])}, patient_id=row["patient_hash"])


def row_digest(row: Mapping[str, Any]) -> str:
    """Returns a hash of what a row says and shows, without the patient's hash, whose key is local."""
    told = {name: row[name] for name, _ in RECORD_FIELDS if name != "patient_hash"}
    return sha256_json({**told, "labels": list(row["labels"]), "view_sha256": row["view_sha256"]})
