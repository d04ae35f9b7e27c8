"""A Llama's decoding step with both rows of guidance and keys and values that grow: what the peers of the decoders convert."""

from collections.abc import Callable

import torch
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from arra_med.tokens.layout import SequenceLayout


class PlainStep(torch.nn.Module):
    """One token of two rows: ids (2, 1), positions (2, 1), mask (2, T + 1), past keys and values -> logits, present."""

    def __init__(self, model: LlamaForCausalLM, layout: SequenceLayout) -> None:
        super().__init__()
        head = model.lm_head.weight.detach()[layout.vocabulary.image_rows]
        self.model, self.head = model.model, torch.nn.Parameter(head.clone())

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> object:
        """Reads a token of both rows."""
        x = self.model.embed_tokens(ids)
        cos, sin = self.model.rotary_emb(x, positions)
        present = []
        for number, layer in enumerate(self.model.layers):
            attention, normed = layer.self_attn, layer.input_layernorm(x)
            shape = (2, 1, -1, attention.head_dim)
            query, key, value = (
                part(normed).view(shape).transpose(1, 2)
                for part in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = apply_rotary_pos_emb(query, key, cos, sin)
            key = torch.cat([past[2 * number], key], dim=2)
            value = torch.cat([past[2 * number + 1], value], dim=2)
            present += [key, value]
            groups = attention.num_key_value_groups
            attended = torch.nn.functional.scaled_dot_product_attention(
                query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), mask[:, None, None, :]
            )
            x = x + attention.o_proj(attended.transpose(1, 2).reshape(2, 1, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return (torch.nn.functional.linear(self.model.norm(x)[:, -1], self.head), *present)

    def example(self) -> tuple[torch.Tensor, ...]:
        """Inputs for a conversion, with three tokens read before; a past of the model's own type."""
        config = self.model.config
        shape = (2, config.num_key_value_heads, 3, self.model.layers[0].self_attn.head_dim)
        ids = torch.zeros(2, 1, dtype=torch.long)
        return ids, ids.clone(), torch.zeros(2, 4), *(torch.zeros(shape) for _ in range(2 * config.num_hidden_layers))


class PaddedRows:
    """Both rows of guidance, padded on the left, and what a step is told of them.

    Args:
        layout: Of the sequences.
        prompt: Token ids of the conditional row.

    Attributes:
        ids: int64 (2, T).
    """

    def __init__(self, layout: SequenceLayout, prompt: list[int]) -> None:
        rows = [prompt, layout.unconditional_ids]
        length = max(map(len, rows))
        self.ids = torch.tensor([[layout.vocabulary.pad_id] * (length - len(row)) + row for row in rows])
        self._pads = torch.tensor([length - len(row) for row in rows])
        self._first_id = layout.vocabulary.first_image_id

    def places(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Position ids int64 (2, 1) and mask float32 (2, position + 1) of the token at a position."""
        mask = torch.where(torch.arange(position + 1) >= self._pads[:, None], 0.0, -1e9)
        return (position - self._pads).clamp(min=0)[:, None], mask

    def decode(self, read: Callable[[torch.Tensor, int], torch.Tensor], num_tokens: int) -> torch.Tensor:
        """Chooses codes greedily, int64 (num_tokens,); `read` takes ids (2, 1) and a position and returns logits (2, V)."""
        codes, first = [], self.ids.shape[1] - 1
        ids = self.ids[:, first:]
        for position in range(first, first + num_tokens):
            conditional, unconditional = read(ids, position)
            code = (unconditional + 3.0 * (conditional - unconditional)).argmax()
            codes.append(code)
            ids = (code + self._first_id).expand(2)[:, None]
        return torch.stack(codes)
