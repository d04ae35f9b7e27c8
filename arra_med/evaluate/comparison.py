"""From one distance for each arm and seed to what may be said: effects with intervals, controls, tiers.

Nothing here knows of images: `comparison.json` holds the same numbers, and anyone can compute the intervals again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import (
    DetectableEffect,
    Interval,
    Reduction,
    reduction_interval,
    smallest_detectable_reduction,
    t_interval,
)
from arra_med.evaluate.resampling import hierarchical_interval

Tier = Literal["exceeds the paper", "matches the paper", "helps", "no matched control", "not shown to help", "hurts"]
PAPER_REDUCTION: dict[str, float] = {"text": 0.29, "adapt": 0.20}
"""What the paper reports (arXiv 2503.07334, MIMIC-CXR and ImageNet), rounded: 29% from a text-only LLM, 20% when a generator is adapted."""

PerSeed = Mapping[str, Sequence[float]]
"""A distance by arm, one value for each seed in the study's order."""

DistanceOnRows = Callable[[str, int, np.ndarray], float]
"""From an arm, the number of a seed and rows of the held-out images to the distance on these rows."""


@dataclass(frozen=True)
class ArmEffect:
    """How one arm differs from another.

    Attributes:
        arm: The arm.
        against: What it is compared with.
        role_against: `baseline` or `control`.
        reduction: Paired over training seeds: by what share the distance fell.
        hierarchical: The same when the test patients are a sample, too; of the log-ratio, as a reduction.
    """

    arm: str
    against: str
    role_against: str
    reduction: Reduction
    hierarchical: Interval | None


@dataclass(frozen=True)
class ExcessEffect:
    """How one arm's excess over the tokenizer's floor differs from another's: secondary to `ArmEffect`.

    Attributes:
        arm: The arm.
        against: What it is compared with.
        reduction: Paired over training seeds; none where an excess is not above 0, since a ratio to nothing says nothing.
    """

    arm: str
    against: str
    reduction: Reduction | None


@dataclass(frozen=True)
class Verdict:
    """What the primary distance lets one say of a treatment.

    Attributes:
        arm: The treatment.
        tier: The highest that holds.
        reason: One sentence.
    """

    arm: str
    tier: Tier
    reason: str


def detectable(per_seed: PerSeed, baseline: str) -> DetectableEffect:
    """Returns the smallest effect that this study could find, from the baseline's seeds alone."""
    return smallest_detectable_reduction(per_seed[baseline], len(per_seed[baseline]))


def effects(
    per_seed: PerSeed,
    roles: Mapping[str, str],
    *,
    distance_on_rows: DistanceOnRows | None = None,
    patients: Sequence[str] = (),
) -> list[ArmEffect]:
    """Compares every arm with the baseline, and every treatment with every control.

    Args:
        per_seed: The distance.
        roles: Role by arm.
        distance_on_rows: From arm, number of the seed and rows of the held-out images to the distance on these rows.
        patients: Whose image each row is; with `distance_on_rows` it gives the interval over seeds and patients.

    Raises:
        EvaluationError: If arms have different numbers of seeds, or there are fewer than 2.
    """
    if len({len(values) for values in per_seed.values()}) != 1:
        counts = ", ".join(f"{arm} {len(values)}" for arm, values in per_seed.items())
        raise EvaluationError(f"the arms have different numbers of seeds ({counts}): finish the study first")
    found = []
    for arm, against, role in _pairs(roles):
        interval = None
        if distance_on_rows is not None:
            interval = _over_seeds_and_patients(distance_on_rows, arm, against, len(per_seed[arm]), patients)
        found.append(ArmEffect(arm, against, role, reduction_interval(per_seed[against], per_seed[arm]), interval))
    return found


def excess_intervals(per_seed: PerSeed, floor: float) -> dict[str, Interval]:
    """Returns by arm the mean over seeds of what lies above the tokenizer's floor, which all arms and seeds share."""
    return {arm: t_interval([value - floor for value in values]) for arm, values in per_seed.items()}


def excess_effects(per_seed: PerSeed, roles: Mapping[str, str], floor: float) -> list[ExcessEffect]:
    """Compares the excess of the arms that `effects` compares.

    A ratio has a meaning where both means are surely above 0: where their intervals and all seeds are.
    """
    excess = {arm: [value - floor for value in values] for arm, values in per_seed.items()}
    sure = {arm for arm, interval in excess_intervals(per_seed, floor).items() if min(interval.low, *excess[arm]) > 0}
    return [
        ExcessEffect(arm, against, reduction_interval(excess[against], excess[arm]) if {arm, against} <= sure else None)
        for arm, against, _ in _pairs(roles)
    ]


def verdicts(
    found: Sequence[ArmEffect],
    roles: Mapping[str, str],
    paper: float,
    controls: Mapping[str, Sequence[str]] | None = None,
) -> list[Verdict]:
    """Returns what may be said of each treatment.

    *helps*: the lower bound is above 0 against the baseline and against each of its controls; a treatment without one gets
    no tier, since any other auxiliary loss might have done the same. *matches the paper*: it helps, and the reduction
    against the baseline is at least the paper's. *exceeds it*: the lower bound is above the paper's.

    Args:
        found: What `effects` returned.
        roles: Role by arm.
        paper: The paper's reduction for this kind of start, such as 0.29.
        controls: Controls by treatment; absent: every control is every treatment's.
    """
    all_controls = [arm for arm, role in roles.items() if role == "control"]
    told = []
    for arm in [arm for arm, role in roles.items() if role == "treatment"]:
        mine = [effect for effect in found if effect.arm == arm]
        against_baseline = next(effect.reduction for effect in mine if effect.role_against == "baseline")
        own = list(controls[arm]) if controls is not None else all_controls
        judged = [effect for effect in mine if effect.role_against == "baseline" or effect.against in own]
        short = [effect.against for effect in judged if effect.reduction.low <= 0]
        share = f"{against_baseline.reduction:.1%} [{against_baseline.low:.1%}, {against_baseline.high:.1%}]"
        if against_baseline.high < 0:
            told.append(Verdict(arm, "hurts", f"the distance rose: reduction {share} against the baseline"))
        elif short:
            told.append(
                Verdict(
                    arm,
                    "not shown to help",
                    f"reduction {share} against the baseline; the lower bound is not above 0 against {', '.join(short)}",
                )
            )
        elif not own:
            told.append(
                Verdict(
                    arm,
                    "no matched control",
                    f"reduction {share} against the baseline, and no control with its teacher",
                )
            )
        else:
            tier: Tier = "helps"
            if against_baseline.low > paper:
                tier = "exceeds the paper"
            elif against_baseline.reduction >= paper:
                tier = "matches the paper"
            told.append(
                Verdict(arm, tier, f"reduction {share} against the baseline, lower bounds above 0 against its controls")
            )
    return told


def differences(per_seed: PerSeed, baseline: str) -> dict[str, Interval]:
    """Returns the paired difference of each arm to the baseline, for a measure that can be negative such as KID."""
    return {
        arm: t_interval((np.asarray(values) - np.asarray(per_seed[baseline])).tolist())
        for arm, values in per_seed.items()
        if arm != baseline
    }


def _pairs(roles: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Every arm with the baseline and every treatment with every control: arm, against what, and its role."""
    return [
        (arm, against, role)
        for against, role in roles.items()
        for arm, its_role in roles.items()
        if (role == "baseline" and its_role != "baseline") or (role == "control" and its_role == "treatment")
    ]


def _over_seeds_and_patients(
    distance_on_rows: DistanceOnRows,
    arm: str,
    against: str,
    num_seeds: int,
    patients: Sequence[str],
) -> Interval:
    def log_ratio(number: int, rows: np.ndarray) -> float:
        return float(np.log(distance_on_rows(arm, number, rows) / distance_on_rows(against, number, rows)))

    found = hierarchical_interval(log_ratio, num_seeds, patients)
    return Interval(
        estimate=float(0 - np.expm1(found.estimate)),
        low=float(0 - np.expm1(found.high)),
        high=float(0 - np.expm1(found.low)),
        confidence=found.confidence,
        num_units=found.num_units,
        method=found.method,
    )
