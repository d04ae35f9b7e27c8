"""The tab that turns a report into images: components wired to handlers."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from arra_med_apps import theme, words
from arra_med_apps.acknowledging import follow_model
from arra_med_apps.choices import Shelf
from arra_med_apps.events import AT_ONCE, HIDDEN, IN_LINE, user_of
from arra_med_apps.generate_tab.file_handlers import FileHandlers
from arra_med_apps.generate_tab.handlers import Handlers
from arra_med_apps.generate_tab.history import Run
from arra_med_apps.generate_tab.layout import Layout
from arra_med_apps.generate_tab.table_handlers import TableHandlers
from arra_med_apps.model_radios import taking_model, with_model


def add_generate_tab(app: gr.Blocks, shelf: Shelf) -> gr.State:
    """Adds the tab's components and events; called inside its `gr.Tab`.

    Args:
        app: The page, whose loading fills the tab.
        shelf: The models.

    Returns:
        The session's runs, the last one first: a list of `history.Run`.
    """
    page, handlers = Layout(shelf), Handlers(shelf)
    radios = page.models.components
    gr.on(
        [c.change for c in (page.report, page.modality, page.view, page.laterality, page.age_group, *radios)],
        taking_model(handlers.preview),
        inputs_kwargs=page.inputs,
        outputs=page.prompt,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    page.modality.input(
        handlers.switch_modality,
        [page.modality, page.report],
        [page.report, page.view, page.laterality, *radios, *page.example_rows.values()],
        **AT_ONCE,
    )
    gr.on(
        [app.load, *(component.change for component in (page.modality, *radios))],
        taking_model(handlers.about),
        inputs_kwargs={"modality": page.modality, **page.models.inputs},
        outputs=page.about,
        **AT_ONCE,
    )
    for button, example in page.examples:
        button.click(
            lambda text=example.report: (text, words.AS_REPORTED, words.AS_REPORTED, words.AS_REPORTED),
            None,
            [page.report, page.view, page.laterality, page.age_group],
            **AT_ONCE,
        )
    page.dice.click(handlers.roll, None, page.seed, **AT_ONCE)
    page.scaling.change(None, page.scaling, None, js=theme.SCALING_JS)

    results = [page.notice, page.live, page.finished, page.gallery, page.archive, page.files, page.settings]
    files = FileHandlers(shelf)
    _wire_files(page, handlers, files)
    following = page.more.click(handlers.next_seed, [page.seed, page.num_images], page.seed, **AT_ONCE)
    runs = []
    for pressed in (page.generate.click, following.then):
        started = pressed(
            handlers.start,
            page.num_images,
            [page.notice, page.live, page.finished, page.generate, page.stop],
            **AT_ONCE,
        )
        run = started.then(
            _generating(handlers, list(page.inputs)),
            [page.history, *page.export, *page.inputs.values()],
            [*results, page.last, page.history, page.earlier],
            **IN_LINE,
        )
        run.then(handlers.finish, None, [page.generate, page.stop], **AT_ONCE).then(
            taking_model(handlers.preview), inputs_kwargs=page.inputs, outputs=page.prompt, **AT_ONCE
        )  # once the model is open, the prompt has its cautions
        runs.append(run)
    _wire_table(page, TableHandlers(handlers), files, results)
    page.stop.click(handlers.stop, None, [page.notice, page.generate, page.stop], cancels=runs, **AT_ONCE)
    return page.history


def _generating(handlers: Handlers, names: list[str]) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The handler of a run: history, the four wishes about files, then the form's values in the order of their names."""

    def generate(request: gr.Request, history: list[Run], *values: Any) -> Iterator[tuple[Any, ...]]:
        export, form = values[: -len(names)], with_model(dict(zip(names, values[-len(names) :], strict=True)))
        yield from handlers.generate(form.pop("model"), history, export, user_of(request), **form)

    return generate


def _wire_table(
    page: Layout, tables: TableHandlers, files: FileHandlers, results: list[gr.components.Component]
) -> None:
    said = [page.table_told, page.table_draw]
    form = {name: component for name, component in page.inputs.items() if name != "report"}
    read = page.upload.upload(
        files.load_file, page.upload, [page.notice, page.report, page.reports, page.picker], **AT_ONCE
    )
    read.then(
        taking_model(tables.loaded),
        inputs_kwargs={"path": page.upload, "reports": page.reports, **form},
        outputs=[page.table, page.table_box, *said],
        **AT_ONCE,
    )
    gr.on(
        [component.change for component in form.values()],
        taking_model(tables.told),
        inputs_kwargs={"path": page.table, **form},
        outputs=said,
        trigger_mode="always_last",
        **AT_ONCE,
    )

    def draw_table(
        request: gr.Request, path: str | None, history: list[Run], *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        export, filled = values[: -len(form)], with_model(dict(zip(form, values[-len(form) :], strict=True)))
        yield from tables.draw(path, filled.pop("model"), history, export, user_of(request), **filled)

    def stop(request: gr.Request) -> tuple[Any, Any]:
        return tables.stop(user_of(request))

    buttons = [page.table_draw, page.table_stop, page.generate]
    started = page.table_draw.click(tables.start, None, [page.notice, page.live, page.finished, *buttons], **AT_ONCE)
    run = started.then(
        draw_table,
        [page.table, page.history, *page.export, *form.values()],
        [*results, page.last, page.history, page.earlier],
        **IN_LINE,
    )
    run.then(tables.finish, None, buttons, **AT_ONCE)
    page.table_stop.click(stop, None, [page.notice, page.table_stop], **AT_ONCE)


def _wire_files(page: Layout, handlers: Handlers, files: FileHandlers) -> None:
    page.picker.input(files.pick, [page.reports, page.picker], page.report, **AT_ONCE)
    gr.on(
        [component.change for component in page.export],
        files.export,
        [page.last, *page.export],
        [page.notice, page.gallery, page.archive, page.files],
        trigger_mode="always_last",
        **HIDDEN,
    )
    follow_model(files.shelf, page.acknowledged, page.modality, page.models)
    page.send.click(files.send, [page.files, page.destination, page.confirmed], page.notice, **HIDDEN)
    form = [component for component in page.inputs.values() if component not in page.models.components]
    restored = [page.notice, *page.models.components, *form, *page.example_rows.values()]
    page.earlier.select(handlers.restore, page.history, restored, **AT_ONCE)
