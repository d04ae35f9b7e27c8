"""What is compared: the report, the seeds, the models, and the pictures once they are made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.errors import GenerationError, ReportError
from arra_med.generate.request import GenerationRequest, request_from_settings
from arra_med.records.study import Modality
from arra_med_apps import words as shared
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.compare_tab import words
from arra_med_apps.form import MAX_SEED

MAX_SEEDS = 6
_BASELINE_WORDS = ("fine-tuned", "finetuned", "baseline")


@dataclass(frozen=True)
class ModelPictures:
    """One row of the grid.

    Attributes:
        model: The choice's name.
        label: What the user reads.
        images: uint8 (n, H, W) or (n, H, W, 3), one for each seed.
    """

    model: str
    label: str
    images: np.ndarray

    @property
    def views(self) -> np.ndarray:
        """The pictures as uint8 (n, C, S, S)."""
        if self.images.ndim == 3:
            return self.images[:, None]
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Compared:
    """What a finished grid holds; the report's text is not kept.

    Attributes:
        modality: Of all pictures.
        seeds: One for each column.
        rows: One for each model.
        report_findings: What the report names as present, before it was forgotten; see `findings_of_report`.
    """

    modality: Modality
    seeds: tuple[int, ...]
    rows: tuple[ModelPictures, ...]
    report_findings: tuple[str, ...]


def request_of(
    report: str, modality: Modality, num_seeds: int, seed: int | None, guidance_scale: float, temperature: float
) -> GenerationRequest:
    """Returns the request that every model gets.

    Raises:
        ReportError: If the report is empty.
        GenerationError: If a setting is out of range.
    """
    if not (report or "").strip():
        raise ReportError(shared.EMPTY_REPORT)
    if seed is None or int(seed) != seed or not 0 <= seed <= MAX_SEED:
        raise GenerationError(shared.SEED_RANGE)
    if not 1 <= int(num_seeds) <= MAX_SEEDS:
        raise GenerationError(words.TOO_MANY)
    return request_from_settings(
        report=report,
        modality=modality,
        num_images=int(num_seeds),
        seed=int(seed),
        guidance_scale=guidance_scale,
        temperature=temperature,
    )


def in_order(choices: Sequence[ModelChoice]) -> list[ModelChoice]:
    """Returns models with the baseline first, otherwise as they were."""
    return sorted(choices, key=lambda choice: not choice.label.lower().startswith(_BASELINE_WORDS))


def chosen_models(shelf: Shelf, names: Sequence[str] | None, modality: Modality) -> list[ModelChoice]:
    """Returns the ticked models of a modality, the baseline first; while the user switches, those of the other are skipped.

    Raises:
        GenerationError: If none is ticked.
    """
    ticked = [choice for choice in in_order(shelf.of_modality(modality)) if choice.name in (names or ())]
    if not ticked:
        raise GenerationError(words.NO_MODEL)
    return ticked
