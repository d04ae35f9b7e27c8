"""What happens to files: reports that are loaded, images that are taken away or sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med.errors import ArraMedError
from arra_med.generate.marks import draw_visible_mark
from arra_med.generate.session import GenerationResult
from arra_med.models.licence import CREDENTIALED
from arra_med.sources.report_file import read_report_file
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.form import MAX_REPORT_CHARS
from arra_med_apps.generate_tab import exporting, presenting
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.exporting import ExportForm, exported
from arra_med_apps.generate_tab.history import Run

GALLERY_COLUMNS = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4}
"""By the number of images."""

GALLERY_BUTTONS = ["download", "fullscreen"]
"""Where the pictures are files that may leave."""


class FileHandlers:
    """The tab's event handlers for files."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def load_file(self, path: str | None) -> tuple[Any, ...]:
        """Returns updates of notice, report, the file's reports and their picker, for an uploaded file of reports."""
        try:
            reports = read_report_file(Path(path or ""), "the file")
        except ArraMedError as error:
            return presenting.problem_panel(words.sentence(str(error))), gr.skip(), [], gr.Slider(visible=False)
        count = len(reports)
        notice = presenting.note_panel(own_words.FILE_LOADED.format(count=count)) if count > 1 else ""
        picker = gr.Slider(minimum=1, maximum=max(count, 2), value=1, visible=count > 1)
        return notice, reports[0][:MAX_REPORT_CHARS], reports, picker

    def pick(self, reports: list[str], number: int) -> Any:
        """Returns the report of a file's row, from 1."""
        return reports[int(number) - 1][:MAX_REPORT_CHARS] if 0 < int(number) <= len(reports) else gr.skip()

    def export(self, run: Run | None, *form: Any) -> Iterator[tuple[Any, ...]]:
        """Yields updates of notice, gallery, zip and files of the last run, for other wishes about its files."""
        if run is None:
            return
        try:
            with exported(run.result, self._licence_class(run.model), ExportForm(*form)) as made:
                warning = "" if form[1] else presenting.note_panel(own_words.NO_VISIBLE_MARK)
                yield (warning, *shown(run.result, made))
        except ArraMedError as error:
            yield (presenting.problem_panel(words.sentence(str(error))), gr.skip(), gr.DownloadButton(value=None), None)

    def send(self, files: list[str] | None, destination: str, confirmed: bool) -> str:
        """Returns what was sent, or why nothing was."""
        try:
            return presenting.note_panel(exporting.send(files or [], destination, confirmed))
        except ArraMedError as error:
            return presenting.problem_panel(words.sentence(str(error)))

    def _licence_class(self, model: str) -> str:
        choice = self.shelf.choices.get(model)
        return choice.licence_class if choice is not None else CREDENTIALED


def shown(result: GenerationResult, made: exporting.ExportedFiles) -> tuple[Any, ...]:
    """Returns updates of gallery, zip and files."""
    return (
        gr.Gallery(
            [(str(file), caption(result, at)) for at, file in enumerate(made.shown)],
            columns=GALLERY_COLUMNS[len(made.shown)],
            buttons=GALLERY_BUTTONS,
        ),
        gr.DownloadButton(value=str(made.archive)),
        [str(file) for file in made.files],
    )


def shown_alone(result: GenerationResult) -> gr.Gallery:
    """Returns an update of the gallery for images without files: marked, and with nothing to download them by."""
    pictures = [(draw_visible_mark(image), caption(result, at)) for at, image in enumerate(result.images)]
    return gr.Gallery(pictures, columns=GALLERY_COLUMNS[len(pictures)], buttons=["fullscreen"])


def caption(result: GenerationResult, at: int) -> str:
    """Returns what stands under an image."""
    return f"Synthetic, seed {result.seed(at)}"
