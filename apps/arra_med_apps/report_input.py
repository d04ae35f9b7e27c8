"""The report that several tabs ask for: its box, the examples below it, and what becomes of both for another kind of image."""

import gradio as gr

from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.form import MAX_REPORT_CHARS


def report_box(label: str, placeholder: str, lines: int, max_lines: int, elem_id: str) -> gr.Textbox:
    """Makes a box for a report where it shall stand."""
    return gr.Textbox(
        label=label,
        placeholder=placeholder,
        lines=lines,
        max_lines=max_lines,
        max_length=MAX_REPORT_CHARS,
        elem_id=elem_id,
        # A browser's cloud spelling help would send the report away.
        html_attributes=gr.InputHTMLAttributes(spellcheck=False, autocorrect="off", autocomplete="off"),
    )


def offered_modalities(shelf: Shelf) -> list[tuple[str, Modality]]:
    """Returns label and value of each kind of image for which there is a model."""
    return [(label, value) for label, value in words.MODALITIES if value in shelf.modalities]


def example_rows(shelf: Shelf) -> tuple[list[tuple[gr.Button, words.Example]], dict[Modality, gr.Row]]:
    """Makes a row of example reports for each kind of image, of which the first is shown; the buttons, and the rows."""
    buttons: list[tuple[gr.Button, words.Example]] = []
    rows: dict[Modality, gr.Row] = {}
    for _, modality in offered_modalities(shelf):
        with gr.Row(elem_classes="am-chips", visible=modality == shelf.modalities[0]) as row:
            for example in words.EXAMPLES:
                if example.modality == modality:
                    buttons.append((gr.Button(example.name, size="sm", min_width=0), example))
        rows[modality] = row
    return buttons, rows


def switched_report(modality: Modality, report: str) -> gr.Textbox:
    """Returns an update of the box for another kind of image, which drops an example of the other kind alone."""
    stale = any(e.report == report and e.modality != modality for e in words.EXAMPLES)
    return gr.Textbox(value="" if stale else report, placeholder=words.REPORT_PLACEHOLDER[modality])
