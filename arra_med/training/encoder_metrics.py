"""What held-out images say of a stand-in teacher or judge: AUROC for each finding, retrieval of labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from arra_med.errors import EncoderError
from arra_med.runs import write_json

MEASURES_FILE = "held_out.json"
"""Beside the encoder's folder."""

MIN_POSITIVES = 30
"""Below this many images with (or without) a finding its AUROC is listed, but is no headline."""

RETRIEVAL_DEPTHS = (1, 5, 10)


def write_measures(out: Path, told: dict[str, Any]) -> None:
    """Writes `held_out.json` into a training's folder, atomically."""
    write_json(out / MEASURES_FILE, told)


def read_aurocs(out: Path, weights_sha256: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Reads a classifier's `finding_aurocs` from `held_out.json`.

    Args:
        out: The training's folder.
        weights_sha256: Fingerprint of the classifier as it was loaded.

    Returns:
        By group of held-out images and by source; empty where nobody measured, or other weights were measured.

    Raises:
        EncoderError: If the file is damaged.
    """
    path = out / MEASURES_FILE
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["weights_sha256"] != weights_sha256:
            return {}
        measured = {group: values["auroc"] for group, values in told["held_out"].items()}
        for rows in (rows for sources in measured.values() for rows in sources.values()):
            for row in rows:
                _require_row(row)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise EncoderError(f"{path}: is damaged; train the classifier again, or copy its folder again") from None
    return measured


def _require_row(row: dict[str, Any]) -> None:
    area, counts = row["auroc"], (row["num_positive"], row["num_negative"])
    fits = area is None or (isinstance(area, float | int) and 0 <= area <= 1)
    if not (fits and isinstance(row["finding"], str) and all(isinstance(count, int) for count in counts)):
        raise ValueError


def finding_aurocs(scores: np.ndarray, targets: np.ndarray, findings: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the area under the ROC curve of each finding, with counts.

    Args:
        scores: (N, F), higher for present.
        targets: (N, F): 1 present, 0 absent, NaN unknown; unknown images are left out.
        findings: Names of the columns.

    Returns:
        For each finding `num_positive`, `num_negative`, `auroc` (`None` without both kinds) and `verdict`: `estimable`,
        or `not estimable` with fewer than `MIN_POSITIVES` of either kind.
    """
    rows = []
    for column, finding in enumerate(findings):
        known = ~np.isnan(targets[:, column])
        truth, score = targets[known, column] == 1, scores[known, column]
        positive, negative = int(truth.sum()), int((~truth).sum())
        rows.append(
            {
                "finding": finding,
                "num_positive": positive,
                "num_negative": negative,
                "auroc": float(roc_auc_score(truth, score)) if positive and negative else None,
                "verdict": "estimable" if min(positive, negative) >= MIN_POSITIVES else "not estimable",
            }
        )
    return rows


def aurocs_by_source(
    scores: np.ndarray, targets: np.ndarray, findings: Sequence[str], sources: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Returns `finding_aurocs` within each source, and over `all sources`, where a classifier can read the scanner."""
    table = {"all sources": finding_aurocs(scores, targets, findings)}
    for source in sorted(set(sources)):
        rows = np.array([name == source for name in sources])
        found = finding_aurocs(scores[rows], targets[rows], findings)
        table[source] = [row for row in found if row["num_positive"] or row["num_negative"]]
    return {source: rows for source, rows in table.items() if rows}


def macro_auroc(rows: Sequence[dict[str, Any]]) -> float | None:
    """Returns the mean AUROC of the estimable findings, `None` if there are none."""
    values = [row["auroc"] for row in rows if row["verdict"] == "estimable"]
    return float(np.mean(values)) if values else None


def label_retrieval(similarity: np.ndarray, own: Sequence[int]) -> dict[str, Any]:
    """Returns how often an image finds its own set of labels among all sets that occur.

    Args:
        similarity: (N, L), images by sets of labels.
        own: The column of each image's set.

    Returns:
        For each depth k `recall_at_k` over images, `macro_recall_at_k` over sets (each set counts alike, so that the
        normal images do not decide it) and `chance_at_k`, with the numbers of images and sets.
    """
    own_column = np.asarray(own)
    own_similarity = similarity[np.arange(len(own_column)), own_column]
    rank = (similarity > own_similarity[:, None]).sum(axis=1)
    num_sets = similarity.shape[1]
    told: dict[str, Any] = {"num_images": len(own_column), "num_label_sets": num_sets}
    for depth in RETRIEVAL_DEPTHS:
        hit = rank < depth
        told[f"recall_at_{depth}"] = float(hit.mean())
        told[f"macro_recall_at_{depth}"] = float(np.mean([hit[own_column == c].mean() for c in set(own_column)]))
        told[f"chance_at_{depth}"] = min(1.0, depth / num_sets)
    return told
