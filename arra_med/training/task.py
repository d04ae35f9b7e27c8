"""What one training step computes: named losses of a batch, for fine-tuning and ARRA alike."""

from typing import Any

import torch
from torch import nn

from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import AlignmentConfig, HiddenStateTap, Projector, decoder_blocks
from arra_med.training.losses import alignment_loss, autoregressive_loss, z_loss


class TrainingTask(nn.Module):
    """A language model with its losses; with `alignment` it is ARRA, without it the fine-tuning baseline.

    Args:
        language_model: A `transformers` causal LM with an image vocabulary.
        layout: Layout of the sequences, the only source of positions.
        z_loss_weight: Weight of the z-loss, the same with and without alignment.
        alignment: ARRA's settings, or `None`.
        teacher_width: Width of the teacher's feature.
    """

    def __init__(
        self,
        language_model: Any,
        layout: SequenceLayout,
        *,
        z_loss_weight: float,
        alignment: AlignmentConfig | None = None,
        teacher_width: int = 0,
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.layout = layout
        self.z_loss_weight = z_loss_weight
        self.alignment = alignment
        self.projector: Projector | None = None
        if alignment is not None:
            hidden_size = language_model.get_input_embeddings().weight.shape[1]
            self.projector = Projector(hidden_size, alignment.projector_width, teacher_width, alignment.seed)
            self._tap = HiddenStateTap(decoder_blocks(language_model), alignment.layer)

    def forward(
        self,
        input_ids: torch.Tensor,
        image_start: torch.Tensor,
        teacher_features: torch.Tensor | None = None,
        context_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Computes the losses of a right-padded batch.

        Right padding under causal attention needs no mask: no position in use ever sees a padded one.

        Args:
            input_ids: (B, L) int64.
            image_start: (B,) int64, position of each row's first image token.
            teacher_features: (B, D) global teacher features of the same images; required with alignment.
            context_ids: (B, L) int64, what the model sees in place of `input_ids`, which stay what it predicts.

        Returns:
            `loss` (what is descended) and its named parts: `image_token_loss`, `z_loss` and, with alignment,
            `alignment_loss`.
        """
        seen = input_ids if context_ids is None else context_ids
        if self.alignment is None:
            hidden_states = self._hidden_states(seen)
        else:
            with self._tap.listen():
                hidden_states = self._hidden_states(seen)
        losses = self._token_losses(hidden_states, input_ids, image_start)
        loss = losses["image_token_loss"] + self.z_loss_weight * losses["z_loss"]
        if self.alignment is not None:
            losses["alignment_loss"] = self._alignment_loss(image_start, teacher_features)
            if self.alignment.weight > 0:
                loss = loss + self.alignment.weight * losses["alignment_loss"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def held_out_losses(self, input_ids: torch.Tensor, image_start: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses that need no teacher, for baseline and ARRA alike; arguments as `forward`."""
        return self._token_losses(self._hidden_states(input_ids), input_ids, image_start)

    def _token_losses(
        self, hidden_states: torch.Tensor, input_ids: torch.Tensor, image_start: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        steps = torch.arange(self.layout.num_image_tokens + 1, device=input_ids.device)
        predicted = image_start[:, None] + steps  # image tokens and end-of-image
        logits = self.language_model.get_output_embeddings()(_at(hidden_states, predicted - 1))
        return {
            "image_token_loss": autoregressive_loss(logits, input_ids.gather(1, predicted)),
            "z_loss": z_loss(logits),
        }

    def _hidden_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden_states: torch.Tensor = self.language_model.base_model(input_ids=input_ids, use_cache=False)[0]
        return hidden_states

    def _alignment_loss(self, image_start: torch.Tensor, teacher_features: torch.Tensor | None) -> torch.Tensor:
        assert self.alignment is not None
        assert self.projector is not None
        if teacher_features is None:
            raise ValueError("a batch without teacher features cannot be aligned")
        count = 1 if self.alignment.target == "rep" else self.layout.num_image_tokens
        # the <REP> token stands right before the image, where the first image token is predicted
        aligned = image_start[:, None] - 1 + torch.arange(count, device=image_start.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.alignment.weight > 0):
            projected = self.projector(_at(self._tap.take(), aligned))
            return alignment_loss(projected, teacher_features, self.alignment.loss)


def _at(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Gathers (B, L, D) at positions (B, T) -> (B, T, D)."""
    return hidden_states.gather(1, positions[..., None].expand(-1, -1, hidden_states.shape[-1]))
