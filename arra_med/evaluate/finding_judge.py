"""A finding's judge: a linear probe on a frozen encoder's features, fitted to real images of one source.

One probe for all that asks whether a picture shows a finding: agreement with the report, the effect of a prompt, utility.
The encoder must never have been near the training of the model that is judged (EfficientNet-Lite2 is kept for this). An
in-house classifier judges by its backbone: its folder loads as any other encoder.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.feature_sets import checked_features
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.held_out import one_source, real_images
from arra_med.evaluate.intervals import Interval, auroc_interval
from arra_med.records.study import Split, StudyRecord
from arra_med.records.wording import NORMAL, canonical_labels

FIT_MIN_POSITIVES = 10
"""Images with the finding, and as many without, that a probe is fitted to."""

INVERSE_PENALTY = 1e-3
"""Strong: a thousand features, some tens of positives. Chosen by four folds of NIH training patients: 3e-4 and 1e-3 are alike."""


@dataclass(frozen=True)
class LabelledFeatures:
    """One judge's features of images whose findings are known.

    Attributes:
        judge: Name of the encoder.
        features: float32 (n, D).
        records: What is known about each image. One without any label is of unknown findings and is left out; on the
            others, what no label names counts as absent, as the source's own benchmark does.

    Raises:
        EvaluationError: On construction, if features and records differ in number, or a value is not finite.
    """

    judge: str
    features: np.ndarray
    records: tuple[StudyRecord, ...]

    def __post_init__(self) -> None:
        checked_features(self.features, self.judge)
        if len(self.features) != len(self.records):
            raise EvaluationError(
                f"there are {len(self.features)} rows of {self.judge} features and {len(self.records)} studies: give "
                "one row for each study, in the same order"
            )

    @property
    def patients(self) -> list[str]:
        """Whose image each row is, as keyed hashes."""
        return [record.patient_id for record in self.records]

    def source(self, side: str) -> str:
        """Returns the one source of the images.

        Args:
            side: What to call them in a message.

        Raises:
            EvaluationError: If there are several: a judge could read the scanner in place of the finding.
        """
        sources = sorted({record.source for record in self.records})
        if len(sources) != 1:
            raise EvaluationError(
                f"the {side} images come from {', '.join(sources)}, and source and findings go together: give the "
                "images of one source"
            )
        return sources[0]

    def labelled(self) -> np.ndarray:
        """Returns which images have labels at all: bool (n,)."""
        return np.array([bool(record.labels) for record in self.records])

    def positive(self, finding: str) -> np.ndarray:
        """Returns which images have the finding: bool (n,)."""
        return np.array([finding in canonical_labels(record) for record in self.records])

    def take(self, rows: np.ndarray) -> "LabelledFeatures":
        """Returns the rows of an index or mask (n,)."""
        numbers = np.arange(len(self.records))[rows]
        return LabelledFeatures(self.judge, self.features[numbers], tuple(self.records[row] for row in numbers))


class FindingJudge:
    """Scores images for one finding.

    Args:
        fit: Real images, or any others whose findings are known.
        finding: Harmonised name.
        inverse_penalty: C of the logistic regression; smaller is stronger.

    Attributes:
        name: Of the encoder.
        finding: As given.

    Raises:
        EvaluationError: If there are too few positive or negative images.
    """

    def __init__(self, fit: LabelledFeatures, finding: str, *, inverse_penalty: float = INVERSE_PENALTY) -> None:
        self.name, self.finding = fit.judge, finding
        labelled, positive = fit.labelled(), fit.positive(finding)
        if reason := too_few(positive[labelled], FIT_MIN_POSITIVES):
            raise EvaluationError(
                f"a judge of {finding} cannot be fitted: {reason}: choose another finding or source, or ingest more"
            )
        probe = LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=2000)
        self._probe: Pipeline = make_pipeline(StandardScaler(), probe)
        self._probe.fit(fit.features[labelled], positive[labelled])
        self._width = fit.features.shape[1]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of the finding for features (n, D) -> (n,).

        Raises:
            EvaluationError: If their width is not that of the fit, or a value is not finite.
        """
        checked = checked_features(features, "judged")
        if checked.shape[1] != self._width:
            raise EvaluationError(
                f"the judged features have width {checked.shape[1]} and the probe was fitted to width {self._width}: "
                "encode both with the same encoder and the same feature"
            )
        return np.asarray(self._probe.decision_function(np.asarray(features, dtype=np.float32)))

    def auroc(self, images: LabelledFeatures) -> Interval:
        """Area under the ROC curve on other images, with an interval over patients."""
        held = images.take(images.labelled())
        return auroc_interval(self.scores(held.features), held.positive(self.finding), patients=held.patients)


def too_few(positive: np.ndarray, needed: int) -> str | None:
    """Returns why positives or negatives (bool (n,)) are too few, such as "18 positives, 30 needed"; none if they are not."""
    num_positives = int(positive.sum())
    num_negatives = len(positive) - num_positives
    if num_positives < needed:
        return f"{num_positives} positives, {needed} needed"
    return f"{num_negatives} negatives, {needed} needed" if num_negatives < needed else None


def findings_of(records: Iterable[StudyRecord]) -> tuple[str, ...]:
    """Returns the findings of the records, the most frequent first; "normal" is none."""
    counts = Counter(label for record in records for label in canonical_labels(record) if label != NORMAL)
    return tuple(sorted(counts, key=lambda finding: (-counts[finding], finding)))


def require_fair_probe(fit: LabelledFeatures, held_out: LabelledFeatures, judge: str | None = None) -> str:
    """Makes sure that a probe fitted to one set can read another one: of one source and judge, of other patients.

    Args:
        fit: What the probe is fitted to.
        held_out: What it reads.
        judge: Name of the encoder that will read drawn images, too.

    Returns:
        The source.

    Raises:
        EvaluationError: If a side is of several sources or the two of different ones, or another judge made the features.
        OverlapError: If a patient is on both sides.
    """
    source, other = fit.source("fitting"), held_out.source("held-out")
    if source != other:
        raise EvaluationError(
            f"the probe is fitted to images of {source} and would judge those of {other}: give one source on both sides"
        )
    for name in (held_out.judge, judge or fit.judge):
        if name != fit.judge:
            raise EvaluationError(
                f"the probe is fitted to features of {fit.judge} and would read those of {name}: encode both with one judge"
            )
    both = set(fit.patients) & set(held_out.patients)
    if both:
        raise OverlapError(
            f"{len(both)} patients are among the images that fit the judge and among the held-out ones: split by patient"
        )
    return source


def real_features(studies: StudySet, source: str, split: Split, encoder: FrozenEncoder) -> LabelledFeatures:
    """Encodes one source's real images in one split.

    Raises:
        StudySetError: If there are none.
    """
    chosen = one_source(studies, split, source)
    images = real_images(chosen, range(len(chosen)))
    return LabelledFeatures(encoder.name, judged_features(encoder, images.views), images.records)
