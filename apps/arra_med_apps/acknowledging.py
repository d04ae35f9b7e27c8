"""The box that a credentialed model asks for before files leave: shown for such a model alone, and ticked anew for each."""

from typing import Any

import gradio as gr

from arra_med.models.licence import ACKNOWLEDGEMENT, CREDENTIALED
from arra_med.records.study import Modality
from arra_med_apps.choices import Shelf
from arra_med_apps.events import AT_ONCE
from arra_med_apps.model_radios import ModelRadios, taking_model


def acknowledgement_box(shelf: Shelf, elem_id: str) -> gr.Checkbox:
    """Returns the box for the model that the page shows first; made where it shall stand."""
    first = shelf.of_modality(shelf.modalities[0])[0]
    asks = first.licence_class == CREDENTIALED
    return gr.Checkbox(False, label=ACKNOWLEDGEMENT, visible=asks, elem_id=elem_id)


def follow_model(shelf: Shelf, box: gr.Checkbox, modality: gr.Radio, models: ModelRadios) -> None:
    """Has the box follow the model that is chosen."""

    def chosen(model: str, modality: Modality) -> Any:
        return asked_for(shelf, model, modality)

    gr.on(
        [component.change for component in (modality, *models.components)],
        taking_model(chosen),
        inputs_kwargs={"modality": modality, **models.inputs},
        outputs=box,
        **AT_ONCE,
    )


def asked_for(shelf: Shelf, model: str, modality: Modality) -> Any:
    """Returns an update of the box for a model."""
    return gr.Checkbox(visible=shelf.chosen(model, modality).licence_class == CREDENTIALED, value=False)
