"""Which models the page offers, each opened when it is first needed and kept."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arra_med.config import resolve_device
from arra_med.errors import ArraMedError, BundleError
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle, read_bundle_info
from arra_med.models.bundled import Variant, bundled
from arra_med.records.study import Modality
from arra_med_apps import words

_VARIANTS: tuple[tuple[Variant, str], ...] = (("arra", "ARRA"), ("finetuned", "Fine-tuned"))


@dataclass(frozen=True)
class ModelChoice:
    """A model the user can choose.

    Attributes:
        name: Unique among the choices.
        label: What the user reads.
        modality: Which images it makes.
        open: Loads it; slow.
        licence_class: `open`, `research-only` or `credentialed`.
        cautions: What it cannot do, in sentences.
        label_counts: Training images of each finding.
    """

    name: str
    label: str
    modality: Modality
    open: Callable[[], ReportToImage]
    licence_class: str = "open"
    cautions: tuple[str, ...] = ()
    label_counts: Mapping[str, int] = field(default_factory=dict)


def bundle_choice(folder: Path, label: str | None = None, cautions: tuple[str, ...] = ()) -> ModelChoice:
    """Returns the choice of one bundle folder; only its `bundle.json` is read.

    Args:
        folder: The bundle.
        label: What the user reads; the bundle's own name if not given.
        cautions: What it cannot do, in sentences.

    Raises:
        BundleError: If the folder holds no readable `bundle.json`.
    """
    info = read_bundle_info(folder)
    return ModelChoice(
        name=str(folder),
        label=label or info.name,
        modality=info.canonical_view.modality,
        open=lambda: ReportToImage(ModelBundle.load(folder, device=resolve_device("auto"))),
        licence_class=info.licence_class,
        cautions=cautions,
        label_counts=info.label_counts,
    )


def bundled_choices() -> list[ModelChoice]:
    """Returns the models that ship with the package: ARRA first, and its fine-tuned twin where there is one.

    Raises:
        BundleError: If none ships with this installation.
    """
    choices = []
    for _, modality in words.MODALITIES:
        for variant, label in _VARIANTS:
            try:
                folder = bundled(modality, variant)
            except BundleError:
                continue  # the fundus model has no twin
            choices.append(bundle_choice(folder, label, words.MINI_LIMITS[modality]))
    if not choices:
        raise BundleError("no model ships with this installation: give a bundle folder with --bundle")
    return choices


class Shelf:
    """The opened models, shared by all users of the page."""

    def __init__(self, choices: Sequence[ModelChoice]) -> None:
        """Keeps `choices`; opens none."""
        if not choices:
            raise BundleError("the app was given no model: give at least one bundle")
        self.choices = {choice.name: choice for choice in choices}
        self.generating = threading.Lock()
        self._opened: dict[str, ReportToImage] = {}
        self._opening = threading.Lock()

    def of_modality(self, modality: Modality) -> list[ModelChoice]:
        """Returns the choices for a modality, the preferred one first."""
        return [choice for choice in self.choices.values() if choice.modality == modality]

    @property
    def modalities(self) -> list[Modality]:
        """The modalities for which there is a model, in the page's order."""
        return [modality for _, modality in words.MODALITIES if self.of_modality(modality)]

    def opened(self, name: str) -> ReportToImage | None:
        """Returns the model's session if it has been opened; never waits."""
        return self._opened.get(name)

    def open_soon(self, name: str) -> None:
        """Begins to load a model in the background, so that it is ready when Generate is pressed."""
        if name not in self._opened and not self._opening.locked():
            threading.Thread(target=self._open_quietly, args=(name,), daemon=True).start()

    def _open_quietly(self, name: str) -> None:
        with contextlib.suppress(ArraMedError):  # told when the user presses Generate
            self.open(name)

    def open(self, name: str) -> ReportToImage:
        """Returns the model's session, loading it on the first call.

        Raises:
            BundleError: If the name is not offered, or the bundle is missing a part.
        """
        if name not in self.choices:
            raise BundleError("this model is not offered here: choose one of the list")
        with self._opening:
            if name not in self._opened:
                self._opened[name] = self.choices[name].open()
            return self._opened[name]
