"""What one training step computes: named losses of a batch, for fine-tuning and ARRA alike."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import (
    Alignment,
    AlignmentConfig,
    HiddenStateTap,
    TeacherShape,
    at_positions,
    decoder_blocks,
)
from arra_med.training.consistency import Consistency, ConsistencyConfig
from arra_med.training.losses import TokenLosses, token_losses


class TrainingTask(nn.Module):
    """A language model with its losses; with `alignments` it is ARRA, without them the fine-tuning baseline.

    Args:
        language_model: A `transformers` causal LM with an image vocabulary.
        layout: Layout of the sequences, the only source of positions.
        z_loss_weight: Weight of the z-loss, the same with and without alignment.
        alignments: ARRA's settings, one for each teacher.
        teachers: Shapes of their features, in the same order.
        consistency: Settings of reAR's regulariser.
        codebook: (codebook_size, D), what the image tokenizer's decoder reads for each code; consistency needs it.

    Attributes:
        step: The optimiser step, counted from 0, which a schedule of lambda needs; the trainer sets it.

    Raises:
        ConfigError: If an alignment does not fit the model or its teacher.
    """

    def __init__(
        self,
        language_model: Any,
        layout: SequenceLayout,
        *,
        z_loss_weight: float,
        alignments: Sequence[AlignmentConfig] = (),
        teachers: Sequence[TeacherShape] = (),
        consistency: ConsistencyConfig | None = None,
        codebook: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.layout = layout
        self.z_loss_weight = z_loss_weight
        self.step = 0
        self.alignments: Any = nn.ModuleList()
        self._tap: HiddenStateTap | None = None
        self.consistency: Consistency | None = None
        if alignments or consistency is not None:
            blocks = decoder_blocks(language_model)
            hidden_size = language_model.get_input_embeddings().weight.shape[1]
            made = [
                Alignment(config, layout, hidden_size, len(blocks), teacher)
                for config, teacher in zip(alignments, teachers, strict=True)
            ]
            self.alignments.extend(made)
            layers = [layer for alignment in made for layer in alignment.layers]
            if consistency is not None:
                if codebook is None:
                    raise ValueError("consistency needs the image tokenizer's codebook")
                self.consistency = Consistency(consistency, layout, hidden_size, len(blocks), codebook)
                layers += self.consistency.layers
            self._tap = HiddenStateTap(blocks, layers)

    def forward(
        self,
        input_ids: torch.Tensor,
        image_start: torch.Tensor,
        teacher_features: Sequence[torch.Tensor] | None = None,
        context_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of a right-padded batch.

        Right padding under causal attention needs no mask: no position in use ever sees a padded one.

        Args:
            input_ids: (B, L) int64.
            image_start: (B,) int64, position of each row's first image token.
            teacher_features: For each teacher its features of the same images; required with alignment.
            context_ids: (B, L) int64, what the model sees in place of `input_ids`, which stay what it predicts.

        Returns:
            `loss` (what is descended) and its named parts: `image_token_loss`, `z_loss` and, with alignment,
            `alignment_loss`, which is numbered where there are several teachers.
        """
        seen = input_ids if context_ids is None else context_ids
        if self._tap is None:
            hidden_states = self._hidden_states(seen)
        else:
            with self._tap.listen():
                hidden_states = self._hidden_states(seen)
        loss, *parts = self._token_losses(hidden_states, input_ids, image_start)
        losses = dict(zip(TokenLosses._fields[1:], parts, strict=True))
        taken = self._tap.take() if self._tap is not None else {}
        if self.consistency is not None:
            losses["consistency_loss"] = self.consistency(taken, image_start, input_ids)
            loss = loss + self.consistency.config.weight * losses["consistency_loss"]
        if self.alignments:
            if teacher_features is None:
                raise ValueError("a batch without teacher features cannot be aligned")
            for number, (alignment, features) in enumerate(
                zip(self.alignments, teacher_features, strict=True), start=1
            ):
                weight = alignment.config.weight_at(self.step)
                with torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0):
                    aligned = alignment(taken, image_start, features)
                losses["alignment_loss" if len(self.alignments) == 1 else f"alignment_loss_{number}"] = aligned
                if weight > 0:
                    loss = loss + weight * aligned
        return {"loss": loss, **losses}

    @torch.no_grad()
    def held_out_losses(self, input_ids: torch.Tensor, image_start: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses that need no teacher, for baseline and ARRA alike; arguments as `forward`."""
        _, *parts = self._token_losses(self._hidden_states(input_ids), input_ids, image_start)
        return dict(zip(TokenLosses._fields[1:], parts, strict=True))

    def _token_losses(
        self, hidden_states: torch.Tensor, input_ids: torch.Tensor, image_start: torch.Tensor
    ) -> TokenLosses:
        offsets = torch.tensor(self.layout.predicted_offsets, device=input_ids.device)
        predicted = image_start[:, None] + offsets
        head = self.language_model.get_output_embeddings()
        return token_losses(
            at_positions(hidden_states, predicted - 1),
            head.weight,
            input_ids.gather(1, predicted),
            self.z_loss_weight,
            head_bias=getattr(head, "bias", None),
        )

    def _hidden_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden_states: torch.Tensor = self.language_model.base_model(input_ids=input_ids, use_cache=False)[0]
        return hidden_states
