"""What happens with a table of reports: how many there are, all of them drawn, and the files of it.

Nothing here is logged but the kind and place of an unexpected error; a report or an error's own text never is.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med.errors import ArraMedError, GenerationError
from arra_med.generate.batch_plan import PlannedImage, plan_images
from arra_med.generate.export import ExportChoice
from arra_med.generate.marks import Marks
from arra_med.generate.prompt_table import PromptRow, read_prompt_table, table_modality
from arra_med.generate.session import ReportToImage
from arra_med.models.licence import check_acknowledged
from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.form import Form, form_values
from arra_med_apps.generate_tab import presenting
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.exporting import ExportForm
from arra_med_apps.generate_tab.file_handlers import GALLERY_BUTTONS, GALLERY_COLUMNS
from arra_med_apps.generate_tab.handlers import Handlers, rules_in_words
from arra_med_apps.generate_tab.history import Run, earlier_gallery, remembered
from arra_med_apps.generate_tab.table_run import FIRST_IMAGES, TableRun
from arra_med_apps.generate_tab.updates import Updates, only_live, problem, told

_POLL_S = 0.5
_CAUTIONS_SHOWN = 5
_ANY_REPORT = "table"  # a form without a report is none; each row has its own


class TableHandlers:
    """The tab's event handlers for tables.

    Args:
        handlers: Of the single reports.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._runs: dict[str, TableRun] = {}

    @property
    def shelf(self) -> Shelf:
        """The models."""
        return self._handlers.shelf

    def loaded(self, path: str | None, reports: Sequence[str], model: str, **values: Any) -> tuple[Any, ...]:
        """Returns updates of the table, its box, what is said of it and its button, for a file that holds these reports."""
        is_table = bool(reports) and path is not None and Path(path).suffix.lower() == ".csv"
        return (
            path if is_table else None,
            gr.Column(visible=is_table),
            *self.told(path if is_table else None, model, **values),
        )

    def told(self, path: str | None, model: str, **values: Any) -> tuple[Any, Any]:
        """Returns updates of what is said of the table, and of its button."""
        if path is None:
            return gr.skip(), gr.skip()
        try:
            choice, rows = self._rows(path, model, values)
            session = self.shelf.opened(choice.name)
            if session is None:
                self.shelf.open_soon(choice.name)
            else:
                plan_images(own_words.THE_TABLE, rows, session.reader, session.bundle.fingerprint)
            reports = words.several(len(rows), "report")
            said = own_words.TABLE_TOLD.format(
                reports=reports,
                images=words.several(sum(row.request.num_images for row in rows), "image"),
                kind=words.MODALITY_NAMES[choice.modality],
            )
        except ArraMedError as error:
            bad = own_words.TABLE_BAD.format(problem=words.sentence(str(error)))
            return presenting.problem_panel(bad), gr.Button(own_words.TABLE_DRAW.format(reports=""), interactive=False)
        label = own_words.TABLE_DRAW.format(reports=reports) if len(rows) > 1 else own_words.TABLE_DRAW_ONE
        return presenting.help_text(said), gr.Button(label, interactive=True)

    def start(self) -> tuple[Any, ...]:
        """Returns updates of notice, live panel, finished column, the table's two buttons and Generate, before a run."""
        text = words.WAITING if self.shelf.generating.locked() else words.STARTING
        live = presenting.table_panel(text, "", 0.0, [])
        idle, running = gr.Button(interactive=False), gr.Button(interactive=True)
        return "", live, gr.Column(visible=False), idle, running, idle

    def finish(self) -> tuple[Any, ...]:
        """Returns updates of the table's two buttons and Generate, once a run has ended."""
        return gr.Button(interactive=True), gr.Button(interactive=False), gr.Button(interactive=True)

    def stop(self, user: str) -> tuple[Any, Any]:
        """Ends the user's run at its next row; returns updates of notice and of the stop button."""
        run = self._runs.get(user)
        if run is None:
            return gr.skip(), gr.Button(interactive=False)
        run.stop()
        return presenting.note_panel(own_words.TABLE_STOPPING), gr.Button(interactive=False)

    def draw(
        self,
        path: str | None,
        model: str,
        history: list[Run] | None = None,
        export: Sequence[Any] = (),
        user: str = "",
        **values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Yields how far the table is, then its first images and the file of all; an error becomes one sentence.

        Args:
            path: The table.
            model: Name of the choice.
            history: Earlier runs of the session, the last one first.
            export: Values of an `ExportForm`.
            user: Whose run it is.
            values: Values of a `Form`, for what the table does not say.
        """
        yield from told(self._checked(path, model, history or [], ExportForm(*export), user, values))

    def _checked(
        self,
        path: str | None,
        model: str,
        history: list[Run],
        export: ExportForm,
        user: str,
        values: dict[str, Any],
    ) -> Iterator[Updates]:
        choice, rows = self._rows(path, model, values)
        how = "tick the acknowledgement under 'Files to take away'"
        check_acknowledged(choice.licence_class, export.acknowledged, how)
        if "png" not in export.formats:
            raise GenerationError(own_words.TABLE_NO_PNG)
        if self.shelf.opened(choice.name) is None:
            yield only_live(presenting.table_panel(words.LOADING, "", 0.0, []))
        session = self.shelf.open(choice.name)
        planned = plan_images(own_words.THE_TABLE, rows, session.reader, session.bundle.fingerprint)
        written = ExportChoice(",".join(export.formats), export.keep_report, Marks(visible=export.visible_mark))
        with (
            self.shelf.run(user, len(planned)) as counted,
            tempfile.TemporaryDirectory(prefix="arra-med-") as folder,
        ):
            run = self._runs[user] = TableRun(counted, choice, session, rows, planned, written)
            out = Path(folder) / "files"
            try:
                yield from _followed(run, out)
                yield self._finished(choice, session, run, planned, out, history)
            finally:
                del self._runs[user]

    def _rows(self, path: str | None, model: str, values: dict[str, Any]) -> tuple[ModelChoice, list[PromptRow]]:
        """Reads the table with the page's settings for what it does not say, as the command does with its options."""
        if path is None or not Path(path).is_file():
            raise GenerationError(own_words.TABLE_GONE)
        named = table_modality(Path(path), own_words.THE_TABLE)
        modality: Modality = named or values["modality"]
        if modality not in self.shelf.modalities:
            raise GenerationError(own_words.TABLE_NO_MODEL.format(kind=modality))
        stated = words.AS_REPORTED
        if modality != values["modality"]:
            values = {**values, "modality": modality, "view": stated, "laterality": stated, "age_group": stated}
        asked = Form(**{**values, "report": _ANY_REPORT}).request()
        rows = read_prompt_table(
            Path(path),
            modality=modality,
            seed=asked.seed,
            max_rows=own_words.MAX_TABLE_ROWS,
            shown=own_words.THE_TABLE,
            rules=asked.rules,
            **{name: getattr(asked, name) for name in ("view", "laterality", "age_group", "num_images")},
        )
        count = sum(row.request.num_images for row in rows)
        if count > own_words.MAX_TABLE_IMAGES:
            most = own_words.MAX_TABLE_IMAGES
            raise GenerationError(own_words.TABLE_TOO_MANY.format(count=count, most=most))
        return self.shelf.chosen(model, modality), rows

    def _finished(
        self,
        choice: ModelChoice,
        session: ReportToImage,
        run: TableRun,
        planned: Sequence[PlannedImage],
        out: Path,
        history: list[Run],
    ) -> Updates:
        """Returns the updates of the end; Gradio copies the files into its own private cache."""
        if not run.done:
            return problem(own_words.TABLE_STOPPED_EMPTY)
        files = sorted(file for file in out.iterdir() if not file.name.startswith("."))
        archive = out.parent / f"arra-med_{choice.modality}_table_{run.done}.zip"
        presenting.write_archive(files, archive, words.BANNER)
        pictures = [
            (
                str(image.record_path(out).with_suffix(".png")),
                f"Synthetic, report {image.row}",
            )
            for image in planned
            if image.record_path(out).exists()
        ][:FIRST_IMAGES]
        is_whole = run.done == run.total
        notice = (
            "" if is_whole else presenting.note_panel(own_words.TABLE_STOPPED.format(done=run.done, total=run.total))
        )
        shown = own_words.TABLE_SHOWN.format(count=words.several(len(pictures), "image"))
        settings = {
            "Table": f"{words.several(planned[-1].row, 'report')}, {words.several(run.done, 'image')}",
            "Seeds": "in the records and the list",
            **rules_in_words(choice, session, planned[0].request.rules),
        }
        for result in reversed(run.first):
            history = remembered(history, Run(choice.name, form_values(result.request), result))
        return (
            notice,
            presenting.done_line(run.done, run.worked_s, shown),
            gr.Column(visible=True),
            gr.Gallery(pictures, columns=GALLERY_COLUMNS[len(pictures)], buttons=GALLERY_BUTTONS),
            gr.DownloadButton(value=str(archive)),
            None,
            presenting.settings_panel(settings, _cautions(planned)),
            None,
            history,
            earlier_gallery(history),
        )


def _followed(run: TableRun, out: Path) -> Iterator[Updates]:
    """Yields how far the run is until it has ended; closing it ends the run at its next row."""
    with ThreadPoolExecutor(1, thread_name_prefix="table") as pool:
        drawing = pool.submit(run.draw, out)
        try:
            while not drawing.done():
                wait([drawing], _POLL_S)
                yield only_live(_progress(run))
            drawing.result()
        finally:
            run.stop()


def _cautions(planned: Sequence[PlannedImage]) -> list[str]:
    """The cautions that belong to the most images, with their number, as the command tells them."""
    found = Counter(caution for image in planned for caution in image.cautions)
    return [f"{words.several(count, 'image')}: {caution}" for caution, count in found.most_common(_CAUTIONS_SHOWN)]


def _progress(run: TableRun) -> str:
    share, pictures = run.done / run.total, list(run.latest)
    done = own_words.TABLE_PROGRESS.format(done=run.done, total=run.total)
    place, speed = run.place, run.images_per_s
    if place:
        return presenting.table_panel(place, done, share, pictures)
    if speed is None:
        return presenting.table_panel(done, own_words.TABLE_FIRST, share, pictures)
    left = own_words.TABLE_LEFT.format(rate=f"{speed:.2g}", left=words.duration((run.total - run.done) / speed))
    return presenting.table_panel(done, left, share, pictures)
