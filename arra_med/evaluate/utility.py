"""Utility: what a small classifier learns from synthetic images, from real ones, and from both, tested on real ones.

The classifier is the finding's probe. All three are fitted with the same weight of the data against the penalty, so that
twice as many rows are not a weaker penalty. Training seeds are the unit of replication.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_sets import checked_features
from arra_med.evaluate.finding_judge import (
    FIT_MIN_POSITIVES,
    INVERSE_PENALTY,
    FindingJudge,
    LabelledFeatures,
    findings_of,
    require_fair_probe,
    too_few,
)
from arra_med.evaluate.intervals import Interval, auroc_interval, macro_auroc_interval, t_interval


@dataclass(frozen=True)
class SeedUtility:
    """What the images of one training seed teach.

    Attributes:
        seed: Of the generator's training.
        synthetic: Macro-AUROC of the classifier fitted to synthetic images alone, with its interval over test patients.
        both: Likewise of real and synthetic ones together.
        synthetic_by_finding: AUROC of each finding.
        both_by_finding: AUROC of each finding.
    """

    seed: int
    synthetic: Interval
    both: Interval
    synthetic_by_finding: dict[str, float]
    both_by_finding: dict[str, float]


@dataclass(frozen=True)
class Utility:
    """Macro-AUROCs on real held-out images. `dataclasses.asdict` of it is JSON.

    Attributes:
        judge: Name of the encoder under the classifier.
        source: Of all images.
        findings: What the macro-AUROC is the mean of.
        not_estimable: Why the other findings are not among them.
        num_train: Real training images, and as many synthetic ones of each seed.
        num_test: Real held-out images.
        real: The classifier fitted to real images alone, with DeLong's interval over test patients.
        real_by_finding: AUROC of each finding.
        per_seed: One row for each training seed.
        synthetic_minus_real: t interval over training seeds.
        both_minus_real: t interval over training seeds.
        reason: Why something is missing.
    """

    judge: str
    source: str
    findings: tuple[str, ...]
    not_estimable: dict[str, str]
    num_train: int
    num_test: int
    real: Interval | None = None
    real_by_finding: dict[str, float] | None = None
    per_seed: tuple[SeedUtility, ...] = ()
    synthetic_minus_real: Interval | None = None
    both_minus_real: Interval | None = None
    reason: str | None = None


def measure_utility(
    real_train: LabelledFeatures,
    synthetic: Mapping[int, np.ndarray],
    test: LabelledFeatures,
    *,
    findings: Sequence[str] | None = None,
    min_positives: int = 30,
) -> Utility:
    """Trains and tests the classifiers.

    Args:
        real_train: Real training images.
        synthetic: By training seed of the generator: (n, D), row i from the report of real training image i.
        test: Real held-out images of the same source and other patients.
        findings: Harmonised names; by default all of the test images.
        min_positives: Test images with the finding, and as many without, that an AUROC needs.

    Raises:
        EvaluationError: If there is no seed, a side is of several sources or the two of different ones, judges or
            widths differ, rows do not pair, or a value is not finite.
        OverlapError: If a patient is on both sides.
    """
    source = require_fair_probe(real_train, test)
    if not synthetic or min_positives < 2:
        raise EvaluationError(
            f"there are {len(synthetic)} training seeds and min_positives is {min_positives}: give the images of at least "
            "one seed, and ask for 2 positives or more, better 30"
        )
    drawn = {seed: _drawn(real_train, features) for seed, features in sorted(synthetic.items())}
    train, test = real_train.take(real_train.labelled()), test.take(test.labelled())
    not_estimable = {}
    for finding in findings or findings_of(test.records):
        of_train = too_few(train.positive(finding), FIT_MIN_POSITIVES)
        reason = too_few(test.positive(finding), min_positives) or (of_train and f"{of_train} to fit")
        if reason:
            not_estimable[finding] = f"not estimable: {reason}"
    estimable = tuple(name for name in findings or findings_of(test.records) if name not in not_estimable)
    told = Utility(real_train.judge, source, estimable, not_estimable, len(train.records), len(test.records))
    if not estimable:
        return replace(told, reason="not estimable: no finding is")
    real, real_by_finding = _test(train, test, estimable, 1.0)
    rows = []
    for seed, images in drawn.items():
        images = images.take(images.labelled())
        both = LabelledFeatures(
            train.judge, np.concatenate([train.features, images.features]), (*train.records, *images.records)
        )
        (alone, alone_by_finding), (joined, joined_by_finding) = (
            _test(images, test, estimable, 1.0),
            _test(both, test, estimable, 0.5),
        )
        rows.append(SeedUtility(seed, alone, joined, alone_by_finding, joined_by_finding))
    enough = len(rows) > 1
    return replace(
        told,
        real=real,
        real_by_finding=real_by_finding,
        per_seed=tuple(rows),
        synthetic_minus_real=t_interval([r.synthetic.estimate - real.estimate for r in rows]) if enough else None,
        both_minus_real=t_interval([r.both.estimate - real.estimate for r in rows]) if enough else None,
        reason=None if enough else "no interval: 1 training seed, 2 needed",
    )


def _drawn(real_train: LabelledFeatures, features: np.ndarray) -> LabelledFeatures:
    """Returns synthetic images with the labels of the reports that they were drawn from."""
    width = checked_features(features, "synthetic").shape[1]
    if width != real_train.features.shape[1]:
        raise EvaluationError(
            f"the synthetic features have width {width} and the real ones {real_train.features.shape[1]}: encode both "
            "with the same encoder and the same feature"
        )
    return LabelledFeatures(real_train.judge, features, real_train.records)


def _test(
    fit: LabelledFeatures, test: LabelledFeatures, findings: Sequence[str], weight: float
) -> tuple[Interval, dict[str, float]]:
    """Fits a probe for each finding, each row with a weight, and reads the test images."""
    judges = [FindingJudge(fit, finding, inverse_penalty=INVERSE_PENALTY * weight) for finding in findings]
    scores = np.stack([judge.scores(test.features) for judge in judges], axis=1)
    positive = np.stack([test.positive(finding) for finding in findings], axis=1)
    by_finding = {
        finding: auroc_interval(scores[:, column], positive[:, column]).estimate
        for column, finding in enumerate(findings)
    }
    return macro_auroc_interval(scores, positive, patients=test.patients), by_finding
