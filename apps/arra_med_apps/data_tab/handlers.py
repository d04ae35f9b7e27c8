"""What happens to files that are dropped: they are read, shown and deleted."""

import contextlib
import logging
import tempfile
import traceback
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from arra_med.corpus.inspection import Inspection, inspect_file
from arra_med.errors import ArraMedError
from arra_med.evaluate.training_search import TrainingSearch
from arra_med.imaging.view import as_picture
from arra_med.records.study import Modality
from arra_med_apps import words as shared
from arra_med_apps.choices import Shelf
from arra_med_apps.data_tab import presenting, words
from arra_med_apps.progress import working
from arra_med_apps.training_images import TrainingImages

MAX_FILES, MAX_MB = 20, 64
_COMMENT = "Derived from a patient's image: sensitive. Research use only, not for clinical decisions."
_LOG = logging.getLogger(__name__)

_Updates = tuple[Any, Any, Any, Any]


class Handlers:
    """The tab's event handlers.

    Args:
        shelf: The models.
        training: The images that trained them, where a study set was given.
    """

    def __init__(self, shelf: Shelf, training: TrainingImages) -> None:
        self.shelf, self.training = shelf, training

    def start(self) -> tuple[Any, ...]:
        """Returns updates of progress, stages, views, look and stop, before files are looked at."""
        return "", "", gr.File(visible=False), gr.Button(interactive=False), gr.Button(interactive=True)

    def finish(self) -> tuple[Any, ...]:
        """Returns updates of look and stop once files have been looked at, however it ended."""
        return gr.Button(interactive=True), gr.Button(interactive=False)

    def stop(self) -> tuple[Any, ...]:
        """Returns updates of progress, drop area, look and stop; Gradio ends the run, which deletes its files."""
        return presenting.note(words.STOPPED), gr.File(value=None), *self.finish()

    def look(self, paths: Sequence[str] | None, modality: Modality, keep: bool) -> Iterator[_Updates]:
        """Yields updates of progress, stages, kept views and the drop area, which is emptied: the files are deleted.

        A file is called by its number, for its name may be a patient's.
        """
        given = [Path(path) for path in paths or ()]
        if not given:
            yield presenting.problem(words.NOTHING), gr.skip(), gr.skip(), gr.skip()
            return
        views: list[tuple[int, np.ndarray]] = []
        try:
            yield from self._look(given, modality, views if keep else None)
        finally:
            for file in given:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix="arra-med-") as folder:
                written = [_write_view(Path(folder), number, view) for number, view in views]
                yield "", gr.skip(), gr.File(value=written or None, visible=bool(written)), gr.File(value=None)
        except OSError as error:
            yield presenting.problem(shared.unwritten(error)), gr.skip(), gr.File(visible=False), gr.File(value=None)

    def _look(
        self, given: Sequence[Path], modality: Modality, views: list[tuple[int, np.ndarray]] | None
    ) -> Iterator[_Updates]:
        """Yields `look`'s updates while it goes on; adds the views that are kept."""
        files, shown = given[:MAX_FILES], []
        if len(given) > len(files):
            shown.append(presenting.note(words.TOO_MANY.format(count=MAX_FILES, given=len(given))))
        search: TrainingSearch | None = None
        any_taken, failed = False, ""
        for number, file in enumerate(files, start=1):
            told = words.READING.format(number=number, count=len(files))
            yield working(told, (number - 1) / len(files)), "".join(shown), gr.skip(), gr.skip()
            seen = self._seen(file, modality)
            shown.append(presenting.file_card(number, seen))
            if isinstance(seen, str) or seen.view is None:
                continue
            if views is not None:
                views.append((number, seen.view))
            if seen.refusal is not None:
                continue
            any_taken = True
            if self.training.are_given and not failed:
                told = words.SEARCHING.format(number=number, count=len(files))
                yield working(told, (number - 0.5) / len(files)), "".join(shown), gr.skip(), gr.skip()
                try:
                    if search is None:
                        search = yield from self._prepared(modality)
                        shown.insert(0, presenting.note(shared.PATIENTS_NOTICE))
                    near = search.look_up(seen.view)
                    shown[-1] = presenting.file_card(number, seen, search.panel(near), near.flagged)
                except Exception as error:  # noqa: BLE001 - the app's edge
                    failed = str(error) if isinstance(error, ArraMedError) else _unexpected(error)
        if failed:
            shown.append(presenting.note(words.NEAREST_FAILED.format(why=failed)))
        elif search is not None:
            shown.append(presenting.about_search(search))
        elif any_taken:
            shown.append(presenting.aside(words.NO_TRAINING))
        yield "", "".join(shown), gr.skip(), gr.skip()

    def _prepared(self, modality: Modality) -> Generator[_Updates, None, TrainingSearch]:
        """Yields a bar while the search among the training images is prepared, and returns it."""
        with contextlib.closing(self.training.prepared(self._model(modality))) as preparing:
            while True:
                try:
                    bar = next(preparing)
                except StopIteration as finished:
                    search: TrainingSearch = finished.value
                    return search
                yield bar, gr.skip(), gr.skip(), gr.skip()

    def _seen(self, file: Path, modality: Modality) -> Inspection | str:
        """A file at every stage, or why it cannot be looked at."""
        try:
            if file.stat().st_size > MAX_MB << 20:
                return words.TOO_LARGE.format(size=MAX_MB)
            bundle = self.shelf.open(self._model(modality)).bundle
            return inspect_file(file, bundle.info.canonical_view, tokenizer=bundle.image_tokenizer)
        except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
            return words.UNREADABLE.format(why=_unexpected(error))

    def _model(self, modality: Modality) -> str:
        return self.shelf.of_modality(modality)[0].name


def _unexpected(error: Exception) -> str:
    """Logs kind and place of an error, never its text or values: they may hold a header's."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("inspection failed: %s\n%s", type(error).__name__, where)
    return words.UNEXPECTED


def _write_view(folder: Path, number: int, view: np.ndarray) -> str:
    path, chunks = folder / f"view_{number:02d}.png", PngInfo()
    chunks.add_itxt("Comment", _COMMENT)
    Image.fromarray(as_picture(view)).save(path, pnginfo=chunks)
    return str(path)
