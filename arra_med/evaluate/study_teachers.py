"""What a study's teachers are: what was measured of them when they were trained, and how much their features differ."""

import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from arra_med.corpus.features import PERMUTED_PREFIX, read_features
from arra_med.corpus.folds import trains
from arra_med.corpus.views import view_key
from arra_med.encoders.config import RANDOM_PREFIX
from arra_med.evaluate.study_run import Study
from arra_med.training.encoder_metrics import MEASURES_FILE


def teacher_rows(study: Study) -> list[dict[str, Any]]:
    """Returns one row for each arm with a teacher.

    Returns:
        `arm`, `teacher`, `feature`, its `width`, `mean_cosine` between the features of two training images (1: the target
        is a constant, and an alignment to it says nothing of the image), and `held_out`: what `arra-med encoder train`
        measured of the teacher on images that it had not seen, empty for published encoders and controls.
    """
    training = study.config.training
    keys = [
        view_key(record.image_id, 0)
        for record in study.corpus.records
        if trains(record, training.sources, training.fold)
    ]
    rows = []
    for name, arm in study.config.arms.items():
        if arm.teacher is None or arm.alignment is None:
            continue
        file = read_features(study.teacher_features_file(arm.teacher))
        features = file.get(keys, arm.alignment.feature)
        features = features.mean(dim=1) if features.ndim == 3 else features
        rows.append(
            {
                "arm": name,
                "teacher": file.name,
                "feature": arm.alignment.feature,
                "width": features.shape[1],
                "mean_cosine": _mean_cosine(features),
                "held_out": _held_out(arm.teacher),
            }
        )
    return rows


def _mean_cosine(features: torch.Tensor) -> float:
    """Mean over pairs of different rows of (n, D)."""
    units = F.normalize(features.double(), dim=1)
    num = len(units)
    return float((units.sum(dim=0).square().sum() - units.square().sum()) / (num * (num - 1)))


def _held_out(teacher: str) -> dict[str, Any]:
    """The headline figures beside an encoder that was trained here, by part of the held-out images."""
    if teacher.startswith((RANDOM_PREFIX, PERMUTED_PREFIX)):
        return {}
    path = Path(teacher).parent / MEASURES_FILE
    if not path.is_file():
        return {}
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["held_out"]
    return {part: {"num_images": found["num_images"], **found["headline"]} for part, found in told.items()}
