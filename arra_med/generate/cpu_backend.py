"""Decoding on a CPU with compiled kernels: Llama-shaped models, several times as fast as their transformers code.

The prompt is read by transformers itself, each different prompt once and alone, so that nothing about prompts is written
twice and no prompt depends on its batch; from the first image token on `cpu_kernels` takes over. Weights that bfloat16
holds exactly, as those of bundles, are kept in it, which halves what a step reads and changes no number.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedModel

from arra_med.errors import GenerationError
from arra_med.generate.cpu_arithmetic import BLOCK
from arra_med.generate.cpu_kernels import DecodingState, LlamaWeights, decode_row
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout

_PROJECTIONS = ("qkv", "out", "gate_up", "down")
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # others change with the length of the sequence


def unsupported_reason(model: PreTrainedModel, layout: SequenceLayout) -> str | None:
    """Why this backend cannot decode with a model; none if it can."""
    config = model.config
    if type(model) is not LlamaForCausalLM:
        return f"it decodes LlamaForCausalLM alone, this is {type(model).__name__}"
    if model.device.type != "cpu":
        return f"the model is on {model.device.type}"
    if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
        return "the model's layers have biases or another activation than silu"
    if (config.rope_parameters or {}).get("rope_type", "default") not in _FIXED_ROTATIONS:
        return "the model's rotary embedding changes with the length"
    if layout.row_end_ids:
        return "the layout has marks between rows"
    head_size = model.model.layers[0].self_attn.head_dim
    if head_size % BLOCK or config.hidden_size % BLOCK or config.intermediate_size % 2:
        return f"its heads ({head_size}) or width ({config.hidden_size}) are no multiples of {BLOCK}"
    return None


class CpuBackend:
    """Holds the packed weights of one model.

    Args:
        model: A Llama on the CPU; it must not be trained on while this is in use.
        layout: Of its sequences.
        int8: Keep the layers' weights as int8, one scale for each output: a quarter of float32's traffic, at a small
            loss that docs/performance.md measures. Embedding and head stay as they are.

    Raises:
        GenerationError: If the model is of another shape; see `unsupported_reason`.
    """

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout, *, int8: bool = False) -> None:
        if reason := unsupported_reason(model, layout):
            raise GenerationError(f"the cpu backend cannot be used here, {reason}: choose the transformers backend")
        self.model = model
        self.layout = layout
        self.name = "cpu-int8" if int8 else "cpu"
        self.weights = _pack(model, layout, int8)
        self.num_threads = min(torch.get_num_threads(), os.cpu_count() or 1)
        self._helpers = ThreadPoolExecutor(max(1, self.num_threads - 1), thread_name_prefix="arra-med-decode")
        self._lock = threading.Lock()  # more batches at once than processors would make every barrier wait

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> "CpuRows":
        """Reads the prompts of one batch; see `decoding.DecodingBackend`."""
        return CpuRows(self, prompts, rules)

    @torch.no_grad()
    def read_prompt(self, prompt: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns keys and values (L, kv heads, T, head size) of a prompt, and the logits (V,) of the first code."""
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([list(prompt)])
        hidden = self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[0, -1]
        head = self.model.get_output_embeddings().weight[self.layout.vocabulary.image_rows]
        keys, values = (torch.stack([getattr(layer, kind)[0] for layer in cache.layers]) for kind in ("keys", "values"))
        return keys, values, head @ hidden

    def run(self, state: DecodingState, noise: np.ndarray, rules: np.ndarray, is_started: bool) -> np.ndarray:
        """Chooses one row of codes, int64 (B, width); all threads do it together."""
        codes = np.empty((len(state.codes), len(noise)), np.int64)

        def work(thread: int) -> None:
            decode_row(self.weights, state, noise, rules, is_started, codes, thread, self.num_threads)

        with self._lock:
            others = [self._helpers.submit(work, thread) for thread in range(1, self.num_threads)]
            work(0)
            for other in others:
                other.result()
        return codes


class CpuRows:
    """The rows of one batch: each image's prompt, then, if guided, as many unconditional ones.

    Args:
        backend: Model and layout.
        prompts: Token ids, one list for each image.
        rules: Guidance and sampling.
    """

    def __init__(self, backend: CpuBackend, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> None:
        layout = backend.layout
        rows = [tuple(prompt) for prompt in prompts]
        if rules.is_guided:
            rows += [tuple(layout.unconditional_beside(prompt)) for prompt in prompts]
        rows += rows[:1] * (len(rows) % 2)  # the kernels take an even number
        self._backend, self._is_started = backend, False
        self._state = _empty_state(backend, len(prompts), rows)
        read = {prompt: backend.read_prompt(prompt) for prompt in dict.fromkeys(rows)}
        for row, prompt in enumerate(rows):
            keys, values, logits = (found.numpy() for found in read[prompt])
            self._state.keys[:, row, :, : len(prompt)] = keys
            self._state.values[:, row, :, : len(prompt)] = values
            self._state.logits[row, : len(logits)] = logits
        top_k = min(rules.top_k or len(logits), len(logits))
        top_p = 1.0 if rules.top_p is None else rules.top_p
        self._rules = np.array([rules.guidance_scale, rules.temperature, top_k, top_p])

    def next_row(self, noise: torch.Tensor) -> torch.Tensor:
        """Chooses the next row of codes, int64 (B, width), with standard Gumbel noise float32 (width, B, V)."""
        codes = self._backend.run(self._state, noise.numpy(), self._rules, self._is_started)
        self._is_started = True
        return torch.from_numpy(codes)

    @property
    def is_finite(self) -> bool:
        """Whether the last logits are numbers."""
        return bool(np.isfinite(self._state.logits).all())


def _empty_state(backend: CpuBackend, num_images: int, rows: Sequence[Sequence[int]]) -> DecodingState:
    weights, config = backend.weights, backend.model.config
    layers, kv_heads, head_size = len(weights.qkv), config.num_key_value_heads, 2 * weights.cos.shape[1]
    positions = max(map(len, rows)) + backend.layout.num_image_positions

    def floats(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    cache = (layers, len(rows), kv_heads, positions, head_size)
    query_size = config.num_attention_heads * head_size
    return DecodingState(
        keys=floats(*cache),
        values=floats(*cache),
        lengths=np.array([len(row) for row in rows]),
        x=floats(len(rows), config.hidden_size),
        normed=floats(backend.num_threads, len(rows), config.hidden_size),
        projected=floats(len(rows), max(getattr(weights, name).shape[1] for name in _PROJECTIONS)),
        queries=floats(len(rows), query_size),
        attended=floats(len(rows), query_size),
        scores=floats(backend.num_threads, positions),
        hidden=floats(len(rows), config.intermediate_size),
        logits=floats(len(rows), len(weights.head)),
        guided=floats(num_images, len(weights.embedding)),
        codes=np.zeros(num_images, np.int64),
        barrier=np.zeros(16, np.int64),
    )


@torch.no_grad()
def _pack(model: PreTrainedModel, layout: SequenceLayout, int8: bool) -> LlamaWeights:
    config = model.config
    base: Any = model.model
    head_size = base.layers[0].self_attn.head_dim
    turned = _pairs(config.num_attention_heads, head_size), _pairs(config.num_key_value_heads, head_size)
    sides = np.arange(config.intermediate_size).reshape(-1, 2)
    gate_up = np.concatenate([sides, sides + config.intermediate_size], axis=1).ravel()
    packed: dict[str, list[np.ndarray]] = {name: [] for name in _PROJECTIONS}
    gains = []
    for layer in base.layers:
        attention, mlp = layer.self_attn, layer.mlp
        query, key = (
            _array(part)[order] for part, order in zip((attention.q_proj, attention.k_proj), turned, strict=True)
        )
        packed["qkv"].append(np.concatenate([query, key, _array(attention.v_proj)]))
        packed["out"].append(_array(attention.o_proj))
        packed["gate_up"].append(np.concatenate([_array(mlp.gate_proj), _array(mlp.up_proj)])[gate_up])
        packed["down"].append(_array(mlp.down_proj))
        gains += [_array(layer.input_layernorm), _array(layer.post_attention_layernorm)]
    weights = {name: np.stack(parts) for name, parts in packed.items()}
    scales = [np.ones(part.shape[:2], np.float32) for part in weights.values()]
    head = _array(model.get_output_embeddings())[layout.vocabulary.image_rows]
    embedding = _array(model.get_input_embeddings())[layout.vocabulary.image_rows]
    padding = np.zeros((-len(head) % BLOCK, head.shape[1]), np.float32)
    weights["head"] = np.concatenate([head, padding])
    if int8:
        scales = [np.abs(weights[name]).max(axis=-1).clip(min=1e-12) / 127 for name in _PROJECTIONS]
        for name, scale in zip(_PROJECTIONS, scales, strict=True):
            weights[name] = np.round(weights[name] / scale[..., None]).astype(np.int8)
    exact = {name: part.dtype == np.int8 or _is_bfloat16(part) for name, part in weights.items()}
    if all(exact.values()):
        weights = {name: part if part.dtype == np.int8 else _upper_half(part) for name, part in weights.items()}
    positions = torch.arange(config.max_position_embeddings)[None]
    cos, sin = base.rotary_emb(torch.zeros(1), positions)
    return LlamaWeights(
        **weights,
        embedding=np.ascontiguousarray(embedding),
        scales=np.concatenate(scales, axis=1).astype(np.float32),
        gains=np.stack([*gains, _array(base.norm)]),
        cos=np.ascontiguousarray(cos[0, :, : head_size // 2].float().numpy()),
        sin=np.ascontiguousarray(sin[0, :, : head_size // 2].float().numpy()),
        epsilon=np.array([config.rms_norm_eps], np.float32),
    )


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
