"""Which model is chosen: one radio for each kind of image, of which the page shows one.

Their choices never change, so an event that is sent while the kind of image is being switched still holds a value that
the server knows.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from arra_med.records.study import Modality
from arra_med_apps.choices import Shelf

_PREFIX = "model_"


class ModelRadios:
    """The radios; made where they shall stand.

    Args:
        shelf: The models; its first modality is shown.
        elem_id: Of the column that holds them.
    """

    def __init__(self, shelf: Shelf, elem_id: str) -> None:
        self.by_modality: dict[Modality, gr.Radio] = {}
        with gr.Column(elem_id=elem_id, min_width=0):
            for modality in shelf.modalities:
                models = shelf.of_modality(modality)
                self.by_modality[modality] = gr.Radio(
                    [(choice.label, choice.name) for choice in models],
                    value=models[0].name,
                    label="Model",
                    visible=modality == shelf.modalities[0],
                )

    @property
    def components(self) -> list[gr.Radio]:
        """The radios, in the order of the shelf's modalities."""
        return list(self.by_modality.values())

    @property
    def inputs(self) -> dict[str, gr.components.Component]:
        """The radios by the names that `with_model` takes."""
        return {f"{_PREFIX}{modality}": radio for modality, radio in self.by_modality.items()}


def with_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a form, `modality` among them, with one `model` in place of each radio's."""
    others = {name: value for name, value in values.items() if not name.startswith(_PREFIX)}
    return {"model": values.get(f"{_PREFIX}{values['modality']}"), **others}


def taking_model(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a handler of the components' values for one that takes `model`; of a generator, a generator."""

    def handle(**values: Any) -> Any:
        return handler(**with_model(values))

    def stream(**values: Any) -> Iterator[Any]:
        yield from handler(**with_model(values))

    return stream if inspect.isgeneratorfunction(handler) else handle


def shown_model(shelf: Shelf, modality: Modality, model: str | None = None) -> list[gr.Radio]:
    """Returns updates of the radios that show the one of a modality, with `model` chosen where one is given."""
    chosen = {} if model is None else {"value": model}
    return [
        gr.Radio(visible=True, **chosen) if other == modality else gr.Radio(visible=False) for other in shelf.modalities
    ]
