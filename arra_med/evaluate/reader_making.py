"""Making a reader study from a plan and its arms, for the app and the command alike."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_arms import PreparedArm
from arra_med.evaluate.reader_cases import study_cases
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import (
    DEFAULT_CONSENT,
    DEFAULT_ITEMS,
    Code,
    Design,
    LikertItem,
    ReaderStudySettings,
    study_path,
)
from arra_med.imaging.view import Modality


@dataclass(frozen=True)
class StudyPlan:
    """What an owner decides; see `ReaderStudySettings`.

    Attributes:
        design: What readers are asked.
        title: As readers see it.
        modality: Of the images.
        seed: Of the choice and the orders; `None` draws one. Whoever knows it, and the number of images of each arm, can
            tell the arms apart: keep it from readers.
        repeats: Share of cases shown twice.
        consent: Readers agree to it; "" asks for none.
        ethics: Approval, as stated.
        question: Asked for a preference.
        items: Name and text of what is rated; by default realism and quality. Only for `likert`.
        per_arm: Images of each arm; by default all it can be.
        with_reports: Whether readers see the reports.
    """

    design: Design
    title: str = "Reader study"
    modality: Modality = "cxr"
    seed: int | None = None
    repeats: float = 0.0
    consent: str = DEFAULT_CONSENT
    ethics: str = ""
    question: str = "Which image is better?"
    items: tuple[tuple[str, str], ...] = ()
    per_arm: int | None = None
    with_reports: bool = False


def make_study(plan: StudyPlan, arms: Sequence[PreparedArm], path: Path | None = None) -> tuple[ReaderStudy, str]:
    """Makes the study.

    Args:
        plan: What is asked.
        arms: All of one size.
        path: Of the file; by default where the app finds it by its code.

    Returns:
        The study, and its owner's code, which is kept nowhere.

    Raises:
        EvaluationError: If the plan is not valid, the arms do not fit it (see `study_cases`), or the file cannot be
            written.
    """
    views = next((arm.arm.views for arm in arms if arm.arm.views), None)
    if views is None:
        raise EvaluationError("no image was given: give the images of at least one arm")
    try:
        items = [LikertItem(name=name, text=text) for name, text in plan.items] or list(DEFAULT_ITEMS)
        settings = ReaderStudySettings(
            design=plan.design,
            title=plan.title,
            modality=plan.modality,
            size_px=views[0].shape[-1],
            seed=secrets.randbelow(2**31) if plan.seed is None else plan.seed,
            repeats=plan.repeats,
            consent=plan.consent,
            ethics=plan.ethics,
            question=plan.question,
            items=tuple(items) if plan.design == "likert" or plan.items else (),
        )
    except pydantic.ValidationError as error:
        told = sorted({".".join(map(str, problem["loc"])) or "items" for problem in error.errors()})
        raise EvaluationError(
            f"the study's {', '.join(told)} cannot be used: a title is needed, texts have a limit, names of items are "
            "small letters, each once, and only a study that rates images has items"
        ) from None
    cases = study_cases(settings, [arm.arm for arm in arms], per_arm=plan.per_arm, with_reports=plan.with_reports)
    code = str(Code.for_study())
    return ReaderStudy.make(study_path(code) if path is None else path, settings, cases, code)
