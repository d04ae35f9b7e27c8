"""The tab that sets models side by side: components wired to handlers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med_apps.choices import Shelf
from arra_med_apps.compare_tab.handlers import Handlers
from arra_med_apps.compare_tab.layout import Layout
from arra_med_apps.events import AT_ONCE, HIDDEN, IN_LINE, user_of
from arra_med_apps.settings import AppSettings
from arra_med_apps.training_images import TrainingImages

CSS_FILE = Path(__file__).with_name("tab.css")
HEAD = f"<script>\n{Path(__file__).with_name('tab.js').read_text(encoding='utf-8')}</script>\n"
"""What the tab adds to the page's head: pictures that enlarge, the report's own page."""


def add_compare_tab(app: gr.Blocks, shelf: Shelf, settings: AppSettings, training: TrainingImages) -> None:
    """Adds the tab's components and events; called inside its `gr.Tab`.

    Args:
        app: The page, whose loading shows the study.
        shelf: The models.
        settings: Which folders may be read.
        training: The images that trained the models, where a study set was given.
    """
    page, handlers = Layout(shelf, settings), Handlers(shelf, settings, training)
    app.load(handlers.study, None, page.study, **AT_ONCE)
    page.modality.input(
        handlers.switch_modality,
        [page.modality, page.report],
        [page.report, page.models, *page.example_rows.values()],
        **AT_ONCE,
    )
    for button, example in page.examples:
        button.click(lambda text=example.report: text, None, page.report, **AT_ONCE)

    started = page.compare.click(
        handlers.start,
        None,
        [page.notice, page.compared, page.compare, page.stop, page.find, page.nearest, page.scores],
        **AT_ONCE,
    )

    def compare(request: gr.Request, **values: Any) -> Iterator[tuple[Any, Any, Any]]:
        yield from handlers.compare(user=user_of(request), **values)

    run = started.then(
        compare,
        inputs_kwargs={
            "models": page.models,
            "report": page.report,
            "modality": page.modality,
            "num_seeds": page.num_seeds,
            "seed": page.seed,
            "guidance_scale": page.guidance_scale,
            "temperature": page.temperature,
        },
        outputs=[page.notice, page.grid, page.compared],
        **IN_LINE,
    )
    run.then(handlers.finish, page.compared, [page.compare, page.stop, page.find], **AT_ONCE).then(
        handlers.scores, page.compared, page.scores, concurrency_limit=1, concurrency_id="evidence", **HIDDEN
    )
    page.stop.click(handlers.stop, None, [page.notice, page.compare, page.stop, page.find], cancels=[run], **AT_ONCE)

    begun = page.find.click(handlers.start_finding, None, [page.find, page.stop_finding], **AT_ONCE)
    search = begun.then(
        handlers.find, page.compared, page.nearest, concurrency_limit=1, concurrency_id="evidence", **HIDDEN
    )
    search.then(handlers.finish_finding, page.compared, [page.find, page.stop_finding], **AT_ONCE)
    page.stop_finding.click(
        handlers.stop_finding,
        page.compared,
        [page.nearest, page.find, page.stop_finding],
        cancels=[search],
        **AT_ONCE,
    )
