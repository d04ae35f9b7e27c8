"""What happens when something is typed or pressed: the page's values in, the page's updates out.

Nothing here is logged but the kind and place of an unexpected error; a report or an error's own text never is.
"""

import datetime
import random
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from arra_med import __version__
from arra_med.errors import ArraMedError
from arra_med.generate.session import GenerationResult, ReportToImage, SamplingRules
from arra_med.records.report_parts import report_parts
from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.form import MAX_SEED, Form, prompt_of
from arra_med_apps.generate_tab import presenting
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.exporting import ExportForm, exported
from arra_med_apps.generate_tab.file_handlers import shown, shown_alone
from arra_med_apps.generate_tab.history import Run, earlier_gallery, remembered
from arra_med_apps.generate_tab.updates import only_live, told
from arra_med_apps.model_radios import shown_model
from arra_med_apps.report_input import switched_report

_ENGLISH = re.compile(
    r"\b(?:the|no|of|is|are|and|with|normal|view|chest|lungs?|heart|eye|left|right|mild|moderate|severe|effusion|pneumo\w+|"
    r"cardiomegaly|edema|atelectasis|consolidation|retinopathy|glaucoma|cataract|myopia|fundus|disease)\b",
    re.IGNORECASE,
)
_WORDS_TO_JUDGE = 4


class Handlers:
    """The page's event handlers."""

    def __init__(self, shelf: Shelf) -> None:
        """Keeps the models."""
        self.shelf = shelf

    def preview(self, model: str, report: str, **values: Any) -> str:
        """Returns what the report becomes, or how to begin."""
        if not (report or "").strip():
            return presenting.prompt_hint(words.PROMPT_WAITING)
        try:
            prompt = prompt_of(self.shelf, model, Form(report=report, **values))
            notices = (own_words.ENGLISH_ONLY,) if _is_foreign(report) else ()
            return presenting.prompt_panel(prompt, report_parts(report, prompt), notices)
        except ArraMedError as error:
            return presenting.prompt_hint(words.sentence(str(error)))

    def switch_modality(self, modality: Modality, report: str) -> tuple[Any, ...]:
        """Returns updates of report, view, eye, each radio of models and each row of examples, for another kind of image."""
        return (
            switched_report(modality, report),
            gr.Radio(visible=modality == "cxr", value=words.AS_REPORTED),
            gr.Radio(visible=modality == "fundus", value=words.AS_REPORTED),
            *shown_model(self.shelf, modality),
            *(gr.Row(visible=modality == other) for other in self.shelf.modalities),
        )

    def about(self, model: str, modality: Modality) -> str:
        """Returns what a model is and cannot do."""
        choice = self.shelf.chosen(model, modality)
        facts = {
            "Model": f"{choice.label}, {words.MODALITY_NAMES[choice.modality].lower()}",
            "Licence": words.LICENCE_CLASSES.get(choice.licence_class, choice.licence_class),
        }
        return presenting.model_panel(facts, choice.cautions, choice.label_counts)

    def restore(self, history: list[Run], chosen: gr.SelectData) -> tuple[Any, ...]:
        """Returns updates of notice and the form's inputs for an earlier run that was clicked."""
        run = history[chosen.index]
        form = run.form
        chest = form["modality"] == "cxr"
        return (
            presenting.note_panel(own_words.RESTORED),
            *shown_model(self.shelf, form["modality"], run.model),
            form["report"],
            form["modality"],
            gr.Radio(value=form["view"], visible=chest),
            gr.Radio(value=form["laterality"], visible=not chest),
            *(form[name] for name in ("age_group", "num_images", "seed", "guidance_scale", "temperature", "top_k")),
            *(gr.Row(visible=form["modality"] == other) for other in self.shelf.modalities),
        )

    def roll(self) -> int:
        """Returns a random seed."""
        return random.SystemRandom().randrange(MAX_SEED)

    def next_seed(self, seed: int | None, num_images: int) -> int:
        """Returns the seed after those of the images just made."""
        return min((int(seed) if seed is not None else 0) + int(num_images), MAX_SEED)

    def start(self, num_images: int) -> tuple[Any, ...]:
        """Returns updates of notice, live panel, finished column, Generate and Stop, before the run begins."""
        text = words.WAITING if self.shelf.generating.locked() else words.STARTING
        return (
            "",
            presenting.waiting_panel(text, int(num_images)),
            gr.Column(visible=False),
            gr.Button(interactive=False),
            gr.Button(interactive=True),
        )

    def finish(self) -> tuple[Any, ...]:
        """Returns updates of Generate and Stop once a run has ended, however it ended."""
        return gr.Button(interactive=True), gr.Button(interactive=False)

    def stop(self) -> tuple[Any, ...]:
        """Returns updates of notice, Generate and Stop; Gradio cancels the run, the half-made picture stays."""
        return (presenting.note_panel(words.STOPPED), *self.finish())

    def generate(
        self,
        model: str,
        history: list[Run] | None = None,
        export: Sequence[Any] = (),
        user: str = "",
        **values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Yields updates of the results while the images form, then the finished ones.

        An error becomes one sentence in the page.

        Args:
            model: Name of the choice.
            history: Earlier runs of the session, the last one first.
            export: Values of an `ExportForm`.
            user: Whose run it is.
            values: Values of a `Form`.
        """
        yield from told(self._generate(model, history or [], ExportForm(*export), user, values))

    def _generate(
        self, model: str, history: list[Run], export: ExportForm, user: str, values: dict[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        form = Form(**values)
        request = form.request()  # a mistake in the form is told before the model is opened
        choice, num_images = self.shelf.chosen(model, form.modality), request.num_images
        with self.shelf.run(user, num_images) as run:
            if self.shelf.opened(choice.name) is None:
                yield only_live(presenting.waiting_panel(words.LOADING, num_images))
            session = self.shelf.open(choice.name)
            for place in run.places():
                yield only_live(presenting.waiting_panel(place, num_images))
            yield only_live(presenting.waiting_panel(words.STARTING, num_images))
            began = time.monotonic()
            for update in run.watched(session.stream(request)):
                spent = time.monotonic() - began
                if update.result is not None:
                    made = Run(choice.name, values, update.result)
                    yield from _finished(choice, session, made, export, history, spent)
                elif update.images is not None:
                    left = spent * (1 - update.progress) / update.progress if update.progress > 0 else None
                    yield only_live(presenting.forming_panel(update.images, update.progress, left))


def _finished(
    choice: ModelChoice, session: ReportToImage, run: Run, export: ExportForm, history: list[Run], seconds: float
) -> Iterator[tuple[Any, ...]]:
    count = len(run.result.images)
    kept = remembered(history, run)
    made = (presenting.done_line(count, seconds), gr.Column(visible=True))
    settings = presenting.settings_panel(settings_in_words(choice, session, run.result))
    said = (settings, run, kept, earlier_gallery(kept))
    try:
        # Gradio copies what it shows into its own private cache, so these files go when the page has them.
        with exported(run.result, choice.licence_class, export) as files:
            yield ("", *made, *shown(run.result, files), *said)
    except ArraMedError as error:  # the images are there all the same
        problem = presenting.problem_panel(words.sentence(str(error)))
        yield (problem, *made, shown_alone(run.result), gr.DownloadButton(value=None), None, *said)


def _is_foreign(report: str) -> bool:
    return len(report.split()) >= _WORDS_TO_JUDGE and not _ENGLISH.search(report)


def settings_in_words(choice: ModelChoice, session: ReportToImage, result: GenerationResult) -> dict[str, str]:
    """Returns what made the images, as a person would say it."""
    request = result.request
    last = request.seed + len(result.images) - 1
    seeds = str(request.seed) if last == request.seed else f"{request.seed} to {last}"
    return {"Prompt": result.prompt.text, "Seeds": seeds, **rules_in_words(choice, session, request.rules)}


def rules_in_words(choice: ModelChoice, session: ReportToImage, rules: SamplingRules) -> dict[str, str]:
    """Returns the part of it that is common to all reports."""
    name = session.bundle.info.name + ("" if choice.label == session.bundle.info.name else f" ({choice.label})")
    drawn_from = f"the {rules.top_k} likeliest" if rules.top_k else "all"
    size_px = session.bundle.spec.size_px
    return {
        "Model": f"{name}, fingerprint {session.bundle.fingerprint[:12]}",
        "Guidance": "off" if rules.guidance_scale == 1 else f"{rules.guidance_scale:g}",
        "Sampling": f"temperature {rules.temperature:g}, from {drawn_from} image tokens at each step",
        "Size": f"{size_px} × {size_px} pixels",
        "Software": f"ARRA-Med {__version__}, {datetime.date.today().isoformat()}",
    }
