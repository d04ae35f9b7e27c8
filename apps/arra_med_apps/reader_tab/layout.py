"""The components of the reader-study tab and where they stand; no behaviour."""

from typing import Any

import gradio as gr

from arra_med.evaluate.reader_study import DEFAULT_CONSENT, MAX_ITEMS, MAX_TEXT_CHARS
from arra_med_apps import words as page_words
from arra_med_apps.choices import Shelf
from arra_med_apps.reader_tab import words

_NO_HELP = gr.InputHTMLAttributes(spellcheck=False, autocorrect="off", autocomplete="off")


class Layout:
    """Every component that an event reads or changes. Made inside the tab."""

    def __init__(self, shelf: Shelf) -> None:
        self.state = gr.State(None)
        with gr.Tabs(elem_id="am-study-parts"):
            with gr.Tab(words.READ, id="read"), gr.Column(elem_classes="am-panel", elem_id="am-study-read"):
                self._read()
            with gr.Tab(words.SET_UP, id="set-up"), gr.Column(elem_classes="am-panel", elem_id="am-study-make"):
                self._set_up(shelf)
            with gr.Tab(words.RESULTS, id="results"), gr.Column(elem_classes="am-panel", elem_id="am-study-results"):
                self._results()

    def _read(self) -> None:
        self.notice = gr.HTML(elem_id="am-read-problem")
        with gr.Column() as self.enter:
            self.code = _text(words.CODE_LABEL, "am-code", info=words.CODE_HINT)
            self.go = gr.Button("Continue", variant="primary", elem_id="am-code-go")
        with gr.Column(visible=False) as self.consent:
            self.consent_text = gr.HTML()
            self.agree = gr.Checkbox(False, label=words.AGREE, elem_id="am-agree")
            self.begin = gr.Button("Begin", variant="primary", elem_id="am-begin")
        with gr.Column(visible=False, elem_id="am-reading") as self.reading:
            self.progress = gr.HTML(elem_id="am-read-progress")
            self.image = gr.HTML(elem_id="am-read-image")
            self.question = gr.HTML()
            with gr.Row(elem_id="am-choices") as self.choices:
                self.choice = [gr.Button("", variant="primary", elem_id=f"am-choice-{i}") for i in range(2)]
            self.marks = [
                gr.Radio([], visible=False, elem_classes="am-mark", elem_id=f"am-mark-{i}") for i in range(MAX_ITEMS)
            ]
            with gr.Row(elem_id="am-read-tools"):
                self.save = gr.Button("Save and go on", variant="primary", visible=False, elem_id="am-save")
                self.undo = gr.Button("Take back the last answer", elem_id="am-undo")
                self.leave = gr.Button("Pause", elem_id="am-leave")
            self.keys = gr.HTML()
        with gr.Column(visible=False) as self.done:
            self.thanks = gr.HTML(elem_id="am-thanks")

    def _set_up(self, shelf: Shelf) -> None:
        self.make_notice = gr.HTML(elem_id="am-make-problem")
        self.design = gr.Radio(
            list(words.DESIGNS), value="real_or_synthetic", label="Design", info=words.DESIGN_HINT, elem_id="am-design"
        )
        offered = [(label, value) for label, value in page_words.MODALITIES if value in shelf.modalities]
        self.modality = gr.Radio(offered, value=offered[0][1], label="Image", elem_id="am-study-modality")
        self.title = _text("Title, as readers see it", "am-study-title", value="Reader study", max_length=200)
        self.question_text = _text("Question", "am-study-question", value="Which image is better?", visible=False)
        self.items = gr.Textbox(
            words.DEFAULT_ITEMS,
            label=words.ITEMS_LABEL,
            lines=3,
            visible=False,
            elem_id="am-study-items",
            max_length=4000,
        )
        self.files: dict[str, gr.File] = {}
        self.folders: dict[str, gr.Textbox] = {}
        self.arm_rows: dict[str, gr.Group] = {}
        for arm, label in words.ARMS:
            with gr.Column(elem_classes="am-arm") as self.arm_rows[arm]:
                self.files[arm] = gr.File(
                    label=f"{label} ({words.UPLOAD_HINT})", file_count="multiple", height=150, elem_id=f"am-files-{arm}"
                )
                self.folders[arm] = _text(words.FOLDER_LABEL, f"am-folder-{arm}")
        with gr.Accordion(words.PROMPTS_LABEL, open=False):
            self.prompts = gr.File(label="CSV of reports", file_types=[".csv"], height=150, elem_id="am-prompts")
            first = shelf.of_modality(offered[0][1])
            self.models = {
                arm: gr.Dropdown(
                    [(words.NO_MODEL, ""), *((choice.label, choice.name) for choice in first)],
                    value="",
                    label=f"Model that draws the arm {arm}",
                    elem_id=f"am-draws-{arm}",
                )
                for arm in words.DRAWN_ARMS
            }
        self.use_session = gr.Checkbox(
            False, label=words.SESSION_LABEL, info=words.SESSION_HINT, elem_id="am-use-session"
        )
        with gr.Row():
            self.size_px = gr.Dropdown(list(words.SIZES), value=0, label="Size", info=words.SIZE_HINT)
            self.per_arm = gr.Number(0, label="Images of each arm", info="0 takes as many as there are.", precision=0)
        with gr.Row():
            self.repeats = gr.Slider(
                0, 33, value=0, step=1, label="Shown twice, %", info="To see how far a reader agrees with earlier answers.",
                elem_id="am-repeats", buttons=[],
            )  # fmt: skip
            self.seed = gr.Number(
                None, label="Seed of the random orders", info=words.SEED_HINT, precision=0, elem_id="am-study-seed"
            )
        self.with_reports = gr.Checkbox(False, label="Show readers the report of each image", elem_id="am-with-reports")
        self.consent_box = gr.Textbox(
            DEFAULT_CONSENT, label=words.CONSENT_LABEL, lines=4, max_length=MAX_TEXT_CHARS, elem_id="am-consent-text"
        )
        self.ethics = _text(words.ETHICS_LABEL, "am-ethics", info=words.ETHICS_HINT, max_length=MAX_TEXT_CHARS)
        with gr.Row(elem_id="am-make-actions"):
            self.make = gr.Button("Make the study", variant="primary", elem_id="am-make")
            self.stop = gr.Button("Stop", interactive=False, elem_id="am-make-stop")
        self.made = gr.HTML(elem_id="am-made")
        self._sample_size()

    def _sample_size(self) -> None:
        with gr.Accordion("How many images are needed?", open=False, elem_id="am-size"):
            with gr.Row():
                self.preferred = gr.Number(65, label="Preferred in % of pairs", elem_id="am-size-share", precision=1)
                self.power = gr.Number(80, label="Power, %", precision=0)
            with gr.Row():
                self.accuracy = gr.Number(70, label="Expected accuracy, %", precision=1)
                self.half_width = gr.Number(
                    10, label="Wanted: ± percentage points", precision=1, elem_id="am-size-width"
                )
            self.plan = gr.Button("Work it out", elem_id="am-size-go")
            self.planned = gr.HTML(elem_id="am-size-told")

    def _results(self) -> None:
        self.results_notice = gr.HTML(elem_id="am-results-problem")
        with gr.Row():
            self.results_code = _text("Study code", "am-results-code")
            self.owner_code = gr.Textbox(
                label=words.OWNER_LABEL,
                type="password",
                max_length=40,
                elem_id="am-owner-code",
                html_attributes=_NO_HELP,
            )
        self.show = gr.Button("Show the results", variant="primary", elem_id="am-results-go")
        self.results = gr.HTML(elem_id="am-results-shown")
        with gr.Accordion("Delete a reader's answers", open=False):
            self.forgotten = gr.Number(1, label=words.DELETE_LABEL, precision=0, minimum=1, elem_id="am-forget-number")
            self.forget = gr.Button("Delete for good", variant="stop", elem_id="am-forget")

    @property
    def plan_inputs(self) -> dict[str, Any]:
        """The components of a new study, by parameter name."""
        return {
            "design": self.design,
            "modality": self.modality,
            "title": self.title,
            "question": self.question_text,
            "items": self.items,
            "prompts": self.prompts,
            "use_session": self.use_session,
            "size_px": self.size_px,
            "per_arm": self.per_arm,
            "repeats": self.repeats,
            "seed": self.seed,
            "with_reports": self.with_reports,
            "consent": self.consent_box,
            "ethics": self.ethics,
            **{f"files_{arm}": box for arm, box in self.files.items()},
            **{f"folder_{arm}": box for arm, box in self.folders.items()},
            **{f"model_{arm}": box for arm, box in self.models.items()},
        }


def _text(label: str, name: str, **settings: Any) -> gr.Textbox:
    return gr.Textbox(
        label=label, elem_id=name, html_attributes=_NO_HELP, **{"max_length": 400, "lines": 1, **settings}
    )
