"""Decoding with a model's own transformers code, one forward pass per token for all images and both branches together.

It is the reference, and serves any causal language model on any device. Prompts are padded on the left and read once;
every further step feeds one token per row to the model's own key-value cache. Only the head's rows that belong to image
codes are multiplied, so no other token can appear and the text vocabulary costs nothing. On a CPU transformers'
`DynamicCache` was the fastest cache at these sizes (12M parameters, 256 tokens, one thread: 7.2 ms a token for two rows
and 11.1 for eight; `StaticCache` 7.2 and 12.8).
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from arra_med.generate.sampling import SamplingRules, choose_with_noise, guided_logits
from arra_med.tokens.layout import SequenceLayout


class TransformersBackend:
    """Decodes with `model.forward`.

    Args:
        model: Any Hugging Face causal language model with an image vocabulary.
        layout: Of its sequences.
    """

    name = "transformers"

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout) -> None:
        self.model = model
        self.layout = layout

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> "TransformersRows":
        """Prepares one batch; see `decoding.DecodingBackend`."""
        return TransformersRows(self.model, self.layout, prompts, rules)


class TransformersRows:
    """The rows of one batch and their cache: each image's prompt, then, if guided, as many unconditional prompts."""

    def __init__(
        self, model: PreTrainedModel, layout: SequenceLayout, prompts: Sequence[Sequence[int]], rules: SamplingRules
    ) -> None:
        rows = [list(prompt) for prompt in prompts]
        if rules.is_guided:
            rows += [layout.unconditional_beside(prompt) for prompt in prompts]
        self._rules, self._layout = rules, layout
        self._copies = 2 if rules.is_guided else 1
        length = max(map(len, rows))
        padding = [length - len(row) for row in rows]
        padded = [[layout.vocabulary.pad_id] * pads + row for pads, row in zip(padding, rows, strict=True)]
        self._next_ids = torch.tensor(padded, device=model.device)
        mask = torch.ones(len(rows), length + layout.num_image_positions, dtype=torch.long)
        for row, pads in enumerate(padding):
            mask[row, :pads] = 0
        self._mask = mask.to(model.device)
        first = torch.tensor([[layout.first_position(len(row))] for row in rows], device=model.device)
        self._positions = first + (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        self._head = _ImageHead(model, layout)
        self._base_model = without_adapter(model).base_model
        self._cache = DynamicCache(config=model.config)
        self._length = 0
        self._is_finite = torch.tensor(True)

    def next_row(self, noise: torch.Tensor) -> torch.Tensor:
        """Chooses the next row of codes, int64 (B, width), with standard Gumbel noise float32 (width, B, V)."""
        noise = noise.to(self._mask.device)
        row = []
        for step_noise in noise:
            logits = self._read(self._next_ids)
            if self._rules.is_guided:
                conditional, unconditional = logits.chunk(2)
                logits = guided_logits(conditional, unconditional, self._rules.guidance_scale)
            row.append(choose_with_noise(logits, self._rules, step_noise))
            self._next_ids = self._layout.vocabulary.image_ids(row[-1]).repeat(self._copies)[:, None]
        if marks := self._layout.row_end_ids:
            ends = self._next_ids.new_tensor(marks).expand(len(self._next_ids), -1)
            self._next_ids = torch.cat([self._next_ids, ends], dim=1)
        self._is_finite = logits.isfinite().all()
        return torch.stack(row, dim=1)

    @property
    def is_finite(self) -> bool:
        """Whether the last logits are numbers."""
        return bool(self._is_finite)

    @torch.no_grad()
    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        """Feeds token ids (rows, any) and returns the logits (rows, codebook_size) of the next one."""
        start, self._length = self._length, self._length + ids.shape[1]
        output = self._base_model(
            input_ids=ids,
            attention_mask=self._mask[:, : self._length],
            position_ids=self._positions[:, start : self._length],
            past_key_values=self._cache,
            use_cache=True,
        )
        return self._head(output.last_hidden_state[:, -1])


class _ImageHead:
    """The part of the language model's head that belongs to the image codes."""

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout) -> None:
        head = without_adapter(model).get_output_embeddings()
        rows = layout.vocabulary.image_rows
        self._weight = head.weight[rows]
        bias = getattr(head, "bias", None)
        self._bias = None if bias is None else bias[rows]
        # Granite divides its logits, Cohere multiplies them, Gemma 2 squeezes them, each in its own forward().
        self._scale = float(getattr(model.config, "logit_scale", None) or 1.0)
        self._scale /= float(getattr(model.config, "logits_scaling", None) or 1.0)
        self._cap = getattr(model.config, "final_logit_softcapping", None)

    @torch.no_grad()
    def __call__(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Hidden states (rows, width) -> float32 logits (rows, codebook_size)."""
        logits = torch.nn.functional.linear(hidden_states, self._weight, self._bias).float() * self._scale
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def without_adapter(model: PreTrainedModel) -> Any:
    """A PEFT model's `base_model` is its adapter; the language model that carries the adapted layers lies below it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
