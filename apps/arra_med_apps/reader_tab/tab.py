"""The tab for reader studies: components wired to handlers."""

import functools
import ipaddress
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med_apps.choices import Shelf
from arra_med_apps.events import AT_ONCE, IN_LINE, user_of
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.owning import Owning
from arra_med_apps.reader_tab.reading import Reading
from arra_med_apps.reader_tab.telling import Updates

CSS_FILE = Path(__file__).with_name("tab.css")
_SCRIPT = Path(__file__).with_name("tab.js").read_text(encoding="utf-8")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def add_reader_tab(app: gr.Blocks, shelf: Shelf, history: gr.State) -> None:
    """Adds the tab's components and events; called inside its `gr.Tab`.

    Args:
        app: The page, whose loading fills the tab.
        shelf: The models.
        history: Runs of the generate tab in this session.
    """
    page = Layout(shelf)
    _wire_reading(app, page)
    _wire_owning(app, page, shelf, history)


def _wire_reading(app: gr.Blocks, page: Layout) -> None:
    reading = Reading(page)
    changed = [
        page.notice, page.state, page.code, page.enter, page.consent, page.reading, page.done, page.consent_text,
        page.agree, page.progress, page.image, page.question, page.keys, page.choices, *page.choice, *page.marks,
        page.save, page.thanks,
    ]  # fmt: skip
    app.load(_asked_study, None, page.code, js=f"() => {{ {_SCRIPT} }}", **AT_ONCE)
    gr.on([page.go.click, page.code.submit], reading.enter, page.code, changed, **AT_ONCE)
    page.begin.click(reading.begin, [page.state, page.agree], changed, **AT_ONCE)
    for index, button in enumerate(page.choice):
        button.click(functools.partial(reading.choose, index=index), page.state, changed, **AT_ONCE)
    page.save.click(reading.save, [page.state, *page.marks], changed, **AT_ONCE)
    page.undo.click(reading.undo, page.state, changed, **AT_ONCE)
    page.leave.click(reading.leave, None, changed, **AT_ONCE)


def _wire_owning(app: gr.Blocks, page: Layout, shelf: Shelf, history: gr.State) -> None:
    owning = Owning(page, shelf)

    def make(given: Any, request: gr.Request, **values: Any) -> Any:
        yield from owning.make(given, local=_is_local(app, request), user=user_of(request), **values)

    def offer_folders(request: gr.Request) -> Updates:
        return owning.offer_folders(local=_is_local(app, request))

    app.load(offer_folders, None, list(page.folders.values()), **AT_ONCE)
    page.design.change(
        owning.switch_design, page.design, [page.question_text, page.items, *page.arm_rows.values()], **AT_ONCE
    )
    page.modality.change(owning.switch_modality, page.modality, list(page.models.values()), **AT_ONCE)
    run = page.make.click(
        make,
        inputs_kwargs={"given": history, **page.plan_inputs},
        outputs=[page.make_notice, page.made, page.make, page.stop, page.results_code],
        **IN_LINE,
    )
    page.stop.click(owning.stop, None, [page.make_notice, page.made, page.make, page.stop], cancels=run, **AT_ONCE)
    page.plan.click(
        owning.sample_size,
        [page.preferred, page.power, page.accuracy, page.half_width],
        page.planned,
        **AT_ONCE,
    )
    shown = [page.results_notice, page.results]
    page.show.click(owning.results, [page.results_code, page.owner_code], shown, **AT_ONCE)
    page.forget.click(owning.forget, [page.results_code, page.owner_code, page.forgotten], shown, **AT_ONCE)


def _asked_study(request: gr.Request) -> str:
    """The code in the page's address, `?study=...`, which an owner sends to readers."""
    return str(request.query_params.get("study", ""))[:40]


def _is_local(app: gr.Blocks, request: gr.Request) -> bool:
    """Tells whether a request comes from the computer that runs the app: bound to loopback, and no proxy in between."""
    host = getattr(app, "server_name", None) or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
    return loopback and not any(name in request.headers for name in _FORWARDED)
