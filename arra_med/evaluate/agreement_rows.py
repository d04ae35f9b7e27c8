"""The rows of an agreement, and what they say over training seeds: `dataclasses.asdict` of each is JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval, t_interval

ALL, MACRO = "all", "macro"


@dataclass(frozen=True)
class FindingAgreement:
    """One row: a finding, or the mean over the estimable ones, in all images or in a subgroup.

    Attributes:
        judge: Name of the encoder under the probe.
        source: Of the reports.
        finding: Harmonised name, or `macro`.
        group: `all`, or an attribute and its value, such as `sex=F`; images of unknown value are in no subgroup.
        num_images: Generated images, one for each report with labels.
        num_patients: Behind them.
        num_positives: Reports with the finding; none for `macro`.
        num_fit_positives: Real images with the finding that the probe is fitted to; none for `macro`.
        findings: What a `macro` row is the mean of.
        auroc: Of the generated images against their reports' label, patient-clustered; none if not estimable.
        ceiling: The same of the real images of these reports; none where there are none.
        floor: Mean over reports shuffled across patients, and between which bounds 95% of the shuffles lie.
        reason: Why something is missing.
    """

    judge: str
    source: str
    finding: str
    group: str
    num_images: int
    num_patients: int
    num_positives: int | None
    num_fit_positives: int | None
    findings: tuple[str, ...] = ()
    auroc: Interval | None = None
    ceiling: Interval | None = None
    floor: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class SeedAgreement:
    """One row over training seeds.

    Attributes:
        judge: Name of the encoder under the probe.
        source: Of the reports.
        finding: Harmonised name, or `macro`.
        group: As in `FindingAgreement`.
        seeds: Training seeds.
        per_seed: AUROC of each; empty if not estimable.
        auroc: t interval over seeds.
        baseline_per_seed: AUROC of the other arm, of the same seeds; empty if there is none.
        difference: t interval of the paired difference, this arm minus the baseline.
        reason: Why something is missing.
    """

    judge: str
    source: str
    finding: str
    group: str
    seeds: tuple[int, ...]
    per_seed: tuple[float, ...] = ()
    auroc: Interval | None = None
    baseline_per_seed: tuple[float, ...] = ()
    difference: Interval | None = None
    reason: str | None = None


def agreement_over_seeds(
    rows_by_seed: Mapping[int, Sequence[FindingAgreement]],
    baseline_by_seed: Mapping[int, Sequence[FindingAgreement]] | None = None,
) -> list[SeedAgreement]:
    """Summarises one arm over its training seeds, and its paired difference from another arm.

    Args:
        rows_by_seed: What `measure_agreement` gave for each training seed of the arm, on the same reports.
        baseline_by_seed: Likewise for the other arm, of the same seeds.

    Raises:
        EvaluationError: If there is no seed, or seeds or rows do not pair.
    """
    seeds = tuple(sorted(rows_by_seed))
    arms = [rows_by_seed] if baseline_by_seed is None else [rows_by_seed, baseline_by_seed]
    if not seeds or any(tuple(sorted(arm)) != seeds for arm in arms):
        raise EvaluationError("the two arms have no or different training seeds: judge the same seeds of both")
    keys = [[_key(row) for row in arm[seed]] for arm in arms for seed in seeds]
    if any(other != keys[0] for other in keys):
        raise EvaluationError(
            "the training seeds were judged on different rows: give all the same judge, reports and findings"
        )
    rows = []
    for number, first in enumerate(rows_by_seed[seeds[0]]):
        row = SeedAgreement(first.judge, first.source, first.finding, first.group, seeds, reason=first.reason)
        areas = [[arm[seed][number].auroc for seed in seeds] for arm in arms]
        by_arm = [tuple(area.estimate for area in of_arm if area is not None) for of_arm in areas]
        if by_arm[0]:
            row = replace(row, per_seed=by_arm[0], baseline_per_seed=by_arm[1] if len(arms) > 1 else ())
        if len(by_arm[0]) == 1:
            row = replace(row, reason="no interval: 1 training seed, 2 needed")
        elif by_arm[0]:
            difference = t_interval(np.subtract(by_arm[0], by_arm[1]).tolist()) if len(arms) > 1 else None
            row = replace(row, auroc=t_interval(by_arm[0]), difference=difference)
        rows.append(row)
    return rows


def _key(row: FindingAgreement) -> tuple[object, ...]:
    counts = row.num_images, row.num_positives, row.num_fit_positives
    return row.judge, row.source, row.finding, row.group, *counts, row.findings
