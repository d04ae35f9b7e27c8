"""The cases of a reader study, drawn from its arms: balanced, mixed, and refused where something would tell the arms apart."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.corpus.study_rows import encode_png, view_sha256
from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_order import num_repeats
from arra_med.evaluate.reader_study import ReaderStudySettings
from arra_med.evaluate.reading_set import ReadingArm, Role, check_arms, check_copies, check_reports
from arra_med.imaging.view import NUM_CHANNELS

MIN_REPEATED_CASES = 6


@dataclass(frozen=True)
class CaseImage:
    """One image of a case.

    Attributes:
        arm: Its arm.
        role: The right answer.
        origin: Where it is from, for the owner; no file name.
        png: Its bare pixels: no metadata.
    """

    arm: str
    role: Role
    origin: str
    png: bytes

    @property
    def sha256(self) -> str:
        """Of the PNG."""
        return hashlib.sha256(self.png).hexdigest()


@dataclass(frozen=True)
class Case:
    """What is judged at once.

    Attributes:
        images: One, or the two of a preference.
        report: Shown beside; "" for none.
    """

    images: tuple[CaseImage, ...]
    report: str


def study_cases(
    settings: ReaderStudySettings,
    arms: Sequence[ReadingArm],
    *,
    per_arm: int | None = None,
    with_reports: bool = False,
) -> list[Case]:
    """Draws the cases.

    Args:
        settings: Of the study.
        arms: Their views are canonical views of the study's size. For a preference: two, of the same origins, which pair
            the images.
        per_arm: Images of each arm (cases, for a preference); by default as many as the smallest arm has.
        with_reports: Whether readers see the reports.

    Returns:
        The cases in a seeded order.

    Raises:
        EvaluationError: If an arm is missing or too small, the images are not of the study's size or do not pair, one
            occurs twice, or only some have a report.
    """
    _check_design(settings, arms)
    paired = settings.design == "preference"
    per_arm = check_arms(arms, per_arm, at_least=1 if settings.design == "likert" else 2)
    _check_size(settings, arms)
    rng = random.Random(f"cases:{settings.seed}")
    groups = (
        _pairs(arms, per_arm, rng)
        if paired
        else [[(arm, row)] for arm in arms for row in sorted(rng.sample(range(len(arm.views)), per_arm))]
    )
    rng.shuffle(groups)
    chosen = [one for group in groups for one in group]
    check_copies(chosen, [view_sha256(arm.views[row]) for arm, row in chosen])
    reports = [arm.reports[row] if with_reports else "" for arm, row in chosen]
    check_reports(chosen, reports)
    enough = len(groups) >= MIN_REPEATED_CASES and num_repeats(len(groups), settings.repeats) > 0
    if settings.repeats and not enough:
        raise EvaluationError(
            f"{len(groups)} cases are too few to show {settings.repeats:.0%} of them twice: give more images, or no repeats"
        )
    return [
        Case(
            tuple(CaseImage(arm.name, arm.role, arm.origins[row], encode_png(arm.views[row])) for arm, row in group),
            group[0][0].reports[group[0][1]] if with_reports else "",
        )
        for group in groups
    ]


def _check_design(settings: ReaderStudySettings, arms: Sequence[ReadingArm]) -> None:
    roles = Counter(arm.role for arm in arms)
    empty = [arm.name for arm in arms if not arm.views]
    if empty:
        raise EvaluationError(f"the arm {', '.join(empty)} holds no image: give images for it, or leave it out")
    if settings.design == "real_or_synthetic" and not (roles["real"] and roles["synthetic"]):
        missing = "real" if not roles["real"] else "synthetic"
        raise EvaluationError(f"a study of real against synthetic images needs both, and no {missing} arm was given")
    if settings.design == "preference" and len(arms) != 2:
        raise EvaluationError(f"a preference is between two arms, and {len(arms)} were given: give two")


def _check_size(settings: ReaderStudySettings, arms: Sequence[ReadingArm]) -> None:
    wanted = (NUM_CHANNELS[settings.modality], settings.size_px, settings.size_px)
    found = arms[0].views[0].shape
    if found != wanted or any(view.dtype != np.uint8 for arm in arms for view in arm.views):
        raise EvaluationError(
            f"the images are {'x'.join(map(str, found))} and the study's view is {'x'.join(map(str, wanted))}: give the "
            "images' own size and modality"
        )


def _pairs(arms: Sequence[ReadingArm], per_arm: int, rng: random.Random) -> list[list[tuple[ReadingArm, int]]]:
    first, second = arms
    rows = {origin: row for row, origin in enumerate(second.origins)}
    if set(first.origins) != set(second.origins) or len(rows) < len(second.origins):
        both = len(set(first.origins) & set(second.origins))
        raise EvaluationError(
            f"{both} images pair, of {len(first.views)} and {len(second.views)}: a preference needs the same cases in "
            "both arms, under the same names"
        )
    kept = sorted(rng.sample(range(len(first.views)), per_arm), key=lambda row: first.origins[row])
    return [[(first, row), (second, rows[first.origins[row]])] for row in kept]
