"""Agreement with the report: whether a probe fitted to real images finds in a drawn image what its report says.

An AUROC of 0.66 says little alone. The ceiling is the same probe on the real image of the same report; the floor is the
drawn images against reports of other patients. All of it is within one source, so that the scanner cannot be read for the
finding, and each interval is over patients: it says how sure the figure is of these models, not of other trainings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.agreement_rows import ALL, MACRO, FindingAgreement, SeedAgreement, agreement_over_seeds
from arra_med.evaluate.finding_judge import (
    FIT_MIN_POSITIVES,
    FindingJudge,
    LabelledFeatures,
    findings_of,
    require_fair_probe,
    too_few,
)
from arra_med.evaluate.intervals import Interval, macro_auroc_interval
from arra_med.records.study import AgeGroup, StudyRecord, View

__all__ = [
    "FindingAgreement",
    "LabelledFeatures",
    "SeedAgreement",
    "agreement_over_seeds",
    "measure_agreement",
    "measure_prompt_agreement",
]

MIN_POSITIVES = 30
NUM_SHUFFLES = 200

_SUBGROUPS: dict[str, tuple[str, ...]] = {"age_group": get_args(AgeGroup), "sex": ("F", "M"), "view": get_args(View)}


def measure_agreement(
    fit: LabelledFeatures,
    real: LabelledFeatures,
    generated: np.ndarray,
    *,
    findings: Sequence[str] | None = None,
    min_positives: int = MIN_POSITIVES,
    seed: int = 0,
) -> list[FindingAgreement]:
    """Measures how well generated images show what their reports say.

    Args:
        fit: Real training images that no generator saw; they fit the probes.
        real: Real held-out images of the same source: the ceiling, and whose reports are asked for.
        generated: (n, D), row i from the report of real image i.
        findings: Harmonised names; by default all that `real` has.
        min_positives: Images with the finding, and as many without, that an AUROC needs.
        seed: Of the shuffles.

    Returns:
        For each finding a row of all images, then of each subgroup; last, a `macro` row of all images.

    Raises:
        EvaluationError: If a side is of several sources or the two of different ones, judges or widths differ, rows do
            not pair, or a value is not finite.
        OverlapError: If a patient both fits the probe and is judged.
    """
    require_fair_probe(fit, real)
    drawn = LabelledFeatures(real.judge, generated, real.records)
    return _measure(fit, drawn, real, findings or findings_of(real.records), min_positives, seed)


def measure_prompt_agreement(
    fit: LabelledFeatures,
    records: Sequence[StudyRecord],
    generated: np.ndarray,
    *,
    findings: Sequence[str],
    min_positives: int = MIN_POSITIVES,
    seed: int = 0,
) -> list[FindingAgreement]:
    """Measures the same for reports of a source that has no images: without a ceiling.

    Args:
        fit: Real images of one other source.
        records: The reports, of one source, with labels.
        generated: (n, D), row i from report i.
        findings: Harmonised names.
        min_positives: As for `measure_agreement`.
        seed: Of the shuffles.

    Raises:
        EvaluationError: As `measure_agreement`.
    """
    fit.source("fitting")
    drawn = LabelledFeatures(fit.judge, generated, tuple(records))
    return _measure(fit, drawn, None, findings, min_positives, seed)


def shuffled_floor(
    scores: np.ndarray, positive: np.ndarray, patients: Sequence[str], rng: np.random.Generator
) -> Interval | None:
    """Returns the mean area over reports shuffled across patients, and the bounds of 95% of the shuffles.

    Patients are put into random order, and their reports moved along it by a random number of images, so that no image
    keeps a report of its own patient and reports of one patient stay together.

    Args:
        scores: (n, F).
        positive: (n, F) bool.
        patients: (n,) whose image each row is.
        rng: Draws the shuffles.

    Returns:
        None if one patient has more than half of the images.
    """
    units = np.unique(np.asarray(patients), return_inverse=True)[1]
    num_images, most = len(units), int(np.bincount(units).max())
    if 2 * most > num_images:
        return None
    ranks = stats.rankdata(scores, axis=0)
    num_positive = positive.sum(axis=0)
    areas = np.empty(NUM_SHUFFLES)
    for shuffle in range(NUM_SHUFFLES):
        order = np.argsort(rng.permutation(units.max() + 1)[units], kind="stable")
        moved = np.roll(positive[order], int(rng.integers(most, num_images - most + 1)), axis=0)
        beaten = (ranks[order] * moved).sum(axis=0) - num_positive * (num_positive + 1) / 2
        areas[shuffle] = (beaten / (num_positive * (num_images - num_positive))).mean()
    low, high = np.quantile(areas, (0.025, 0.975))
    method = f"{NUM_SHUFFLES} shuffles of the reports across patients"
    return Interval(float(areas.mean()), float(low), float(high), 0.95, NUM_SHUFFLES, method)


def _measure(
    fit: LabelledFeatures,
    drawn: LabelledFeatures,
    real: LabelledFeatures | None,
    findings: Sequence[str],
    min_positives: int,
    seed: int,
) -> list[FindingAgreement]:
    if min_positives < 2:
        raise EvaluationError(
            f"min_positives is {min_positives}, an AUROC needs at least 2: ask for 2 or more, better 30"
        )
    known = drawn.labelled()
    if not known.any():
        raise EvaluationError("no report has a label: agreement needs reports whose findings are known")
    drawn, real = drawn.take(known), real.take(known) if real is not None else None
    source, rng, patients = drawn.source("judged"), np.random.default_rng(seed), np.array(drawn.patients)
    fit_labelled = fit.labelled()
    rows: list[FindingAgreement] = []
    estimable: dict[str, _Scores] = {}
    for finding in findings:
        of_fit, positive = fit.positive(finding)[fit_labelled], drawn.positive(finding)
        unfit = too_few(of_fit, FIT_MIN_POSITIVES)
        for group, members in _groups(drawn.records):
            row = FindingAgreement(
                judge=drawn.judge,
                source=source,
                finding=finding,
                group=group,
                num_images=int(members.sum()),
                num_patients=len(np.unique(patients[members])),
                num_positives=int(positive[members].sum()),
                num_fit_positives=int(of_fit.sum()),
            )
            reason = too_few(positive[members], min_positives) or (unfit and f"{unfit} to fit the judge")
            if reason:
                rows.append(replace(row, reason=f"not estimable: {reason}"))
                continue
            if finding not in estimable:  # all images come first, and no subgroup has more
                estimable[finding] = _scores(FindingJudge(fit, finding), drawn, real)
            rows.append(_estimated(row, estimable[finding], members, patients, rng))
    macro = FindingAgreement(
        judge=drawn.judge,
        source=source,
        finding=MACRO,
        group=ALL,
        num_images=len(drawn.records),
        num_patients=len(np.unique(patients)),
        num_positives=None,
        num_fit_positives=None,
        findings=tuple(estimable),
    )
    if not estimable:
        return [*rows, replace(macro, reason="not estimable: no finding is")]
    everyone = np.ones(len(drawn.records), dtype=bool)
    return [*rows, _estimated(macro, _joined(list(estimable.values())), everyone, patients, rng)]


@dataclass(frozen=True)
class _Scores:
    """Log-odds (n, F) of drawn images, whether their reports have the finding (n, F), and log-odds of the real images."""

    drawn: np.ndarray
    positive: np.ndarray
    real: np.ndarray | None


def _scores(judge: FindingJudge, drawn: LabelledFeatures, real: LabelledFeatures | None) -> _Scores:
    return _Scores(
        drawn=judge.scores(drawn.features)[:, None],
        positive=drawn.positive(judge.finding)[:, None],
        real=None if real is None else judge.scores(real.features)[:, None],
    )


def _joined(columns: Sequence[_Scores]) -> _Scores:
    real = [column.real for column in columns if column.real is not None]
    return _Scores(
        drawn=np.hstack([column.drawn for column in columns]),
        positive=np.hstack([column.positive for column in columns]),
        real=np.hstack(real) if real else None,
    )


def _estimated(
    row: FindingAgreement, scores: _Scores, members: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> FindingAgreement:
    """Fills a row from the images that are members (n,)."""
    positive, whose = scores.positive[members], patients[members].tolist()
    floor = shuffled_floor(scores.drawn[members], positive, whose, rng)
    return replace(
        row,
        auroc=macro_auroc_interval(scores.drawn[members], positive, patients=whose),
        ceiling=None if scores.real is None else macro_auroc_interval(scores.real[members], positive, patients=whose),
        floor=floor,
        reason=None if floor else "no floor: one patient has more than half of the images",
    )


def _groups(records: Sequence[StudyRecord]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields all images, then each subgroup that has any: its name and members (n,)."""
    yield ALL, np.ones(len(records), dtype=bool)
    for attribute, values in _SUBGROUPS.items():
        for value in values:
            members = np.array([getattr(record, attribute) == value for record in records])
            if members.any():
                yield f"{attribute}={value}", members
