"""The components of the page and where they stand; no behaviour."""

import gradio as gr

from arra_med.generate.destinations import destination_names, list_path
from arra_med.records.study import Modality
from arra_med_apps import words
from arra_med_apps.acknowledging import acknowledgement_box
from arra_med_apps.choices import Shelf
from arra_med_apps.form import MAX_IMAGES
from arra_med_apps.generate_tab import presenting
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.generate_tab.file_handlers import GALLERY_BUTTONS
from arra_med_apps.model_radios import ModelRadios
from arra_med_apps.report_input import example_rows, offered_modalities, report_box

_KEPT_S = 3600


class Layout:
    """Every component that an event reads or changes. Made inside the tab."""

    def __init__(self, shelf: Shelf) -> None:
        first = shelf.modalities[0]
        with gr.Row(elem_id="am-columns", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_classes="am-panel"):
                self._describe(shelf, first)
                with gr.Row(elem_id="am-actions"):
                    self.generate = gr.Button("Generate", variant="primary", elem_id="am-generate")
                    self.stop = gr.Button("Stop", interactive=False, elem_id="am-stop")
                self._advanced(shelf)
            with gr.Column(scale=7, min_width=320, elem_classes="am-panel", elem_id="am-results"):
                self._results(shelf)

    def _describe(self, shelf: Shelf, first: Modality) -> None:
        offered = offered_modalities(shelf)
        self.modality = gr.Radio(
            offered, value=first, label="Image", visible=len(offered) > 1, elem_id="am-modality", container=False
        )
        self.report = report_box(words.REPORT_LABEL, words.REPORT_PLACEHOLDER[first], 5, 14, "am-report")
        self.examples, self.example_rows = example_rows(shelf)
        self.upload = gr.UploadButton(
            own_words.LOAD_FILE, file_types=own_words.FILE_TYPES, size="sm", elem_id="am-upload"
        )
        self.reports = gr.State([], time_to_live=_KEPT_S)
        self.picker = gr.Slider(
            1, 2, 1, step=1, label=own_words.REPORT_PICKER, visible=False, elem_id="am-picker", buttons=[]
        )
        self._table()
        self.prompt = gr.HTML(presenting.prompt_hint(words.PROMPT_WAITING), elem_id="am-prompt")
        with gr.Row(elem_id="am-facts"):
            chest, at_first = first == "cxr", words.AS_REPORTED
            self.view = gr.Radio(words.VIEWS, value=at_first, label="View", visible=chest, elem_id="am-view")
            self.laterality = gr.Radio(words.EYES, value=at_first, label="Eye", visible=not chest, elem_id="am-eye")
            self.age_group = gr.Radio(words.AGE_GROUPS, value=at_first, label="Patient", elem_id="am-age")
        self.num_images = _slider("Number of images", (1, MAX_IMAGES, 1), 2)

    def _table(self) -> None:
        self.table = gr.State(None, time_to_live=_KEPT_S)
        with gr.Column(visible=False, elem_id="am-table") as self.table_box:
            self.table_told = gr.HTML(elem_id="am-table-told")
            with gr.Row(elem_classes="am-actions"):
                self.table_draw = gr.Button("Draw all", elem_id="am-table-draw")
                self.table_stop = gr.Button(own_words.TABLE_STOP, interactive=False, elem_id="am-table-stop")

    def _advanced(self, shelf: Shelf) -> None:
        with gr.Accordion("Advanced", open=False, elem_id="am-advanced"):
            self.models = ModelRadios(shelf, "am-model")
            with gr.Row(elem_id="am-seed-row"):
                self.seed = gr.Number(0, label="Seed", info=words.SEED_HINT, precision=0, elem_id="am-seed", buttons=[])
                self.dice = gr.Button("Random seed", size="md", elem_id="am-dice")
            self.guidance_scale = _slider("Guidance", (1, 10, 0.5), 3, words.GUIDANCE_HINT)
            self.temperature = _slider("Temperature", (0.1, 2, 0.05), 1, words.TEMPERATURE_HINT)
            self.top_k = _slider("Top-k", (0, 1000, 10), 0, words.TOP_K_HINT)
        with gr.Accordion("About this model", open=False, elem_id="am-about"):
            self.about = gr.HTML()

    def _results(self, shelf: Shelf) -> None:
        self.notice = gr.HTML(elem_id="am-notice")
        self.live = gr.HTML(presenting.empty_panel(), elem_id="am-live")
        with gr.Column(visible=False) as self.finished:
            self.gallery = gr.Gallery(
                show_label=False,
                columns=2,
                object_fit="contain",
                height="auto",
                interactive=False,
                buttons=GALLERY_BUTTONS,
                elem_id="am-gallery",
            )
            with gr.Row(elem_id="am-tools"):
                self.archive = gr.DownloadButton("Download all (.zip)", size="md", elem_id="am-zip", min_width=150)
                self.more = gr.Button("Next seeds", size="md", elem_id="am-more", min_width=110)
                self.scaling = gr.Radio(
                    words.SCALINGS, value=words.SCALINGS[0], show_label=False, container=False, elem_id="am-scaling"
                )
            gr.HTML(presenting.window_panel(), elem_id="am-window")
            with gr.Accordion("Settings used", open=True, elem_id="am-settings"):
                self.settings = gr.HTML()
            self._files(shelf)
        self.last = gr.State(None, time_to_live=_KEPT_S)
        self.history = gr.State([], time_to_live=_KEPT_S)
        with gr.Accordion(own_words.HISTORY, open=False, elem_id="am-history"):
            gr.HTML(f'<p class="am-muted">{own_words.HISTORY_HINT}</p>')
            self.earlier = gr.Gallery(
                show_label=False, columns=6, height="auto", allow_preview=False, interactive=False, format="png",
                buttons=[], visible=False, elem_id="am-earlier",
            )  # fmt: skip

    def _files(self, shelf: Shelf) -> None:
        with gr.Accordion("Files to take away", open=False, elem_id="am-files"):
            self.formats = gr.CheckboxGroup(own_words.FORMATS, value=["png"], label="Formats", elem_id="am-formats")
            self.visible_mark = gr.Checkbox(True, label=own_words.VISIBLE_MARK, elem_id="am-mark")
            self.keep_report = gr.Checkbox(False, label=own_words.KEEP_REPORT, elem_id="am-keep-report")
            self.acknowledged = acknowledgement_box(shelf, "am-acknowledged")
            self.files = gr.File(file_count="multiple", show_label=False, container=False, interactive=False)
            names = destination_names(list_path())
            with gr.Group(visible=bool(names)):
                self.destination = gr.Dropdown(names, label=own_words.SEND, elem_id="am-destination")
                self.confirmed = gr.Checkbox(False, label=own_words.SEND_CONFIRM, elem_id="am-confirmed")
                self.send = gr.Button("Send", size="md", elem_id="am-send")

    @property
    def export(self) -> list[gr.components.Component]:
        """The components that fill an `ExportForm`, in its order."""
        return [self.formats, self.visible_mark, self.keep_report, self.acknowledged]

    @property
    def inputs(self) -> dict[str, gr.components.Component]:
        """The components that fill a `Form`, and those of the model, by parameter name."""
        return {
            **self.models.inputs,
            "report": self.report,
            "modality": self.modality,
            "view": self.view,
            "laterality": self.laterality,
            "age_group": self.age_group,
            "num_images": self.num_images,
            "seed": self.seed,
            "guidance_scale": self.guidance_scale,
            "temperature": self.temperature,
            "top_k": self.top_k,
        }


def _slider(label: str, limits: tuple[float, float, float], value: float, info: str | None = None) -> gr.Slider:
    low, high, step = limits
    name = f"am-{label.lower().replace(' ', '-')}"
    return gr.Slider(low, high, value=value, step=step, label=label, info=info, elem_id=name, buttons=[])
