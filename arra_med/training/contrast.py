"""Condition contrastive alignment: fine-tuning after which an image needs no guidance, and so half the work.

Source: Chen et al., "Toward Guidance-Free AR Visual Generation via Condition Contrastive Alignment", arXiv 2410.09347,
equation 9.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from arra_med.config import StrictModel
from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import at_positions


class ContrastConfig(StrictModel):
    """Settings of the contrast; the reference is the start, frozen.

    Attributes:
        beta: How strongly a change of log-likelihood counts.
        negative_weight: lambda, weight of the image under another image's report.
    """

    beta: float = Field(default=0.02, gt=0)
    negative_weight: float = Field(default=1.0, ge=0)


class Contrast(nn.Module):
    """The contrast against a frozen copy of the language model.

    Args:
        config: The settings.
        layout: Layout of the sequences.
        language_model: The model before its first step.
    """

    def __init__(self, config: ContrastConfig, layout: SequenceLayout, language_model: Any) -> None:
        super().__init__()
        self.config, self.layout = config, layout
        reference = copy.deepcopy(language_model).eval().requires_grad_(False)
        self._reference = [reference]  # no submodule: no checkpoint holds it and no optimiser sees it

    def forward(self, language_model: Any, input_ids: torch.Tensor, image_start: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss of a batch of at least two sequences; image i meets the report of image i + 1 as well.

        Args:
            language_model: The model in training.
            input_ids: (B, L) right-padded.
            image_start: (B,) position of each row's first image token.
        """
        mismatched, starts = mismatched_sequences(self.layout, input_ids, image_start)
        gains = []
        for ids, first in ((input_ids, image_start), (mismatched, starts)):
            with torch.no_grad():
                before = image_log_likelihood(self._reference[0], self.layout, ids, first)
            gains.append(self.config.beta * (image_log_likelihood(language_model, self.layout, ids, first) - before))
        matched, wrong = gains
        return -(F.logsigmoid(matched) + self.config.negative_weight * F.logsigmoid(-wrong)).mean()


def mismatched_sequences(
    layout: SequenceLayout, input_ids: torch.Tensor, image_start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts each image behind the next row's prompt.

    Returns:
        input_ids: (B, L) right-padded.
        image_start: (B,).
    """
    num_predicted = len(layout.predicted_offsets)
    starts = image_start.roll(-1)
    rows = [
        torch.cat([input_ids[(row + 1) % len(input_ids), :start], input_ids[row, first : first + num_predicted]])
        for row, (first, start) in enumerate(zip(image_start.tolist(), starts.tolist(), strict=True))
    ]
    padding = layout.vocabulary.pad_id
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding), starts


def image_log_likelihood(
    language_model: Any, layout: SequenceLayout, input_ids: torch.Tensor, image_start: torch.Tensor
) -> torch.Tensor:
    """Returns log p(image | report), float32 (B,): the sum over its tokens and `eoi`, in nats."""
    predicted = image_start[:, None] + torch.tensor(list(layout.predicted_offsets), device=input_ids.device)
    hidden_states = language_model.base_model(input_ids=input_ids, use_cache=False)[0]
    logits = language_model.get_output_embeddings()(at_positions(hidden_states, predicted - 1)).float()
    losses = F.cross_entropy(logits.transpose(1, 2), input_ids.gather(1, predicted), reduction="none")
    return -losses.sum(dim=1)
