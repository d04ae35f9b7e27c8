"""Errors of the tab's handlers: one sentence in the page, and nothing of a user's in the log."""

import functools
import logging
import traceback
from collections.abc import Callable
from typing import Any

from arra_med.errors import ArraMedError
from arra_med_apps import words as page_words
from arra_med_apps.generate_tab.presenting import problem_panel
from arra_med_apps.reader_tab import words

_LOG = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""New values by component; components that are not named stay as they are."""


def told(notice: str) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """Returns a decorator for a handler's method: an error becomes a sentence in that component of its page.

    Args:
        notice: Name of the layout's component.
    """

    def decorate(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        @functools.wraps(handler)
        def handled(self: Any, *values: Any, **named: Any) -> Updates:
            try:
                return handler(self, *values, **named)
            except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
                return {getattr(self.page, notice): problem_panel(sentence_of(error))}

        return handled

    return decorate


def sentence_of(error: Exception) -> str:
    """Returns what a user reads of an error; of an unexpected one its kind and place are logged, never its text."""
    if isinstance(error, ArraMedError):
        return page_words.sentence(str(error))
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("reader study failed: %s\n%s", type(error).__name__, where)
    return words.UNEXPECTED
