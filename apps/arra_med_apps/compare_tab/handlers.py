"""What happens when something is pressed: the page's values in, the page's updates out.

Nothing here is logged but the kind and place of an unexpected error; a report, a picture or an error's text never is.
"""

import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from arra_med.errors import ArraMedError
from arra_med.evaluate.finding_scores import findings_of_report
from arra_med.evaluate.finished_study import read_finished_study
from arra_med.evaluate.training_search import TrainingSearch
from arra_med.records.study import Modality
from arra_med_apps import words as shared
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.compare_tab import panels, words
from arra_med_apps.compare_tab.evidence import Evidence
from arra_med_apps.compare_tab.form import Compared, ModelPictures, chosen_models, in_order, request_of
from arra_med_apps.compare_tab.grid import empty_grid, grid_panel
from arra_med_apps.generate_tab.presenting import note_panel, problem_panel
from arra_med_apps.progress import time_left, working
from arra_med_apps.report_input import switched_report
from arra_med_apps.settings import AppSettings
from arra_med_apps.training_images import TrainingImages

_LOG = logging.getLogger(__name__)


class Handlers:
    """The tab's event handlers.

    Args:
        shelf: The models.
        settings: Which folders may be read.
        training: The images that trained the models, where a study set was given.
    """

    def __init__(self, shelf: Shelf, settings: AppSettings, training: TrainingImages) -> None:
        self.shelf, self.settings, self.training = shelf, settings, training
        self.evidence = Evidence(settings, shelf)

    def switch_modality(self, modality: Modality, report: str) -> tuple[Any, ...]:
        """Returns updates of report, models and each row of examples, for another kind of image."""
        models = in_order(self.shelf.of_modality(modality))
        return (
            switched_report(modality, report),
            gr.CheckboxGroup(
                choices=[(choice.label, choice.name) for choice in models], value=[choice.name for choice in models]
            ),
            *(gr.Row(visible=modality == other) for other in self.shelf.modalities),
        )

    def start(self) -> tuple[Any, ...]:
        """Returns updates of notice, compared, compare, stop, find, nearest and scores, before a comparison begins."""
        nearest = panels.paragraph(words.NEAREST_FIRST)
        if not self.training.are_given:
            nearest += panels.paragraph(words.NO_TRAINING)
        scores = words.NO_JUDGE if self.settings.judge is None else words.SCORES_FIRST
        running, idle = gr.Button(interactive=True), gr.Button(interactive=False)
        return "", None, idle, running, idle, nearest, panels.paragraph(scores)

    def finish(self, compared: Compared | None) -> tuple[Any, ...]:
        """Returns updates of compare, stop and find once a comparison has ended, however it ended."""
        return (
            gr.Button(interactive=True),
            gr.Button(interactive=False),
            gr.Button(interactive=compared is not None),
        )

    def stop(self) -> tuple[Any, ...]:
        """Returns updates of notice, compare, stop and find; Gradio cancels the run, the half-made grid stays."""
        return (note_panel(words.STOPPED), *self.finish(None))

    def compare(
        self,
        models: Sequence[str],
        report: str,
        modality: Modality,
        num_seeds: int,
        seed: int | None,
        guidance_scale: float,
        temperature: float,
        user: str = "",
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Yields updates of notice, grid and compared while the pictures form; an error becomes a sentence."""
        try:
            request = request_of(report, modality, num_seeds, seed, guidance_scale, temperature)
            chosen = chosen_models(self.shelf, models, modality)
            yield from self._compare(chosen, request, user)
        except ArraMedError as error:
            yield problem_panel(shared.sentence(str(error))), empty_grid(), None
        except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
            yield problem_panel(_unexpected(error)), empty_grid(), None

    def _compare(self, chosen: Sequence[ModelChoice], request: Any, user: str) -> Iterator[tuple[Any, Any, Any]]:
        labels = [choice.label for choice in chosen]
        seeds = tuple(request.seed + index for index in range(request.num_images))
        made: list[np.ndarray | None] = [None] * len(chosen)
        progress = [0.0] * len(chosen)
        spent = 0.0

        def update(status: str) -> tuple[Any, Any, Any]:
            share = sum(progress) / len(progress)
            left = spent * (1 - share) / share if share > 0 else None
            return gr.skip(), grid_panel(labels, seeds, made, progress, status, time_left(left)), gr.skip()

        with self.shelf.run(user, len(chosen) * len(seeds)) as run:
            yield update(shared.LOADING)
            sessions = [self.shelf.open(choice.name) for choice in chosen]
            for place in run.places():
                yield update(place)
            for row, session in enumerate(sessions):
                began, before = time.monotonic(), spent
                for state in run.watched(session.stream(request), len(seeds)):
                    spent = before + time.monotonic() - began
                    made[row], progress[row] = state.images, state.progress
                    if state.result is not None:
                        made[row], progress[row] = state.result.images, 1.0
                    yield update(f"{labels[row]}: making {shared.several(len(seeds), 'picture')}")
        rows = tuple(
            ModelPictures(choice.name, choice.label, images)
            for choice, images in zip(chosen, made, strict=True)
            if images is not None
        )
        done = f"{shared.several(len(rows) * len(seeds), 'synthetic picture')} made in {shared.duration(spent)}"
        few = note_panel(words.ONE_MODEL) if len(self.shelf.of_modality(request.modality)) == 1 else ""
        grid = grid_panel(labels, seeds, made, progress, done, words.CLICK_HINT)
        yield few, grid, Compared(request.modality, seeds, rows, findings_of_report(request.report, request.modality))

    def start_finding(self) -> tuple[Any, ...]:
        """Returns updates of find and its stop before the search begins."""
        return gr.Button(interactive=False), gr.Button(interactive=True)

    def finish_finding(self, compared: Compared | None) -> tuple[Any, ...]:
        """Returns updates of find and its stop once the search has ended."""
        return gr.Button(interactive=compared is not None), gr.Button(interactive=False)

    def stop_finding(self, compared: Compared | None) -> tuple[Any, ...]:
        """Returns updates of the panel, find and its stop; Gradio cancels the search."""
        return (note_panel(words.NEAREST_STOPPED), *self.finish_finding(compared))

    def find(self, compared: Compared | None) -> Iterator[str]:
        """Yields the panel of nearest training images; without a study set, what the models' checks say."""
        try:
            if compared is None:
                yield panels.paragraph(words.NEAREST_FIRST)
            elif not self.training.are_given:
                yield from self._check(compared)
            else:
                yield from self._find(compared)
        except ArraMedError as error:
            yield problem_panel(shared.sentence(str(error)))
        except Exception as error:  # noqa: BLE001 - the app's edge
            yield problem_panel(_unexpected(error))

    def _find(self, compared: Compared) -> Iterator[str]:
        yield working(shared.TRAINING_PREPARING, 0.0)
        cards: list[str] = []
        flagged, total = 0, len(compared.rows) * len(compared.seeds)
        search: TrainingSearch | None = None
        for row in compared.rows:
            search = yield from self.training.prepared(row.model)
            for seed, image, view in zip(compared.seeds, row.images, row.views, strict=True):
                yield working(words.NEAREST_LOOKING, len(cards) / total)
                near = search.look_up(view)
                flagged += near.flagged
                cards.append(panels.nearest_card(row.label, seed, image, near, search.pictures(near)))
        if search is not None:
            yield panels.nearest_panel(cards, search, flagged, total)

    def _check(self, compared: Compared) -> Iterator[str]:
        rows = []
        for place, row in enumerate(compared.rows):
            yield working(words.NEAREST_LOOKING, place / len(compared.rows))
            gate = self.evidence.gate(row.model)
            rows.append((row.label, gate, [] if gate is None else gate.judge(row.images)))
        yield panels.reference_panel(rows)

    def scores(self, compared: Compared | None) -> Iterator[str]:
        """Yields the judge's panel for a finished comparison."""
        try:
            if self.settings.judge is None:
                yield panels.paragraph(words.NO_JUDGE)
            elif compared is None:
                yield panels.paragraph(words.SCORES_FIRST)
            else:
                yield working(words.SCORES_WORKING)
                judge = self.evidence.judge()
                if judge is not None:
                    yield panels.scores_panel(judge, *self.evidence.scores(judge, compared))
        except ArraMedError as error:
            yield problem_panel(shared.sentence(str(error)))
        except Exception as error:  # noqa: BLE001 - the app's edge
            yield problem_panel(_unexpected(error))

    def study(self) -> str:
        """Returns the study's panel."""
        if self.settings.study is None:
            return panels.paragraph(words.NO_STUDY)
        try:
            return panels.study_panel(read_finished_study(self.settings.study))
        except ArraMedError as error:
            return problem_panel(shared.sentence(str(error)))


def _unexpected(error: Exception) -> str:
    """Logs kind and place of an error, never its text or values: they may hold the report."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("comparison failed: %s\n%s", type(error).__name__, where)
    return words.UNEXPECTED
