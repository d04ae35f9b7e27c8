"""Tiny reader studies: 16 px images of noise, and answers that are told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.evaluate.reader_arms import PreparedArm
from arra_med.evaluate.reader_making import StudyPlan, make_study
from arra_med.evaluate.reader_store import ReaderStudy, Task
from arra_med.evaluate.reader_study import Code
from arra_med.evaluate.reading_set import ReadingArm

ARMS = {"real_or_synthetic": ("real", "reconstructed", "arra"), "preference": ("baseline", "arra"), "likert": ("arra",)}


def tiny_arm(name: str, num: int = 8, side: int = 16, report: str = "", **changes: Any) -> ReadingArm:
    views = list(np.random.default_rng(list(name.encode())).integers(0, 256, (num, 1, side, side), dtype=np.uint8))
    settings = {"views": views, "reports": [report] * num, "origins": [f"case {i}" for i in range(num)], **changes}
    return ReadingArm(name, **settings)


def tiny_study(folder: Path, design: str = "real_or_synthetic", num: int = 8, **plan: Any) -> tuple[ReaderStudy, str]:
    arms = [PreparedArm(tiny_arm(name, num), 0) for name in ARMS[design]]
    return make_study(StudyPlan(design=design, **{"seed": 0, **plan}), arms, folder / "study.sqlite")  # type: ignore[arg-type]


def read_all(study: ReaderStudy, choose: Callable[[Task], dict[str, str]], at_most: int = 10_000) -> Code:
    """Adds a reader who answers as told, each screen in as many seconds as its place."""
    code = study.join(consented=True)
    while (task := study.task(code)) is not None and task.place < at_most:
        assert study.answer(code, task.place, choose(task), float(task.place))
    return code


def arm_shown(study: ReaderStudy, reader: int, place: int) -> list[str]:
    """The arms on a reader's screen, from left to right: what only a test may look up."""
    showing = study._order(reader)[place]
    arms = [image.arm for image in study.cases[showing.case]]
    return arms[::-1] if showing.swapped else arms
