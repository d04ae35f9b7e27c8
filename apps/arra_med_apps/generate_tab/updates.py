"""What a run of the tab yields, and what becomes of its errors: one sentence in the page, kind and place in the log."""

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import gradio as gr

from arra_med.errors import ArraMedError
from arra_med_apps import words
from arra_med_apps.generate_tab import presenting

_LOG = logging.getLogger(__name__)

RESULT_OUTPUTS = 10
"""Number of updates that a run yields: notice, live panel, finished column, gallery, zip, files, settings, the last
run, the session's history and its pictures."""

Updates = tuple[Any, ...]


def told(run: Iterator[Updates]) -> Iterator[Updates]:
    """Yields what a run yields, and makes a sentence of its error."""
    try:
        yield from run
    except ArraMedError as error:
        yield problem(words.sentence(str(error)))
    except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
        # Neither the error's text nor its values: they may hold the report.
        where = "".join(traceback.format_tb(error.__traceback__))
        _LOG.error("generation failed: %s\n%s", type(error).__name__, where)
        yield problem(words.UNEXPECTED)


def only_live(live: str) -> Updates:
    """Returns an update of the live panel alone."""
    return (gr.skip(), live, *(gr.skip() for _ in range(RESULT_OUTPUTS - 2)))


def problem(text: str) -> Updates:
    """Returns updates that show one sentence about what went wrong."""
    return (presenting.problem_panel(text), presenting.empty_panel(), *(gr.skip() for _ in range(RESULT_OUTPUTS - 2)))
