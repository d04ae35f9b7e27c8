"""Pictures of a few fixed prompts at every checkpoint: what the losses cannot show."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback

from arra_med.config import StrictModel
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.imaging.view import Modality, to_uint8
from arra_med.models.start import Start
from arra_med.records.report import report_prompt
from arra_med.runs import atomic_file

if TYPE_CHECKING:
    from arra_med.tokens.protocol import ImageTokenizer


class SampleGridConfig(StrictModel):
    """What is drawn.

    Attributes:
        reports: One row of the grid each.
        images_per_report: Columns; column i has seed i.
        rules: Guidance and sampling.
    """

    reports: tuple[str, ...]
    images_per_report: int = 4
    rules: SamplingRules = SamplingRules()


class SampleGrid(TrainerCallback):
    """Writes `step-NNNNNN.png` whenever a checkpoint is saved."""

    def __init__(
        self,
        config: SampleGridConfig,
        start: Start,
        image_tokenizer: "ImageTokenizer",
        modality: Modality,
        folder: Path,
    ) -> None:
        self.config, self.layout, self.folder = config, start.layout, folder
        self.image_tokenizer = image_tokenizer
        texts = [report_prompt(report, modality=modality).text for report in config.reports]
        self.prompts = [start.layout.prompt_ids(start.layout.text_ids(start.text_tokenizer, text)) for text in texts]

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Draws the grid; `model` is the training task."""
        columns = self.config.images_per_report
        prompts = [prompt for prompt in self.prompts for _ in range(columns)]
        seeds = [*range(columns)] * len(self.prompts)
        language_model = model.language_model.eval()
        with torch.compiler.set_stance("force_eager"):  # a compiled block is compiled for training steps
            codes = decode_image_tokens(language_model, self.layout, prompts, self.config.rules, seeds)
        language_model.train()
        pictures = to_uint8(self.image_tokenizer.decode(codes).numpy())
        rows = [np.concatenate(list(pictures[i : i + columns]), axis=-1) for i in range(0, len(pictures), columns)]
        grid = np.concatenate(rows, axis=-2)
        with atomic_file(self.folder / f"step-{state.global_step:06d}.png") as partial:
            Image.fromarray(grid[0] if grid.shape[0] == 1 else grid.transpose(1, 2, 0)).save(partial, format="PNG")
