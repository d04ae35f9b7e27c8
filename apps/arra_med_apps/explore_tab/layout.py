"""The components of the tab and where they stand; no behaviour."""

from typing import NamedTuple

import gradio as gr

from arra_med_apps import words as page_words
from arra_med_apps.acknowledging import acknowledgement_box
from arra_med_apps.choices import Shelf
from arra_med_apps.explore_tab import presenting, words
from arra_med_apps.model_radios import ModelRadios
from arra_med_apps.report_input import offered_modalities, report_box

MAX_PAIRS, MAX_TRIES, MIN_MEASURED, MAX_MEASURED = 4, 8, 4, 16


class Tool(NamedTuple):
    """What each of the three tools has: its buttons, what it shows, and its files."""

    run: gr.Button
    stop: gr.Button
    shown: gr.HTML
    files: gr.DownloadButton


class Layout:
    """Every component that an event reads or changes. Made inside the tab."""

    def __init__(self, shelf: Shelf) -> None:
        with gr.Row(elem_classes="am-columns", equal_height=False):
            with gr.Column(scale=4, min_width=300, elem_classes="am-panel"):
                self._common(shelf)
            with gr.Column(scale=8, min_width=300, elem_classes="am-panel"), gr.Tabs(elem_id="am-explore-tools"):
                with gr.Tab(words.PAIR_TAB, id="pair"):
                    self._pair()
                with gr.Tab(words.EDIT_TAB, id="edit"):
                    self._edit()
                with gr.Tab(words.EXPLAIN_TAB, id="explain"):
                    self._explain()

    def _common(self, shelf: Shelf) -> None:
        first = shelf.modalities[0]
        offered = offered_modalities(shelf)
        self.modality = gr.Radio(
            offered, value=first, label="Image", visible=len(offered) > 1, elem_id="am-explore-modality"
        )
        self.report = report_box(
            page_words.REPORT_LABEL, page_words.REPORT_PLACEHOLDER[first], 5, 12, "am-explore-report"
        )
        self.prompt = gr.HTML(presenting.prompt_hint(page_words.PROMPT_WAITING), elem_id="am-explore-prompt")
        self.models = ModelRadios(shelf, "am-explore-model")
        self.seed = gr.Number(0, label="Seed", precision=0, elem_id="am-explore-seed", buttons=[])
        self.guidance_scale = gr.Slider(
            1, 10, value=3, step=0.5, label="Guidance", info=page_words.GUIDANCE_HINT, buttons=[]
        )
        self.acknowledged = acknowledgement_box(shelf, "am-explore-acknowledged")

    def _pair(self) -> None:
        gr.HTML(presenting.help_text(words.PAIR_HELP))
        self.edited_report = report_box(words.PAIR_LABEL, words.PAIR_PLACEHOLDER, 3, 12, "am-explore-edited")
        self.num_pairs = gr.Slider(1, MAX_PAIRS, value=1, step=1, label=words.PAIR_COUNT, buttons=[])
        self.pair = _tool("pair", words.PAIR_RUN, words.PAIR_EMPTY)

    def _edit(self) -> None:
        gr.HTML(presenting.help_text(words.EDIT_HELP))
        self.original, self.cells = gr.State(None), gr.State(frozenset())
        with gr.Row(elem_classes="am-actions"):
            self.draw = gr.Button(words.DRAW_ORIGINAL, elem_id="am-explore-draw")
            self.open = gr.UploadButton(
                words.OPEN_ORIGINAL, file_types=[".png", ".jpg", ".jpeg", ".dcm"], elem_id="am-explore-open"
            )
        self.original_notice = gr.HTML(presenting.help_text(words.ORIGINAL_EMPTY), elem_id="am-explore-original-notice")
        with gr.Row(visible=False, elem_id="am-explore-region", equal_height=False) as self.region:
            with gr.Column(scale=5, min_width=240):
                self.picture = gr.Image(
                    label=words.PICTURE,
                    alt_text=words.PICTURE,  # also the name of the button that the picture is
                    show_label=False,
                    type="numpy",
                    format="png",
                    interactive=False,
                    buttons=[],
                    elem_id="am-explore-picture",
                )
            with gr.Column(scale=5, min_width=220):
                gr.HTML(presenting.help_text(words.REGION_HELP))
                self.box = [
                    gr.Slider(low, 100, value=value, step=1, label=label, buttons=[])
                    for label, value, low in (
                        (words.LEFT, 10, 0),
                        (words.TOP, 50, 0),
                        (words.WIDTH, 35, 1),
                        (words.HEIGHT, 35, 1),
                    )
                ]
        self.new_report = report_box(words.NEW_LABEL, "", 2, 12, "am-explore-new")
        with gr.Row():
            self.tries = gr.Slider(1, MAX_TRIES, value=4, step=1, label=words.TRIES, buttons=[])
            self.keep_outside = gr.Checkbox(True, label=words.KEEP, elem_id="am-explore-keep")
        self.edit = _tool("edit", words.EDIT_RUN, words.EDIT_EMPTY)

    def _explain(self) -> None:
        gr.HTML(presenting.help_text(words.EXPLAIN_HELP))
        self.num_measured = gr.Slider(
            MIN_MEASURED, MAX_MEASURED, value=8, step=1, label=words.EXPLAIN_COUNT, buttons=[]
        )
        self.explain = _tool("explain", words.EXPLAIN_RUN, words.EXPLAIN_EMPTY)

    @property
    def common(self) -> dict[str, gr.components.Component]:
        """The components that all three tools read, by parameter name."""
        return {
            **self.models.inputs,
            "report": self.report,
            "modality": self.modality,
            "seed": self.seed,
            "guidance_scale": self.guidance_scale,
            "acknowledged": self.acknowledged,
        }


def _tool(name: str, run: str, empty: str) -> Tool:
    with gr.Row(elem_classes="am-actions"):
        pressed = gr.Button(run, variant="primary", elem_id=f"am-explore-{name}", elem_classes="am-run")
        stop = gr.Button("Stop", interactive=False, elem_id=f"am-explore-{name}-stop", elem_classes="am-stop")
    shown = gr.HTML(presenting.help_text(empty), elem_id=f"am-explore-{name}-shown")
    files = gr.DownloadButton(words.DOWNLOAD, visible=False, size="md", elem_id=f"am-explore-{name}-files")
    return Tool(pressed, stop, shown, files)
