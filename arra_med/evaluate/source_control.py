"""A control, no result: how well the judge tells sources apart on real images.

Where it does, and it nearly always does, a figure over several sources may have read the scanner; that is why agreement
and utility stay within one.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arra_med.errors import EvaluationError
from arra_med.evaluate.finding_judge import INVERSE_PENALTY, LabelledFeatures
from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.resampling import jackknife_interval

KIND = "control: source prediction on real images"


@dataclass(frozen=True)
class SourceControl:
    """How well a probe on the judge's features names the source of a real image. `dataclasses.asdict` of it is JSON.

    Attributes:
        kind: That this is a control.
        judge: Name of the encoder.
        num_images: Of each source that was told apart.
        left_out: Images of each source with too few patients.
        chance: Balanced accuracy of guessing, 1 / number of sources.
        balanced_accuracy: Mean over the sources of the share named rightly, cross-validated over patients.
    """

    kind: str
    judge: str
    num_images: dict[str, int]
    left_out: dict[str, int]
    chance: float
    balanced_accuracy: Interval


def measure_source_control(real: LabelledFeatures, *, num_folds: int = 5, seed: int = 0) -> SourceControl:
    """Measures it.

    Args:
        real: Real images of several sources.
        num_folds: Folds of patients; a source needs twice as many patients, or it is left out.
        seed: Deals the patients.

    Raises:
        EvaluationError: If there are fewer than two folds, or two sources with enough patients.
    """
    if num_folds < 2:
        raise EvaluationError(f"num_folds is {num_folds}: cross-validation needs at least 2")
    sources = np.array([record.source for record in real.records])
    pairs = set(zip(sources.tolist(), real.patients, strict=True))
    num_patients = Counter(source for source, _ in pairs)
    kept = sorted(source for source, count in num_patients.items() if count >= 2 * num_folds)
    if len(kept) < 2:
        raise EvaluationError(
            f"{len(kept)} of {len(num_patients)} sources have the {2 * num_folds} patients that {num_folds} folds need: "
            "give real images of at least two such sources"
        )
    told_apart = real.take(np.isin(sources, kept))
    names = sources[np.isin(sources, kept)]
    read = np.empty_like(names)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    for train, held_out in folds.split(told_apart.features, names, told_apart.patients):
        probe = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
        pipeline = make_pipeline(StandardScaler(), probe).fit(told_apart.features[train], names[train])
        read[held_out] = pipeline.predict(told_apart.features[held_out])

    def balanced_accuracy(rows: np.ndarray) -> float:
        return float(recall_score(names[rows], read[rows], average="macro", labels=kept, zero_division=np.nan))

    counts = Counter(sources.tolist())
    return SourceControl(
        kind=KIND,
        judge=real.judge,
        num_images={source: counts[source] for source in kept},
        left_out={source: counts[source] for source in sorted(counts) if source not in kept},
        chance=1 / len(kept),
        balanced_accuracy=jackknife_interval(balanced_accuracy, told_apart.patients, seed=seed),
    )
