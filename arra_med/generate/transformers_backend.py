"""Decoding with a model's own transformers code, one forward pass for all images and both branches together.

It is the reference, and serves any causal language model on any device. Prompts are padded on the left and read once;
every further step feeds one token per row to the model's own key-value cache. Only the head's rows that belong to image
codes are multiplied, so no other token can appear and the text vocabulary costs nothing. On a CPU transformers'
`DynamicCache` was the fastest cache at these sizes (12M parameters, 256 tokens, one thread: 7.2 ms a token for two rows
and 11.1 for eight; `StaticCache` 7.2 and 12.8).

A single image on a CPU takes fewer passes than it has tokens (speculative Jacobi decoding): behind the last token that is final a
pass also reads drafts of the next ones. With each place's Gumbel noise held fixed, a draft that comes out again is what
one token a pass would have drawn, so it is final too; from the first that does not, what came out is the next draft. A
batch gains little: a pass then costs what its tokens cost.

Source: Teng et al., arXiv 2410.01699; with fixed random numbers So et al., arXiv 2510.24211. Figures: docs/performance.md.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from arra_med.generate.sampling import GuidanceSchedule, SamplingRules, choose_with_noise, guided_logits
from arra_med.tokens.layout import SequenceLayout

WINDOW = 8
"""Tokens that a pass reads at most: one that is final, the others drafts."""


class TransformersBackend:
    """Decodes with `model.forward`.

    Args:
        model: Any Hugging Face causal language model with an image vocabulary.
        layout: Of its sequences.
        window: Tokens that a pass over a single image reads at most; `None`: `WINDOW` on a CPU, else 1.
    """

    name = "transformers"

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout, window: int | None = None) -> None:
        self.model = model
        self.layout = layout
        self.window = window or (WINDOW if model.device.type == "cpu" else 1)

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> "TransformersRows":
        """Prepares one batch; see `decoding.DecodingBackend`."""
        return TransformersRows(self.model, self.layout, prompts, rules, self.window if len(prompts) == 1 else 1)


class TransformersRows:
    """The rows of one batch and their cache: each image's prompt, then, if guided, as many unconditional prompts."""

    def __init__(
        self,
        model: PreTrainedModel,
        layout: SequenceLayout,
        prompts: Sequence[Sequence[int]],
        rules: SamplingRules,
        window: int = 1,
    ) -> None:
        self._rules, self._layout = rules, layout
        self._copies = 2 if rules.is_guided else 1
        self._guidance = GuidanceSchedule(rules, layout.num_image_tokens)
        padded = left_padded(with_unconditional(prompts, rules, layout), layout)
        self._next_ids, self._mask, self._positions = (part.to(model.device) for part in padded)
        self._head = ImageHead(model, layout)
        self._base_model = without_adapter(model).base_model
        self._cache = DynamicCache(config=model.config)
        plain = all(type(layer) is DynamicLayer for layer in self._cache.layers)  # what was read can be taken back
        self._window = window if plain else 1
        self._drafts = torch.zeros(len(prompts), layout.grid[1], dtype=torch.long, device=model.device)
        self._length = 0
        self._finite = torch.ones(layout.grid[1], dtype=torch.bool, device=model.device)
        self.passes = 0

    def next_row(self, noise: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Chooses the next row of codes; see `decoding.StartedRows`."""
        noise, guidance = (part.to(self._mask.device) for part in (noise, self._guidance.next_steps(len(noise))))
        row = self._drafts.clone()  # the row above
        if kept is not None:
            kept = kept.to(self._mask.device)
            row = torch.where(kept < 0, row, kept)
        column = 0
        while column < len(noise):
            stop = min(column + self._window, len(noise))
            drafts = row[:, column : stop - 1]
            drafted_ids = self._layout.vocabulary.image_ids(drafts).repeat(self._copies, 1)
            logits = self._read(torch.cat([self._next_ids, drafted_ids], dim=1), stop - column)
            if self._rules.is_guided:
                conditional, unconditional = logits.chunk(2)
                logits = guided_logits(conditional, unconditional, guidance[column:stop, None])
            places = logits.transpose(0, 1).flatten(0, 1)
            chosen = choose_with_noise(places, self._rules, noise[column:stop].flatten(0, 1))
            chosen = chosen.view(stop - column, -1).T
            if kept is not None:
                chosen = torch.where(kept[:, column:stop] < 0, chosen, kept[:, column:stop])
            final = 1
            if drafts.shape[1]:
                final += int((chosen[:, :-1] == drafts).all(dim=0).long().cumprod(dim=0).sum())
                self._take_back(stop - column - final)
            row[:, column:stop] = chosen
            self._finite[column : column + final] = logits[:, :final].isfinite().all(dim=-1).all(dim=0)
            column += final
            self._next_ids = self._layout.vocabulary.image_ids(row[:, column - 1]).repeat(self._copies)[:, None]
        if marks := self._layout.row_end_ids:
            ends = self._next_ids.new_tensor(marks).expand(len(self._next_ids), -1)
            self._next_ids = torch.cat([self._next_ids, ends], dim=1)
        self._drafts = row
        return row

    @property
    def finite(self) -> torch.Tensor:
        """Where the last row's logits are numbers; see `decoding.StartedRows`."""
        return self._finite

    @torch.no_grad()
    def _read(self, ids: torch.Tensor, num_logits: int) -> torch.Tensor:
        """Feeds token ids (rows, any) and returns the logits (rows, num_logits, codebook_size) of what follows the last."""
        start, self._length = self._length, self._length + ids.shape[1]
        self.passes += 1
        output = self._base_model(
            input_ids=ids,
            attention_mask=self._mask[:, : self._length],
            position_ids=self._positions[:, start : self._length],
            past_key_values=self._cache,
            use_cache=True,
        )
        return self._head(output.last_hidden_state[:, -num_logits:])

    def _take_back(self, tokens: int) -> None:
        self._cache.crop(-tokens)
        self._length -= tokens


class PaddedPrompts(NamedTuple):
    """Prompts padded on the left, and the places of the image tokens behind them.

    Attributes:
        ids: int64 (rows, T).
        mask: int64 (rows, T + image positions), 0 at padding.
        positions: Position ids, int64 (rows, T + image positions).
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor


def with_unconditional(
    prompts: Sequence[Sequence[int]], rules: SamplingRules, layout: SequenceLayout
) -> list[tuple[int, ...]]:
    """Each image's prompt, then, if guided, as many unconditional prompts."""
    rows = [tuple(prompt) for prompt in prompts]
    return rows + [tuple(layout.unconditional_beside(prompt)) for prompt in prompts] if rules.is_guided else rows


def left_padded(rows: Sequence[Sequence[int]], layout: SequenceLayout) -> PaddedPrompts:
    """Pads prompts to the longest one's length, on the CPU."""
    length = max(map(len, rows))
    padding = [length - len(row) for row in rows]
    ids = torch.tensor([[layout.vocabulary.pad_id] * pads + list(row) for pads, row in zip(padding, rows, strict=True)])
    mask = torch.ones(len(rows), length + layout.num_image_positions, dtype=torch.long)
    for row, pads in enumerate(padding):
        mask[row, :pads] = 0
    first = torch.tensor([[layout.first_position(len(row))] for row in rows])
    return PaddedPrompts(ids, mask, first + (mask.cumsum(dim=1) - 1).clamp(min=0))


class ImageHead:
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
        """Hidden states (..., width) -> float32 logits (..., codebook_size)."""
        logits = torch.nn.functional.linear(hidden_states, self._weight, self._bias).float() * self._scale
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def without_adapter(model: PreTrainedModel) -> Any:
    """A PEFT model's `base_model` is its adapter; the language model that carries the adapted layers lies below it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
