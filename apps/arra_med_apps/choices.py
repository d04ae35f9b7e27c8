"""Which models the page offers, each opened when it is first needed and kept."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arra_med.config import resolve_device
from arra_med.errors import ArraMedError, BundleError
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import DESCRIPTION_FILE, ModelBundle, read_bundle_info
from arra_med.models.bundled import Variant, bundled
from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.service.line import Allowance, Line
from arra_med_apps.service.metrics import Metrics
from arra_med_apps.service.run import ModelRun
from arra_med_apps.service.sessions import Sessions
from arra_med_apps.service.settings import ServiceSettings

if TYPE_CHECKING:
    from arra_med.generate.serving import Workers

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
        folder: Of its bundle, where it comes from one.
    """

    name: str
    label: str
    modality: Modality
    open: Callable[[], ReportToImage]
    licence_class: str = "open"
    cautions: tuple[str, ...] = ()
    label_counts: Mapping[str, int] = field(default_factory=dict)
    folder: Path | None = None


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
        open=lambda: ReportToImage(ModelBundle.load(folder, device=resolve_device("auto"), dtype="auto")),
        licence_class=info.licence_class,
        cautions=cautions,
        label_counts=info.label_counts,
        folder=folder,
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


def found_choices(folder: Path) -> tuple[list[ModelChoice], list[str]]:
    """Returns the choices of all bundles in a folder, and a sentence for each that cannot be read.

    Args:
        folder: Holds bundle folders, each with a `bundle.json`.

    Raises:
        BundleError: If it is no folder, or no bundle in it can be read.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: is no folder; give --bundles a folder that holds bundle folders")
    choices, damaged = [], []
    for path in sorted(folder.glob("*/bundle.json")):
        try:
            choices.append(bundle_choice(path.parent))
        except BundleError as error:
            damaged.append(words.sentence(str(error)))
    if not choices:
        raise BundleError(f"{folder}: holds no bundle that can be read; give a folder whose subfolders are bundles")
    return choices, damaged


class Shelf:
    """The opened models, shared by all users of the page, and the line before them.

    Attributes:
        choices: By name.
        generating: Who draws, and who waits.
        allowance: What each user may ask for.
        places: Runs that may wait.
        metrics: Counts of this page.
        sessions: Which of them are programs'.
        workers: Who draws where not this process does.
        closing: Set when the app is being closed: runs end at their next row.
    """

    def __init__(
        self, choices: Sequence[ModelChoice], service: ServiceSettings | None = None, workers: "Workers | None" = None
    ) -> None:
        """Keeps `choices`; opens none. Images are drawn by `workers`, or in this process."""
        service = service or ServiceSettings()
        if not choices:
            raise BundleError("the app was given no model: give at least one bundle")
        self.choices = {choice.name: choice for choice in choices}
        self.workers = workers
        self.generating = Line(workers.count if workers else 1)
        self.allowance = Allowance(service.runs_per_minute, service.images_per_hour)
        self.places = service.waiting_places
        self.metrics = Metrics()
        self.sessions = Sessions()
        self.closing = threading.Event()
        self._opened: dict[str, ReportToImage] = {}
        self._opening = threading.Lock()

    def run(self, user: str, num_images: int) -> ModelRun:
        """Returns a run of the model for a user; every picture is drawn inside one."""
        return ModelRun(self, user, num_images)

    def of_modality(self, modality: Modality) -> list[ModelChoice]:
        """Returns the choices for a modality, the preferred one first."""
        return [choice for choice in self.choices.values() if choice.modality == modality]

    def chosen(self, name: str | None, modality: Modality) -> ModelChoice:
        """Returns the choice of a name, or the preferred one where that makes no images of the modality."""
        choice = self.choices.get(name or "")
        return choice if choice is not None and choice.modality == modality else self.of_modality(modality)[0]

    def is_ready(self) -> bool:
        """Whether every model could be opened now."""
        folders = [choice.folder for choice in self.choices.values() if choice.folder is not None]
        return not self.closing.is_set() and all((folder / DESCRIPTION_FILE).is_file() for folder in folders)

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
                self._opened[name] = self._session(self.choices[name])
            return self._opened[name]

    def _session(self, choice: ModelChoice) -> ReportToImage:
        session = choice.open()
        if self.workers is None or choice.folder is None:
            return session
        from arra_med.generate.serving import ServedReportToImage

        return ServedReportToImage(session.bundle, choice.folder, self.workers)
