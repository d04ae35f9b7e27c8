"""The components of the page and where they stand; no behaviour."""

import gradio as gr

from arra_med.records.study import Modality
from arra_med_apps import presenting, words
from arra_med_apps.choices import Shelf
from arra_med_apps.form import MAX_IMAGES, MAX_REPORT_CHARS


class Layout:
    """Every component that an event reads or changes. Made inside a `gr.Blocks` context."""

    def __init__(self, shelf: Shelf) -> None:
        first = shelf.modalities[0]
        gr.HTML(
            f'<header class="am-header"><h1>{words.TITLE}</h1><span>{words.SUBTITLE}</span>'
            f'<div class="am-banner" role="note">{words.BANNER}</div></header>'
        )
        with gr.Row(elem_id="am-columns", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_classes="am-panel"):
                self._describe(shelf, first)
                with gr.Row(elem_id="am-actions"):
                    self.generate = gr.Button("Generate", variant="primary", elem_id="am-generate")
                    self.stop = gr.Button("Stop", interactive=False, elem_id="am-stop")
                self._advanced(shelf, first)
            with gr.Column(scale=7, min_width=320, elem_classes="am-panel", elem_id="am-results"):
                self._results()

    def _describe(self, shelf: Shelf, first: Modality) -> None:
        offered = [(label, value) for label, value in words.MODALITIES if value in shelf.modalities]
        self.modality = gr.Radio(
            offered, value=first, label="Image", visible=len(offered) > 1, elem_id="am-modality", container=False
        )
        self.report = gr.Textbox(
            label=words.REPORT_LABEL,
            placeholder=words.REPORT_PLACEHOLDER[first],
            lines=5,
            max_lines=14,
            max_length=MAX_REPORT_CHARS,
            elem_id="am-report",
            # A browser's cloud spelling help would send the report away.
            html_attributes=gr.InputHTMLAttributes(spellcheck=False, autocorrect="off", autocomplete="off"),
        )
        self.examples: list[tuple[gr.Button, words.Example]] = []
        self.example_rows: dict[Modality, gr.Row] = {}
        for _, modality in offered:
            with gr.Row(elem_classes="am-chips", visible=modality == first) as row:
                for example in words.EXAMPLES:
                    if example.modality == modality:
                        self.examples.append((gr.Button(example.name, size="sm", min_width=0), example))
            self.example_rows[modality] = row
        self.prompt = gr.HTML(presenting.prompt_hint(words.PROMPT_WAITING), elem_id="am-prompt")
        with gr.Row(elem_id="am-facts"):
            chest, at_first = first == "cxr", words.AS_REPORTED
            self.view = gr.Radio(words.VIEWS, value=at_first, label="View", visible=chest, elem_id="am-view")
            self.laterality = gr.Radio(words.EYES, value=at_first, label="Eye", visible=not chest, elem_id="am-eye")
            self.age_group = gr.Radio(words.AGE_GROUPS, value=at_first, label="Patient", elem_id="am-age")
        self.num_images = _slider("Number of images", (1, MAX_IMAGES, 1), 2)

    def _advanced(self, shelf: Shelf, first: Modality) -> None:
        models = shelf.of_modality(first)
        with gr.Accordion("Advanced", open=False, elem_id="am-advanced"):
            self.model = gr.Radio(
                [(choice.label, choice.name) for choice in models],
                value=models[0].name,
                label="Model",
                elem_id="am-model",
            )
            with gr.Row(elem_id="am-seed-row"):
                self.seed = gr.Number(0, label="Seed", info=words.SEED_HINT, precision=0, elem_id="am-seed", buttons=[])
                self.dice = gr.Button("Random seed", size="md", elem_id="am-dice")
            self.guidance_scale = _slider("Guidance", (1, 10, 0.5), 3, words.GUIDANCE_HINT)
            self.temperature = _slider("Temperature", (0.1, 2, 0.05), 1, words.TEMPERATURE_HINT)
            self.top_k = _slider("Top-k", (0, 1000, 10), 0, words.TOP_K_HINT)
        with gr.Accordion("About this model", open=False, elem_id="am-about"):
            self.about = gr.HTML()

    def _results(self) -> None:
        self.notice = gr.HTML(elem_id="am-notice")
        self.live = gr.HTML(presenting.empty_panel(), elem_id="am-live")
        with gr.Column(visible=False) as self.finished:
            self.gallery = gr.Gallery(
                show_label=False,
                columns=2,
                object_fit="contain",
                height="auto",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_id="am-gallery",
            )
            with gr.Row(elem_id="am-tools"):
                self.archive = gr.DownloadButton("Download all (.zip)", size="md", elem_id="am-zip", min_width=150)
                self.more = gr.Button("Next seeds", size="md", elem_id="am-more", min_width=110)
                self.scaling = gr.Radio(
                    words.SCALINGS, value=words.SCALINGS[0], show_label=False, container=False, elem_id="am-scaling"
                )
            with gr.Accordion("Settings used", open=True, elem_id="am-settings"):
                self.settings = gr.HTML()
            with gr.Accordion("Single files (PNG and settings)", open=False, elem_id="am-files"):
                self.files = gr.File(file_count="multiple", show_label=False, container=False, interactive=False)

    @property
    def inputs(self) -> dict[str, gr.components.Component]:
        """The components that fill a `Form`, and the model's name, by parameter name."""
        return {
            "model": self.model,
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
