"""What happens when something is pressed in the tab: values in, updates out.

Nothing here is logged but the kind and place of an unexpected error; a report or an error's own text never is.
"""

import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from arra_med.errors import ArraMedError, ReportError
from arra_med.evaluate.phrase_effect import Explanation, stream_explanation
from arra_med.evaluate.phrase_page import save_explanation
from arra_med.generate.content_credentials import configured_signer
from arra_med.generate.counterfactual import Counterfactual, save_counterfactual, stream_counterfactual
from arra_med.generate.editing import Original, file_original, generated_original, stream_edits
from arra_med.generate.export import save_images
from arra_med.generate.region import box_mask, touched_cells
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.models.licence import check_acknowledged
from arra_med.records.study import Modality
from arra_med_apps import words as page_words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.explore_tab import presenting, words
from arra_med_apps.form import Form, prompt_of
from arra_med_apps.generate_tab.presenting import write_archive
from arra_med_apps.model_radios import shown_model
from arra_med_apps.service.run import ModelRun

_LOG = logging.getLogger(__name__)
_KEEP = gr.skip


@dataclass(frozen=True)
class Opened:
    """A picture to be edited, and the fingerprint of the bundle that encoded it; kept for one visitor."""

    original: Original
    bundle: str


class Handlers:
    """The tab's event handlers."""

    def __init__(self, shelf: Shelf) -> None:
        """Keeps the models."""
        self.shelf = shelf

    def preview(self, model: str, report: str, **values: Any) -> str:
        """Returns what the report becomes."""
        if not (report or "").strip():
            return presenting.prompt_hint(page_words.PROMPT_WAITING)
        try:
            form = _form(report=report, num_images=1, **values)
            return presenting.prompt_panel(prompt_of(self.shelf, model, form))
        except ArraMedError as error:
            return presenting.prompt_hint(page_words.sentence(str(error)))

    def switch_modality(self, modality: Modality) -> tuple[Any, ...]:
        """Returns updates of report and each radio of models for another kind of image."""
        return (
            gr.Textbox(placeholder=page_words.REPORT_PLACEHOLDER[modality]),
            *shown_model(self.shelf, modality),
        )

    def start(self) -> tuple[Any, ...]:
        """Returns updates of what is shown, files, run and stop, before a run begins."""
        text = page_words.WAITING if self.shelf.generating.locked() else page_words.STARTING
        return presenting.progress_panel(text, 0.0), gr.DownloadButton(visible=False), *_running(True)

    def finish(self) -> tuple[Any, ...]:
        """Returns updates of run and stop once a run has ended, however it ended."""
        return _running(False)

    def stop(self) -> tuple[Any, ...]:
        """Returns updates of what is shown, run and stop; Gradio cancels the run."""
        return presenting.note_panel(words.STOPPED), *_running(False)

    def pair(self, edited_report: str, num_pairs: int, user: str = "", **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yields updates of what is shown and of the files: both reports at the same seeds."""

        def updates(session: ReportToImage, request: GenerationRequest) -> Iterator[Any]:
            if not (edited_report or "").strip():
                raise ReportError(words.EMPTY_EDITED)
            return stream_counterfactual(session, request, edited_report)

        def files(pairs: Counterfactual, folder: Path) -> list[Path]:
            return save_counterfactual(pairs, folder, signer=configured_signer())

        panel, num_pairs = presenting.pair_panel, int(num_pairs)
        yield from self._run(updates, panel, files, "pairs", user, 2 * num_pairs, num_images=num_pairs, **values)

    def explain(self, num_measured: int, user: str = "", **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yields updates of what is shown and of the files: which phrases had an effect."""

        def files(explanation: Explanation, folder: Path) -> list[Path]:
            return save_explanation(explanation, folder, signer=configured_signer())

        panel, count = presenting.explain_panel, int(num_measured)
        yield from self._run(stream_explanation, panel, files, "explained", user, count, num_images=count, **values)

    def edit(
        self,
        opened: Opened | None,
        cells: frozenset[int],
        new_report: str,
        tries: int,
        keep_outside: bool,
        user: str = "",
        **values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Yields updates of what is shown and of the files: the marked squares drawn anew."""
        if (new_report or "").strip():
            values["report"] = new_report

        def updates(session: ReportToImage, request: GenerationRequest) -> Iterator[Any]:
            if opened is None:
                raise ReportError(words.NO_ORIGINAL)
            if opened.bundle != session.bundle.fingerprint:
                raise ReportError(words.OTHER_MODEL)
            region = _grid(cells, opened.original)
            return stream_edits(session, request, opened.original, region, keep_outside=keep_outside)

        def files(result: GenerationResult, folder: Path) -> list[Path]:
            return save_images(result, folder, name="edit", signer=configured_signer())

        panel, count = presenting.edit_panel, int(tries)
        yield from self._run(updates, panel, files, "edits", user, count, num_images=count, **values)

    def start_opening(self) -> tuple[Any, ...]:
        """Returns updates of notice and the two buttons that give a picture, before one is drawn or opened."""
        return self.start()[0], gr.Button(interactive=False), gr.UploadButton(interactive=False)

    def finish_opening(self) -> tuple[Any, ...]:
        """Returns updates of the two buttons, however it ended."""
        return gr.Button(interactive=True), gr.UploadButton(interactive=True)

    def draw_original(
        self, left: int, top: int, width: int, height: int, user: str = "", **values: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Yields updates of notice, region, original, cells and picture: the report's own picture, to be edited."""

        def originals(run: ModelRun, session: ReportToImage) -> Iterator[Original | float]:
            request = _form(num_images=1, **values).request()
            for update in run.watched(session.stream(request, partial_images=False)):
                yield update.progress if update.result is None else generated_original(update.result)

        yield from self._original(originals, 1, (left, top, width, height), "", user, values)

    def open_original(
        self, file: str, left: int, top: int, width: int, height: int, user: str = "", **values: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Yields updates of notice, region, original, cells and picture: a file, to be edited."""

        def originals(_: ModelRun, session: ReportToImage) -> Iterator[Original | float]:
            yield file_original(session, Path(file))

        notice = presenting.note_panel(words.FROM_FILE)
        yield from self._original(originals, 0, (left, top, width, height), notice, user, values)

    def set_box(self, opened: Opened | None, *box: int) -> tuple[Any, Any]:
        """Returns updates of cells and picture: a rectangle in percent of the picture."""
        if opened is None:
            return _KEEP(), _KEEP()
        cells = _box_cells(opened.original, box)
        return cells, presenting.marked_picture(opened.original.pixels, _grid(cells, opened.original))

    def click(self, opened: Opened | None, cells: frozenset[int], event: gr.SelectData) -> tuple[Any, Any]:
        """Returns updates of cells and picture: a click marks a square, or takes its mark away."""
        if opened is None:
            return _KEEP(), _KEEP()
        height, width = opened.original.codes.shape
        side = len(presenting.marked_picture(opened.original.pixels, np.zeros((height, width), dtype=bool)))
        column, row = (int(place) * count // side for place, count in zip(event.index, (width, height), strict=True))
        cells = cells ^ {min(row, height - 1) * width + min(column, width - 1)}
        return cells, presenting.marked_picture(opened.original.pixels, _grid(cells, opened.original))

    def _original(
        self,
        originals: Callable[[ModelRun, ReportToImage], Iterator[Original | float]],
        num_images: int,
        box: tuple[int, ...],
        notice: str,
        user: str,
        values: dict[str, Any],
    ) -> Iterator[tuple[Any, ...]]:
        """Yields what is going on, then the picture and its marked squares; an error becomes one sentence in the page."""
        try:
            choice = self.shelf.chosen(values["model"], values["modality"])
            with self.shelf.run(user, num_images) as run:
                session = yield from self._ready(run, choice, 5)
                for made in originals(run, session):
                    if isinstance(made, Original):
                        cells = _box_cells(made, box)
                        picture = presenting.marked_picture(made.pixels, _grid(cells, made))
                        opened = Opened(made, session.bundle.fingerprint)
                        yield notice, gr.Row(visible=True), opened, cells, picture
                    else:
                        yield presenting.progress_panel(words.DRAW_ORIGINAL, made), *(_KEEP(),) * 4
        except Exception as error:  # noqa: BLE001 - the app's edge
            yield _problem(error), *(_KEEP(),) * 4

    def _run(
        self,
        updates: Callable[[ReportToImage, GenerationRequest], Iterator[Any]],
        panel: Callable[[Any], str],
        files: Callable[[Any, Path], list[Path]],
        name: str,
        user: str,
        drawn: int,
        **values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Yields progress, then the result and its files; an error becomes one sentence in the page."""
        try:
            request = _form(**values).request()
            choice = self.shelf.chosen(values["model"], request.modality)
            with self.shelf.run(user, drawn) as run:
                session = yield from self._ready(run, choice, 2)
                began = time.monotonic()
                for update in run.watched(updates(session, request)):
                    share, spent = update.progress, time.monotonic() - began
                    left = spent * (1 - share) / share if share > 0 else None
                    if update.result is None:
                        yield presenting.progress_panel("Working", share, left), _KEEP()
                    else:
                        agreed, shown = bool(values.get("acknowledged")), panel(update.result)
                        yield from _finished(choice, agreed, shown, update.result, files, name)
        except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
            yield _problem(error), gr.DownloadButton(visible=False)

    def _ready(
        self, run: ModelRun, choice: ModelChoice, num_updates: int
    ) -> Generator[tuple[Any, ...], None, ReportToImage]:
        """Yields that the model opens, then the place in line; returns the model when it is the run's turn."""
        kept = (_KEEP(),) * (num_updates - 1)
        if self.shelf.opened(choice.name) is None:
            yield presenting.progress_panel(page_words.LOADING, 0.0), *kept
        session = self.shelf.open(choice.name)
        for place in run.places():
            yield presenting.progress_panel(place, 0.0), *kept
        return session


def _form(*, report: str, modality: Modality, num_images: int, seed: int, guidance_scale: float, **_: Any) -> Form:
    reported = page_words.AS_REPORTED
    return Form(report, modality, reported, reported, reported, num_images, seed, guidance_scale, 1.0, 0)


def _finished(
    choice: ModelChoice,
    acknowledged: bool,
    shown: str,
    result: Any,
    files: Callable[[Any, Path], list[Path]],
    name: str,
) -> Iterator[tuple[Any, ...]]:
    """Yields what is shown and its files; where these may not or cannot be written, why not stands above it."""
    try:
        check_acknowledged(choice.licence_class, acknowledged, words.ACKNOWLEDGE)
        # Gradio copies the archive into its own private cache, so the folder goes when the page has it.
        with tempfile.TemporaryDirectory(prefix="arra-med-") as folder:
            archive = Path(folder) / f"arra-med_{name}.zip"
            write_archive(files(result, Path(folder) / "files"), archive, page_words.BANNER)
            yield shown, gr.DownloadButton(value=str(archive), visible=True)
    except ArraMedError as error:
        yield _problem(error) + shown, gr.DownloadButton(visible=False)
    except OSError as error:
        yield presenting.problem_panel(page_words.unwritten(error)) + shown, gr.DownloadButton(visible=False)


def _running(is_running: bool) -> tuple[Any, Any]:
    return gr.Button(interactive=not is_running), gr.Button(interactive=is_running)


def _grid(cells: frozenset[int], original: Original) -> np.ndarray:
    marked = np.zeros(original.codes.numel(), dtype=bool)
    marked[sorted(cells)] = True
    return marked.reshape(tuple(original.codes.shape))


def _box_cells(original: Original, box: tuple[int, ...]) -> frozenset[int]:
    """The squares that a rectangle (left, top, width, height in percent) touches."""
    size_px = len(original.pixels)
    left, top, width, height = (share * size_px / 100 for share in box)
    left, top = min(int(left), size_px - 1), min(int(top), size_px - 1)
    right, bottom = (
        min(size_px, max(start + 1, round(start + length))) for start, length in ((left, width), (top, height))
    )
    height_cells, width_cells = original.codes.shape
    cells = touched_cells(box_mask((left, top, right, bottom), size_px), (height_cells, width_cells))
    return frozenset(np.flatnonzero(cells).tolist())


def _problem(error: Exception) -> str:
    if isinstance(error, ArraMedError):
        return presenting.problem_panel(page_words.sentence(str(error)))
    # Neither the error's text nor its values: they may hold the report.
    _LOG.error("exploring failed: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return presenting.problem_panel(words.UNEXPECTED)
