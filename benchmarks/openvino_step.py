"""A plain stateful OpenVINO conversion of a Llama's decoding step with both rows of guidance, the peer of generate.py."""

import openvino as ov
import torch
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from arra_med.tokens.layout import SequenceLayout


class _Step(torch.nn.Module):
    """One token of two rows: ids (2, 1), positions (2, 1), mask (2, T + 1), past keys and values -> logits, present."""

    def __init__(self, model: LlamaForCausalLM, head: torch.Tensor) -> None:
        super().__init__()
        self.model, self.head = model.model, torch.nn.Parameter(head.clone())

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> object:
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


class OpenVinoStep:
    """Compiled for the CPU with a state for keys and values.

    Args:
        model: The Llama.
        layout: Of its sequences.
        prompt: Token ids.
        dtype: `f32` or `bf16`, of the arithmetic.
        weights: `int8` or `int4` for weights that nncf has rounded; by default they are as they were.
    """

    def __init__(
        self, model: LlamaForCausalLM, layout: SequenceLayout, prompt: list[int], dtype: str, weights: str | None = None
    ) -> None:
        self._first_id = layout.vocabulary.first_image_id
        layers, heads = model.config.num_hidden_layers, model.config.num_key_value_heads
        size = model.model.layers[0].self_attn.head_dim
        head = model.lm_head.weight.detach()[layout.vocabulary.image_rows]
        past = [torch.zeros(2, heads, 3, size) for _ in range(2 * layers)]
        example = (torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 4), *past)
        with torch.no_grad():
            converted = ov.convert_model(_Step(model, head), example_input=example)
        names = {}
        for number in range(2 * layers):
            entry, leaving = converted.inputs[3 + number], converted.outputs[1 + number]
            entry.get_tensor().set_names({f"past{number}"})
            leaving.get_tensor().set_names({f"present{number}"})
            entry.get_node().set_partial_shape(ov.PartialShape([2, heads, -1, size]))
            names[f"past{number}"] = f"present{number}"
        for entry, shape in zip(converted.inputs[:3], ([2, 1], [2, 1], [2, -1]), strict=True):
            entry.get_node().set_partial_shape(ov.PartialShape(shape))
        converted.validate_nodes_and_infer_types()
        ov._offline_transformations.apply_make_stateful_transformation(converted, names)
        if weights is not None:
            import nncf

            kind = {"int8": nncf.CompressWeightsMode.INT8_SYM, "int4": nncf.CompressWeightsMode.INT4_SYM}[weights]
            how = {"ratio": 1.0, "group_size": 32, "all_layers": True} if weights == "int4" else {}
            converted = nncf.compress_weights(converted, mode=kind, **how)
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": dtype}
        self._request = ov.Core().compile_model(converted, "CPU", hints).create_infer_request()
        rows = [prompt, layout.unconditional_ids]
        length = max(map(len, rows))
        self._prompts = torch.tensor([[layout.vocabulary.pad_id] * (length - len(row)) + row for row in rows])
        self._pads = torch.tensor([length - len(row) for row in rows])
        self._request.reset_state()
        for position in range(length - 1):
            self._read(self._prompts[:, position : position + 1], position)
        self._after_prompt = [(state, ov.Tensor(state.state.data.copy())) for state in self._request.query_state()]

    def _read(self, ids: torch.Tensor, position: int) -> torch.Tensor:
        places = torch.arange(position + 1)
        mask = torch.where(places >= self._pads[:, None], 0.0, -1e9)
        positions = (position - self._pads).clamp(min=0)[:, None]
        return torch.from_numpy(self._request.infer([ids.numpy(), positions.numpy(), mask.numpy()])[0])

    def decode(self, num_tokens: int) -> torch.Tensor:
        """Chooses codes greedily, int64 (num_tokens,); the prompt but its last token has been read before, free of charge."""
        for state, kept in self._after_prompt:
            state.state = kept
        codes, first = [], self._prompts.shape[1] - 1
        ids = self._prompts[:, first:]
        for position in range(first, first + num_tokens):
            conditional, unconditional = self._read(ids, position)
            code = (unconditional + 3.0 * (conditional - unconditional)).argmax()
            codes.append(code)
            ids = (code + self._first_id).expand(2)[:, None]
        return torch.stack(codes)
