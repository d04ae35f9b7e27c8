"""The runs of one session of the page, in the server's memory alone, gone with the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from arra_med.generate.marks import draw_visible_mark
from arra_med.generate.session import GenerationResult

MAX_RUNS = 20
"""Older ones are forgotten."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        model: Name of the choice.
        form: Values of its `Form`, by name.
        result: What came of it.
    """

    model: str
    form: dict[str, Any] = field(repr=False)
    result: GenerationResult = field(repr=False)

    @property
    def picture(self) -> np.ndarray:
        """The first image, uint8 (H, W) or (H, W, 3)."""
        first: np.ndarray = self.result.images[0]
        return first


def remembered(history: Sequence[Run], run: Run) -> list[Run]:
    """Returns the history with a run before all others."""
    return [run, *history][:MAX_RUNS]


def earlier_gallery(history: Sequence[Run]) -> gr.Gallery:
    """Returns an update of the gallery of earlier runs; its pictures are files that a browser can save, so they are marked."""
    return gr.Gallery([(draw_visible_mark(run.picture), f"seed {run.form['seed']}") for run in history], visible=True)
