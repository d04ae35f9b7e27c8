"""A finding's judge: a linear probe on a frozen encoder, fitted to real training images of one source.

The encoder must never have been near the training of the model that is judged (EfficientNet-Lite2 is kept for this).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import StudySetError
from arra_med.evaluate.judged import judged_features
from arra_med.records.study import Split
from arra_med.records.wording import canonical_labels

_MIN_POSITIVES = 10
_INVERSE_PENALTY = 1e-3  # strong: a thousand features, some tens of positives


@dataclass(frozen=True)
class JudgedImages:
    """Features of real images and which of them have the finding.

    Attributes:
        features: float32 (n, D).
        positive: bool (n,).
    """

    features: np.ndarray
    positive: np.ndarray


class FindingJudge:
    """Scores images for one finding.

    Args:
        encoder: The frozen encoder.
        train: Real training images; "unknown" counts as absent, as the source's own benchmark does.

    Raises:
        StudySetError: If there are too few positive or negative images.
    """

    def __init__(self, encoder: FrozenEncoder, train: JudgedImages) -> None:
        positives = int(train.positive.sum())
        if min(positives, len(train.positive) - positives) < _MIN_POSITIVES:
            raise StudySetError(
                f"a judge needs {_MIN_POSITIVES} training images with the finding and as many without, found {positives} "
                f"and {len(train.positive) - positives}: choose another finding or source"
            )
        self.encoder = encoder
        probe = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
        self._probe: Pipeline = make_pipeline(StandardScaler(), probe).fit(train.features, train.positive)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of the finding for features (n, D) -> (n,)."""
        return np.asarray(self._probe.decision_function(features))

    def auroc(self, images: JudgedImages) -> float:
        """Area under the ROC curve on other real images."""
        return float(roc_auc_score(images.positive, self.scores(images.features)))


def judge_features(encoder: FrozenEncoder, views: Sequence[np.ndarray]) -> np.ndarray:
    """Encodes a list of uint8 views (C, S, S) -> float32 (n, D), the mean feature; see `judged_features`."""
    return judged_features(encoder, np.stack(views))


def real_images(
    studies: StudySet, source: str, split: Split, encoder: FrozenEncoder
) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Returns features (n, D) and harmonised labels of one source's real images in one split.

    Raises:
        StudySetError: If there are none.
    """
    chosen = studies.select(split=split)
    records = chosen.records()
    rows = [row for row, record in enumerate(records) if record.source == source]
    if not rows:
        raise StudySetError(f"the study set has no {split} images of source {source}: choose another source")
    features = judge_features(encoder, [chosen.view(row) for row in rows])
    return features, [canonical_labels(records[row]) for row in rows]
