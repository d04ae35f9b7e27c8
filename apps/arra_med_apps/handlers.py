"""What happens when something is typed or pressed: the page's values in, the page's updates out.

Nothing here is logged but the kind and place of an unexpected error; a report or an error's own text never is.
"""

import datetime
import logging
import random
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from arra_med import __version__
from arra_med.errors import ArraMedError
from arra_med.generate.content_credentials import configured_signer
from arra_med.generate.export import save_images
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.records.study import Modality
from arra_med_apps import presenting, words
from arra_med_apps.choices import ModelChoice, Shelf
from arra_med_apps.form import MAX_SEED, Form

_LOG = logging.getLogger(__name__)
_GALLERY_COLUMNS = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4}

RESULT_OUTPUTS = 7
"""Number of updates that `generate` yields: notice, live panel, finished column, gallery, zip, files, settings."""


class Handlers:
    """The page's event handlers."""

    def __init__(self, shelf: Shelf) -> None:
        """Keeps the models."""
        self.shelf = shelf

    def preview(self, model: str, report: str, **values: Any) -> str:
        """Returns what the report becomes, or how to begin."""
        if not (report or "").strip():
            return presenting.prompt_hint(words.PROMPT_WAITING)
        choice = self._choice(model, values["modality"])
        session = self.shelf.opened(choice.name)
        if session is None:
            self.shelf.open_soon(choice.name)
        try:
            return presenting.prompt_panel(Form(report=report, **values).prompt(session))
        except ArraMedError as error:
            return presenting.prompt_hint(words.sentence(str(error)))

    def switch_modality(self, modality: Modality, report: str) -> tuple[Any, ...]:
        """Returns updates of report, view, eye, model and each row of examples, for another kind of image."""
        stale = any(e.report == report and e.modality != modality for e in words.EXAMPLES)
        models = self.shelf.of_modality(modality)
        return (
            gr.Textbox(value="" if stale else report, placeholder=words.REPORT_PLACEHOLDER[modality]),
            gr.Radio(visible=modality == "cxr", value=words.AS_REPORTED),
            gr.Radio(visible=modality == "fundus", value=words.AS_REPORTED),
            gr.Radio(choices=[(choice.label, choice.name) for choice in models], value=models[0].name),
            *(gr.Row(visible=modality == other) for other in self.shelf.modalities),
        )

    def about(self, model: str, modality: Modality) -> str:
        """Returns what a model is and cannot do."""
        choice = self._choice(model, modality)
        facts = {
            "Model": f"{choice.label}, {words.MODALITY_NAMES[choice.modality].lower()}",
            "Licence": words.LICENCE_CLASSES.get(choice.licence_class, choice.licence_class),
        }
        return presenting.model_panel(facts, choice.cautions, choice.label_counts)

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

    def generate(self, model: str, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yields updates of the results while the images form, then the finished ones.

        An error becomes one sentence in the page.
        """
        try:
            form = Form(**values)
            form.request()  # a mistake in the form is told before the model is opened
            yield from self._generate(self._choice(model, form.modality), form)
        except ArraMedError as error:
            yield _problem(words.sentence(str(error)))
        except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
            # Neither the error's text nor its values: they may hold the report.
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("generation failed: %s\n%s", type(error).__name__, where)
            yield _problem(words.UNEXPECTED)

    def _generate(self, choice: ModelChoice, form: Form) -> Iterator[tuple[Any, ...]]:
        if self.shelf.opened(choice.name) is None:
            yield _only_live(presenting.waiting_panel(words.LOADING, int(form.num_images)))
        session = self.shelf.open(choice.name)
        with self.shelf.generating:
            yield _only_live(presenting.waiting_panel(words.STARTING, int(form.num_images)))
            began = time.monotonic()
            for update in session.stream(form.request()):
                spent = time.monotonic() - began
                if update.result is not None:
                    yield from _finished(choice, session, update.result, spent)
                elif update.images is not None:
                    left = spent * (1 - update.progress) / update.progress if update.progress > 0 else None
                    yield _only_live(presenting.forming_panel(update.images, update.progress, left))

    def _choice(self, model: str, modality: Modality) -> ModelChoice:
        # While the user switches, the radio may still hold a model of the other modality.
        choice = self.shelf.choices.get(model)
        return choice if choice is not None and choice.modality == modality else self.shelf.of_modality(modality)[0]


def _only_live(live: str) -> tuple[Any, ...]:
    return (gr.skip(), live, *(gr.skip() for _ in range(RESULT_OUTPUTS - 2)))


def _problem(text: str) -> tuple[Any, ...]:
    return (presenting.problem_panel(text), presenting.empty_panel(), *(gr.skip() for _ in range(RESULT_OUTPUTS - 2)))


def _finished(
    choice: ModelChoice, session: ReportToImage, result: GenerationResult, seconds: float
) -> Iterator[tuple[Any, ...]]:
    count = len(result.images)
    # Gradio copies what it shows into its own private cache, so these files go when the page has them.
    with tempfile.TemporaryDirectory(prefix="arra-med-") as folder:
        files = save_images(result, Path(folder), signer=configured_signer())
        archive = Path(folder) / f"arra-med_{result.request.modality}_seed{result.request.seed}_{count}.zip"
        presenting.write_archive(files, archive, words.BANNER)
        pictures = [file for file in files if file.suffix == ".png"]
        yield (
            "",
            presenting.done_line(count, seconds),
            gr.Column(visible=True),
            gr.Gallery(
                [(str(file), f"Synthetic, seed {result.seed(i)}") for i, file in enumerate(pictures)],
                columns=_GALLERY_COLUMNS[count],
            ),
            gr.DownloadButton(value=str(archive)),
            [str(file) for file in files],
            presenting.settings_panel(settings_in_words(choice, session, result)),
        )


def settings_in_words(choice: ModelChoice, session: ReportToImage, result: GenerationResult) -> dict[str, str]:
    """Returns what made the images, as a person would say it."""
    request, rules = result.request, result.request.rules
    last = request.seed + len(result.images) - 1
    height, width = result.images.shape[1:3]
    name = session.bundle.info.name + ("" if choice.label == session.bundle.info.name else f" ({choice.label})")
    drawn_from = f"the {rules.top_k} likeliest" if rules.top_k else "all"
    return {
        "Prompt": result.prompt.text,
        "Model": f"{name}, fingerprint {session.bundle.fingerprint[:12]}",
        "Seeds": str(request.seed) if last == request.seed else f"{request.seed} to {last}",
        "Guidance": "off" if rules.guidance_scale == 1 else f"{rules.guidance_scale:g}",
        "Sampling": f"temperature {rules.temperature:g}, from {drawn_from} image tokens at each step",
        "Size": f"{width} × {height} pixels",
        "Software": f"ARRA-Med {__version__}, {datetime.date.today().isoformat()}",
    }
