"""The arms of a study from the images that were generated in the session of the page."""

import dataclasses
from collections.abc import Sequence

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_arms import PreparedArm, arm_of_results
from arra_med.generate.session import GenerationResult
from arra_med.imaging.view import Modality
from arra_med_apps.generate_tab.history import Run
from arra_med_apps.reader_tab import words

_ARM_OF_VARIANT = {"finetuned": "baseline", "arra": "arra"}


def session_arms(history: Sequence[Run], modality: Modality) -> tuple[list[PreparedArm], int]:
    """Returns the arms that a session's images are, each image once, without the marks of an export.

    Args:
        history: The session's runs, the last one first.
        modality: Of the study; runs of another one are passed over.

    Returns:
        The arms, and the number of runs that belong to none because their model is neither ARRA nor its baseline.

    Raises:
        EvaluationError: If no run is of the modality, or none belongs to an arm.
    """
    results = [run.result for run in reversed(history) if run.result.request.modality == modality]
    if not results:
        raise EvaluationError(words.SESSION_EMPTY)
    by_arm: dict[str, list[GenerationResult]] = {arm: [] for arm in words.DRAWN_ARMS}
    for result in results:
        arm = _ARM_OF_VARIANT.get(result.provenance["bundle"]["variant"])
        if arm is not None:
            by_arm[arm].append(result)
    num_left_out = len(results) - sum(map(len, by_arm.values()))
    if num_left_out == len(results):
        raise EvaluationError(words.SESSION_NEITHER)
    return [arm_of_results(arm, _once(its)) for arm, its in by_arm.items() if its], num_left_out


def _once(results: Sequence[GenerationResult]) -> list[GenerationResult]:
    """Takes out images that came before: who runs the same report and seed again does not mean a second image."""
    seen: set[bytes] = set()
    kept = []
    for result in results:
        fresh = {picture.tobytes(): row for row, picture in enumerate(result.images)}
        rows = sorted(row for pixels, row in fresh.items() if pixels not in seen)
        seen.update(fresh)
        if rows:
            seeds = tuple(map(result.seed, rows))
            kept.append(dataclasses.replace(result, images=result.images[rows], codes=result.codes[rows], seeds=seeds))
    return kept
