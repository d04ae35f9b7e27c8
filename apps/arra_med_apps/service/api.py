"""The one endpoint for programs: a report becomes files, through `gradio_client`."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from arra_med.errors import ArraMedError
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.events import user_of
from arra_med_apps.form import MAX_IMAGES, Form
from arra_med_apps.generate_tab.exporting import ExportForm, exported

API_NAME = "draw"


def add_api(shelf: Shelf) -> None:
    """Adds the endpoint `/draw`; nothing of it is on the page.

    Inputs are the report, the modality (`cxr` or `fundus`), the seed and the number of images; outputs the files and the
    record of the first image.
    """

    def generate(
        request: gr.Request, report: str, modality: str, seed: int, num_images: int
    ) -> Iterator[tuple[list[str], dict[str, Any]]]:
        user, stated = user_of(request), words.AS_REPORTED
        shelf.sessions.is_programs(str(request.session_hash))
        try:
            if modality not in shelf.modalities:
                raise gr.Error(f"modality must be one of {', '.join(shelf.modalities)}", print_exception=False)
            if not 1 <= int(num_images) <= MAX_IMAGES:
                raise gr.Error(f"num_images must be 1 to {MAX_IMAGES}", print_exception=False)
            form = Form(report, modality, stated, stated, stated, int(num_images), int(seed), 3.0, 1.0, 0)
            asked, choice = form.request(), shelf.of_modality(modality)[0]
            with shelf.run(user, asked.num_images) as run:
                session = shelf.open(choice.name)
                for _ in run.places():
                    pass  # a program reads the first answer alone, so none tells the place
                updates = run.watched(session.stream(asked, partial_images=False))
                result = next(update.result for update in updates if update.result is not None)
            with exported(result, choice.licence_class, ExportForm()) as made:
                record = json.loads(next(file for file in made.files if file.suffix == ".json").read_text())
                yield [str(file) for file in made.files], record
        except ArraMedError as error:
            raise gr.Error(words.sentence(str(error)), print_exception=False) from None

    with gr.Row(visible=False):
        report, modality = gr.Textbox(label="report"), gr.Textbox("cxr", label="modality")
        seed, num_images = gr.Number(0, precision=0, label="seed"), gr.Number(1, precision=0, label="num_images")
        files, record = gr.File(file_count="multiple", label="files"), gr.JSON(label="record")
        button = gr.Button("API")
    button.click(
        generate,
        [report, modality, seed, num_images],
        [files, record],
        api_name=API_NAME,
        concurrency_limit=None,  # the shelf has the line
        concurrency_id="line",
    )
