"""The tab that asks what the model makes of a report: components wired to handlers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med_apps.acknowledging import follow_model
from arra_med_apps.choices import Shelf
from arra_med_apps.events import AT_ONCE, IN_LINE, user_of
from arra_med_apps.explore_tab.handlers import Handlers
from arra_med_apps.explore_tab.layout import Layout, Tool
from arra_med_apps.model_radios import taking_model, with_model

CSS_FILE = Path(__file__).with_name("tab.css")


def add_explore_tab(shelf: Shelf) -> None:
    """Adds the tab's components and events; called inside its `gr.Tab`.

    Args:
        shelf: The models.
    """
    page, handlers = Layout(shelf), Handlers(shelf)
    gr.on(
        [component.change for component in (page.report, page.modality, *page.models.components)],
        taking_model(handlers.preview),
        inputs_kwargs=page.common,
        outputs=page.prompt,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    follow_model(shelf, page.acknowledged, page.modality, page.models)
    page.modality.input(handlers.switch_modality, page.modality, [page.report, *page.models.components], **AT_ONCE)

    pair_inputs = {"edited_report": page.edited_report, "num_pairs": page.num_pairs, **page.common}
    _wire(page, handlers, page.pair, handlers.pair, pair_inputs)
    _wire(page, handlers, page.explain, handlers.explain, {"num_measured": page.num_measured, **page.common})
    edit_inputs = {
        "opened": page.original,
        "cells": page.cells,
        "new_report": page.new_report,
        "tries": page.tries,
        "keep_outside": page.keep_outside,
        **page.common,
    }
    _wire(page, handlers, page.edit, handlers.edit, edit_inputs)

    opened = [page.original_notice, page.region, page.original, page.cells, page.picture]
    box = dict(zip(("left", "top", "width", "height"), page.box, strict=True))
    _wire_original(page.draw.click, page, handlers, handlers.draw_original, {**box, **page.common}, opened)
    file = {"file": page.open, **box, **page.common}
    _wire_original(page.open.upload, page, handlers, handlers.open_original, file, opened)
    gr.on(
        [slider.change for slider in page.box],
        handlers.set_box,
        [page.original, *page.box],
        [page.cells, page.picture],
        trigger_mode="always_last",
        **AT_ONCE,
    )
    page.picture.select(handlers.click, [page.original, page.cells], [page.cells, page.picture], **AT_ONCE)


def _wire_original(
    pressed: Any,
    page: Layout,
    handlers: Handlers,
    handler: Any,
    inputs: dict[str, Any],
    opened: list[gr.components.Component],
) -> None:
    buttons = [page.draw, page.open]
    started = pressed(handlers.start_opening, None, [page.original_notice, *buttons], **AT_ONCE)
    run = started.then(_as_user(handler), inputs_kwargs=inputs, outputs=opened, **IN_LINE)
    run.then(handlers.finish_opening, None, buttons, **AT_ONCE)


def _as_user(handler: Any) -> Any:
    """The handler of a run: the components' values, and whose run it is."""

    def run(request: gr.Request, **values: Any) -> Iterator[Any]:
        yield from handler(user=user_of(request), **with_model(values))

    return run


def _wire(page: Layout, handlers: Handlers, tool: Tool, handler: Any, inputs: dict[str, Any]) -> None:
    started = tool.run.click(handlers.start, None, [tool.shown, tool.files, tool.run, tool.stop], **AT_ONCE)
    run = started.then(_as_user(handler), inputs_kwargs=inputs, outputs=[tool.shown, tool.files], **IN_LINE)
    run.then(handlers.finish, None, [tool.run, tool.stop], **AT_ONCE).then(
        taking_model(handlers.preview), inputs_kwargs=page.common, outputs=page.prompt, **AT_ONCE
    )  # once the model is open, the prompt has its cautions
    tool.stop.click(handlers.stop, None, [tool.shown, tool.run, tool.stop], cancels=[run], **AT_ONCE)
