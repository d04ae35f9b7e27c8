"""A Llama's weights in the order in which the CPU decoder reads them."""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from arra_med.generate.cpu_arithmetic import BLOCK
from arra_med.generate.cpu_kernels import LlamaWeights
from arra_med.tokens.layout import SequenceLayout

_PROJECTIONS = ("qkv", "out", "gate_up", "down")


@torch.no_grad()
def pack(model: PreTrainedModel, layout: SequenceLayout, int8: bool) -> LlamaWeights:
    """Copies the weights that decoding needs.

    Args:
        model: A Llama on the CPU.
        layout: Of its sequences.
        int8: Round the layers' weights to int8, one scale for each output; embedding and head stay as they are.
    """
    config = model.config
    base: Any = model.model
    head_size = base.layers[0].self_attn.head_dim
    turned = _pairs(config.num_attention_heads, head_size), _pairs(config.num_key_value_heads, head_size)
    packed: dict[str, list[np.ndarray]] = {name: [] for name in _PROJECTIONS}
    gains = []
    for layer in base.layers:
        attention, mlp = layer.self_attn, layer.mlp
        query, key = (
            _array(part)[order] for part, order in zip((attention.q_proj, attention.k_proj), turned, strict=True)
        )
        packed["qkv"].append(blocks(np.concatenate([query, key, _array(attention.v_proj)])))
        packed["out"].append(blocks(_array(attention.o_proj)))
        gate, up = (blocks(_array(part), BLOCK // 2) for part in (mlp.gate_proj, mlp.up_proj))
        packed["gate_up"].append(np.concatenate([gate, up], axis=-1))
        packed["down"].append(blocks(_array(mlp.down_proj)))
        gains += [_array(layer.input_layernorm), _array(layer.post_attention_layernorm)]
    weights = {name: np.stack(parts) for name, parts in packed.items()}
    packed.clear()
    scales = {name: np.ones((len(part), part.shape[1], BLOCK), np.float32) for name, part in weights.items()}
    head = _array(model.get_output_embeddings())[layout.vocabulary.image_rows]
    embedding = _array(model.get_input_embeddings())[layout.vocabulary.image_rows]
    weights["head"] = blocks(head)
    for name in _PROJECTIONS if int8 else ():
        scales[name] = np.abs(weights[name]).max(axis=2).clip(min=1e-12) / 127
        weights[name] = np.round(weights[name] / scales[name][:, :, None]).astype(np.int8)
    if all(part.dtype == np.int8 or _is_bfloat16(part) for part in weights.values()):
        weights = {name: part if part.dtype == np.int8 else _upper_half(part) for name, part in weights.items()}
    positions = torch.arange(config.max_position_embeddings)[None]
    cos, sin = base.rotary_emb(torch.zeros(1), positions)
    return LlamaWeights(
        **weights,
        embedding=np.ascontiguousarray(embedding),
        scales=np.concatenate([part.reshape(len(part), -1) for part in scales.values()], axis=1).astype(np.float32),
        gains=np.stack([*gains, _array(base.norm)]),
        cos=np.ascontiguousarray(cos[0, :, : head_size // 2].float().numpy()),
        sin=np.ascontiguousarray(sin[0, :, : head_size // 2].float().numpy()),
        epsilon=np.array([config.rms_norm_eps], np.float32),
    )


def blocks(weight: np.ndarray, size: int = BLOCK) -> np.ndarray:
    """A weight (..., outputs, n) as blocks (..., outputs / size, n, size), padded with zeros."""
    *others, outputs, n = weight.shape
    padded = np.pad(weight, [(0, 0)] * len(others) + [(0, -outputs % size), (0, 0)])
    return np.ascontiguousarray(padded.reshape(*others, -1, size, n).swapaxes(-1, -2))


def _pairs(num_heads: int, head_size: int) -> np.ndarray:
    """The order of a projection's outputs in which those that are rotated together, d and d + half, are neighbours."""
    half = head_size // 2
    low = np.arange(num_heads)[:, None] * head_size + np.arange(half)
    return np.stack([low, low + half], axis=-1).ravel()


def _array(part: Any) -> np.ndarray:
    found: np.ndarray = part.weight.detach().float().numpy()
    return found


def _is_bfloat16(weight: np.ndarray) -> bool:
    return not (weight.view(np.uint32) & 0xFFFF).any()


def _upper_half(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((weight.view(np.uint32) >> 16).astype(np.uint16))
