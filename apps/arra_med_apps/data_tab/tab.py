"""The tab that shows files at every stage: components wired to handlers."""

from pathlib import Path

import gradio as gr

from arra_med_apps import words as shared
from arra_med_apps.choices import Shelf
from arra_med_apps.data_tab import words
from arra_med_apps.data_tab.handlers import MAX_FILES, MAX_MB, Handlers
from arra_med_apps.events import AT_ONCE, HIDDEN
from arra_med_apps.training_images import TrainingImages

CSS_FILE = Path(__file__).with_name("tab.css")


def add_data_tab(shelf: Shelf, training: TrainingImages) -> None:
    """Adds the tab's components and events; called inside its `gr.Tab`.

    Args:
        shelf: The models.
        training: The images that trained them, where a study set was given.
    """
    handlers = Handlers(shelf, training)
    offered = [(label, value) for label, value in shared.MODALITIES if value in shelf.modalities]
    with gr.Column(elem_classes="am-panel", elem_id="am-data"):
        gr.HTML(f'<p class="am-muted">{words.INTRODUCTION}</p>')
        modality = gr.Radio(offered, value=offered[0][1], label=words.KIND, elem_id="am-data-modality")
        dropped = gr.File(
            label=words.DROP.format(count=MAX_FILES, size=MAX_MB), file_count="multiple", elem_id="am-drop"
        )
        keep = gr.Checkbox(False, label=words.KEEP, info=words.KEEP_NOTE, elem_id="am-data-keep")
        with gr.Row(elem_id="am-data-actions"):
            look = gr.Button(words.LOOK, variant="primary", elem_id="am-look")
            stop = gr.Button(words.STOP, interactive=False, elem_id="am-data-stop")
        progress = gr.HTML(elem_id="am-data-progress")
        stages = gr.HTML(elem_id="am-stages")
        views = gr.File(label=words.DOWNLOADS, file_count="multiple", visible=False, elem_id="am-views")
    started = look.click(handlers.start, None, [progress, stages, views, look, stop], **AT_ONCE)
    run = started.then(handlers.look, [dropped, modality, keep], [progress, stages, views, dropped], **HIDDEN)
    run.then(handlers.finish, None, [look, stop], **AT_ONCE)
    stop.click(handlers.stop, None, [progress, dropped, look, stop], cancels=[run], **AT_ONCE)
