"""The components of the tab and where they stand; no behaviour."""

import gradio as gr

from arra_med.records.study import Modality
from arra_med_apps import words as shared
from arra_med_apps.choices import Shelf
from arra_med_apps.compare_tab import words
from arra_med_apps.compare_tab.form import MAX_SEEDS, in_order
from arra_med_apps.compare_tab.grid import empty_grid
from arra_med_apps.compare_tab.panels import paragraph
from arra_med_apps.report_input import example_rows, offered_modalities, report_box
from arra_med_apps.settings import AppSettings

_KEPT_S = 3600


class Layout:
    """Every component that an event reads or changes. Made inside the tab."""

    def __init__(self, shelf: Shelf, settings: AppSettings) -> None:
        first = shelf.modalities[0]
        self.compared = gr.State(None, time_to_live=_KEPT_S)
        with gr.Row(elem_classes="am-cmp-columns", equal_height=False):
            with gr.Column(scale=4, min_width=300, elem_classes="am-panel"):
                self._describe(shelf, first)
            with gr.Column(scale=8, min_width=320, elem_classes="am-panel", elem_id="am-cmp-results"):
                self.notice = gr.HTML(elem_id="am-cmp-notice")
                self.grid = gr.HTML(empty_grid(), elem_id="am-cmp-grid")
        with gr.Column(elem_classes="am-panel am-cmp-section"):
            gr.HTML(f"<h3>{words.NEAREST_TITLE}</h3>")
            with gr.Row(elem_classes="am-cmp-actions"):
                label = words.NEAREST_CHECK if settings.training is None else words.NEAREST_FIND
                self.find = gr.Button(label, interactive=False, elem_id="am-cmp-find")
                self.stop_finding = gr.Button(words.STOP, interactive=False, elem_id="am-cmp-stop-find")
            first_words = paragraph(words.NEAREST_FIRST)
            self.nearest = gr.HTML(
                first_words if settings.training is not None else first_words + paragraph(words.NO_TRAINING),
                elem_id="am-cmp-nearest",
            )
        with gr.Column(elem_classes="am-panel am-cmp-section"):
            gr.HTML(f"<h3>{words.SCORES_TITLE}</h3>")
            told = words.NO_JUDGE if settings.judge is None else words.SCORES_FIRST
            self.scores = gr.HTML(paragraph(told), elem_id="am-cmp-scores")
        with gr.Column(elem_classes="am-panel am-cmp-section"):
            gr.HTML(f"<h3>{words.STUDY_TITLE}</h3>")
            self.study = gr.HTML(paragraph(words.NO_STUDY), elem_id="am-cmp-study")

    def _describe(self, shelf: Shelf, first: Modality) -> None:
        gr.HTML(f"<h3>{words.GRID_TITLE}</h3>")
        offered = offered_modalities(shelf)
        self.modality = gr.Radio(
            offered, value=first, label="Image", visible=len(offered) > 1, elem_id="am-cmp-modality", container=False
        )
        self.report = report_box(shared.REPORT_LABEL, shared.REPORT_PLACEHOLDER[first], 4, 12, "am-cmp-report")
        self.examples, self.example_rows = example_rows(shelf)
        models = in_order(shelf.of_modality(first))
        self.models = gr.CheckboxGroup(
            [(choice.label, choice.name) for choice in models],
            value=[choice.name for choice in models],
            label=words.MODELS_LABEL,
            elem_id="am-cmp-models",
        )
        self.num_seeds = gr.Slider(
            1, MAX_SEEDS, value=4, step=1, label=words.SEEDS_LABEL, elem_id="am-cmp-seeds", buttons=[]
        )
        self.seed = gr.Number(0, label=words.SEED_LABEL, precision=0, elem_id="am-cmp-seed", buttons=[])
        with gr.Row(elem_classes="am-cmp-actions"):
            self.compare = gr.Button(words.COMPARE, variant="primary", elem_id="am-cmp-go")
            self.stop = gr.Button(words.STOP, interactive=False, elem_id="am-cmp-stop")
        with gr.Accordion("Advanced", open=False, elem_id="am-cmp-advanced"):
            self.guidance_scale = gr.Slider(
                1, 10, value=3, step=0.5, label="Guidance", info=shared.GUIDANCE_HINT, buttons=[]
            )
            self.temperature = gr.Slider(
                0.1, 2, value=1, step=0.05, label="Temperature", info=shared.TEMPERATURE_HINT, buttons=[]
            )
