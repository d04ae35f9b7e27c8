"""What the user filled in, and the generation request it stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arra_med.errors import GenerationError, ReportError
from arra_med.generate.cautions import cautioned
from arra_med.generate.request import MAX_SEED
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.records.report import Prompt, report_prompt
from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.choices import Shelf

__all__ = ["MAX_IMAGES", "MAX_REPORT_CHARS", "MAX_SEED", "Form", "form_values", "prompt_of"]

MAX_IMAGES = 8
MAX_REPORT_CHARS = 20_000


@dataclass(frozen=True)
class Form:
    """The values of the page's input components.

    Attributes:
        report: Report text.
        modality: `cxr` or `fundus`.
        view: `PA`, `AP`, `lateral`, or `report` to take it from the report.
        laterality: `L`, `R`, or `report`.
        age_group: `adult`, `child`, or `report`.
        num_images: 1 to `MAX_IMAGES`.
        seed: Seed of the first image; None if the box is empty.
        guidance_scale: 1 is off.
        temperature: Of sampling.
        top_k: 0 keeps all image tokens.
    """

    report: str
    modality: Modality
    view: str
    laterality: str
    age_group: str
    num_images: int
    seed: int | None
    guidance_scale: float
    temperature: float
    top_k: int

    def request(self) -> GenerationRequest:
        """Returns the generation request.

        Raises:
            ReportError: If the report is empty.
            GenerationError: If the seed is no whole number in range.
        """
        if not (self.report or "").strip():
            raise ReportError(words.EMPTY_REPORT)
        if self.seed is None or int(self.seed) != self.seed or not 0 <= self.seed <= MAX_SEED:
            raise GenerationError(words.SEED_RANGE)
        return GenerationRequest(
            report=self.report,
            num_images=int(self.num_images),
            seed=int(self.seed),
            rules=SamplingRules(
                temperature=self.temperature, top_k=int(self.top_k) or None, guidance_scale=self.guidance_scale
            ),
            **self._stated(),
        )

    def prompt(self, session: ReportToImage | None, label_counts: Mapping[str, int]) -> Prompt:
        """Returns what the model will read, with every caution.

        Args:
            session: The model, whose context limits the prompt; None while it is not opened, when nothing is cut.
            label_counts: Training images of each finding; empty if unknown.

        Raises:
            ReportError: If the report holds nothing that describes an image.
        """
        if session is None:
            return cautioned(report_prompt(self.report or "", **self._stated()), self.modality, label_counts)
        return session.prompt(self.request())

    def _stated(self) -> dict:
        chest = self.modality == "cxr"
        return {
            "modality": self.modality,
            "view": _given(self.view) if chest else None,
            "laterality": None if chest else _given(self.laterality),
            "age_group": _given(self.age_group),
        }


def prompt_of(shelf: Shelf, model: str, form: Form) -> Prompt:
    """Returns what a model of the shelf will read, with every caution; one that is not open yet begins to be opened.

    Raises:
        ReportError: If the report holds nothing that describes an image.
    """
    choice = shelf.chosen(model, form.modality)
    session = shelf.opened(choice.name)
    if session is None:
        shelf.open_soon(choice.name)
    return form.prompt(session, choice.label_counts)


def form_values(request: GenerationRequest) -> dict[str, Any]:
    """Returns the values of the form that stands for a request."""
    rules, stated = request.rules, words.AS_REPORTED
    return {
        "report": request.report,
        "modality": request.modality,
        "view": request.view or stated,
        "laterality": request.laterality or stated,
        "age_group": request.age_group or stated,
        "num_images": request.num_images,
        "seed": request.seed,
        "guidance_scale": rules.guidance_scale,
        "temperature": rules.temperature,
        "top_k": rules.top_k or 0,
    }


def _given(value: str | None) -> str | None:
    return None if value in (None, words.AS_REPORTED) else value
