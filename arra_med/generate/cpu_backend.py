"""Decoding on a CPU with compiled kernels: Llama-shaped models, several times as fast as their transformers code.

The prompt is read by transformers itself, each different prompt once and alone, so that nothing about prompts is written
twice and no prompt depends on its batch; from the first image token on `cpu_kernels` takes over. Weights that bfloat16
holds exactly, as those of bundles, are kept in it, which halves what a step reads and changes no number.
"""

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedModel

from arra_med.errors import GenerationError
from arra_med.generate.cpu_arithmetic import BLOCK
from arra_med.generate.cpu_kernels import DecodingState, decode_row
from arra_med.generate.cpu_packing import blocks, pack
from arra_med.generate.cpu_threads import ThreadChoice
from arra_med.generate.sampling import GuidanceSchedule, SamplingRules
from arra_med.generate.transformers_backend import with_unconditional
from arra_med.tokens.layout import SequenceLayout

_KEPT = 4
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # others change with the length of the sequence


def unsupported_reason(model: PreTrainedModel, layout: SequenceLayout) -> str | None:
    """Why this backend cannot decode with a model; none if it can."""
    config = model.config
    if type(model) is not LlamaForCausalLM:
        return f"it decodes LlamaForCausalLM alone, this is {type(model).__name__}"
    if model.device.type != "cpu":
        return f"the model is on {model.device.type}"
    if model.dtype != torch.float32:
        return f"it computes in float32, the model in {str(model.dtype).removeprefix('torch.')}"
    if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
        return "the model's layers have biases or another activation than silu"
    if (config.rope_parameters or {}).get("rope_type", "default") not in _FIXED_ROTATIONS:
        return "the model's rotary embedding changes with the length"
    if layout.row_end_ids:
        return "the layout has marks between rows"
    head_size = model.model.layers[0].self_attn.head_dim
    if head_size % 2:
        return f"its heads have an odd size ({head_size})"
    return None


class ReadPrompt(NamedTuple):
    """What a prompt leaves behind; float32.

    Attributes:
        keys: (L, kv heads, T / BLOCK, head size, BLOCK).
        values: (L, kv heads, head size / BLOCK, T, BLOCK).
        logits: (V,), of the first code.
    """

    keys: np.ndarray
    values: np.ndarray
    logits: np.ndarray


class CpuBackend:
    """Holds the packed weights of one model.

    Args:
        model: A Llama on the CPU; it must not be trained on while this is in use.
        layout: Of its sequences.
        int8: Keep the layers' weights as int8, one scale for each output: a quarter of float32's traffic, at a small
            loss that docs/performance.md measures. Embedding and head stay as they are.

    Attributes:
        choices: Of the number of threads, by the rows of a batch.

    Raises:
        GenerationError: If the model is of another shape; see `unsupported_reason`.
    """

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout, *, int8: bool = False) -> None:
        if reason := unsupported_reason(model, layout):
            raise GenerationError(f"the cpu backend cannot be used here, {reason}: choose the transformers backend")
        self.model = model
        self.layout = layout
        self.name = "cpu-int8" if int8 else "cpu"
        self.weights = pack(model, layout, int8)
        self.num_threads = min(torch.get_num_threads(), os.cpu_count() or 1)
        self._helpers = ThreadPoolExecutor(max(1, self.num_threads - 1), thread_name_prefix="arra-med-decode")
        self.choices: dict[int, ThreadChoice] = {}
        self._lock = threading.Lock()  # more batches at once than processors would make every barrier wait
        self._unconditional: dict[tuple[int, ...], ReadPrompt] = {}  # the same for image after image

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> "CpuRows":
        """Reads the prompts of one batch; see `decoding.DecodingBackend`."""
        return CpuRows(self, prompts, rules)

    def read_unconditional(self, prompt: tuple[int, ...]) -> "ReadPrompt":
        """As `read_prompt`, for the few prompts that stand beside all others; reads each once."""
        if prompt not in self._unconditional:
            self._unconditional = {
                **dict(list(self._unconditional.items())[-_KEPT + 1 :]),
                prompt: self.read_prompt(prompt),
            }
        return self._unconditional[prompt]

    @torch.no_grad()
    def read_prompt(self, prompt: Sequence[int]) -> "ReadPrompt":
        """Reads one prompt with the model's own code."""
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([list(prompt)])
        hidden = self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state[0, -1]
        head = self.model.get_output_embeddings().weight[self.layout.vocabulary.image_rows]
        keys, values = (torch.stack([getattr(layer, kind)[0] for layer in cache.layers]) for kind in ("keys", "values"))
        return ReadPrompt(blocks(keys.numpy()), blocks(values.mT.numpy()), (head @ hidden).numpy())

    def run(
        self,
        state: DecodingState,
        noise: np.ndarray,
        guidance: np.ndarray,
        rules: np.ndarray,
        is_started: bool,
        codes: np.ndarray,
        finite: np.ndarray,
    ) -> None:
        """Writes one row of codes into int64 (B, width) where they are negative, and `finite`; see `decode_row`."""
        choice = self.choices.setdefault(len(state.lengths), ThreadChoice(self.num_threads))
        with self._lock:
            start = 0
            while start < codes.shape[1]:
                num_threads, num_tokens = choice.next_run() if is_started else (self.num_threads, 1)
                columns = slice(start, min(start + num_tokens, codes.shape[1]))
                part = np.ascontiguousarray(codes[:, columns])
                drawn = noise[columns], guidance[columns], rules
                seconds = self._decode(state, drawn, is_started, part, finite[columns], num_threads)
                if is_started:  # else no token was read, and the code of the kernels came from disk
                    choice.took(part.shape[1], seconds)
                codes[:, columns] = part
                start, is_started = columns.stop, True

    def _decode(
        self,
        state: DecodingState,
        drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
        is_started: bool,
        codes: np.ndarray,
        finite: np.ndarray,
        num_threads: int,
    ) -> float:
        """Calls `decode_row` in some threads with noise, guidance and rules; returns the seconds since the last woke up."""
        began = [0.0] * num_threads

        def work(thread: int) -> None:
            began[thread] = time.perf_counter()
            decode_row(self.weights, state, *drawn, is_started, codes, finite, thread, num_threads)

        others = [self._helpers.submit(work, thread) for thread in range(1, num_threads)]
        work(0)
        for other in others:
            other.result()
        return time.perf_counter() - max(began)


class CpuRows:
    """The rows of one batch: each image's prompt, then, if guided, as many unconditional ones.

    Args:
        backend: Model and layout.
        prompts: Token ids, one list for each image.
        rules: Guidance and sampling.
    """

    def __init__(self, backend: CpuBackend, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> None:
        layout = backend.layout
        rows = with_unconditional(prompts, rules, layout)
        rows += rows[:1] * (len(rows) % 2)  # the kernels take an even number
        self._backend, self._is_started = backend, False
        self._finite = np.ones((layout.grid[1], len(prompts)), np.bool_)
        self._state = _empty_state(backend, len(prompts), rows)
        read = {prompt: backend.read_prompt(prompt) for prompt in dict.fromkeys(rows[: len(prompts)])}
        for row, prompt in enumerate(rows):
            keys, values, logits = read.get(prompt) or backend.read_unconditional(prompt)
            self._state.keys[:, row, :, : keys.shape[2]] = keys
            self._state.values[:, row, :, :, : len(prompt)] = values
            self._state.logits[row] = logits
        top_k = min(rules.top_k or len(logits), len(logits))
        top_p = 1.0 if rules.top_p is None else rules.top_p
        self._rules = np.array([rules.temperature, top_k, top_p])
        self._guidance = GuidanceSchedule(rules, layout.num_image_tokens)

    def next_row(self, noise: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Chooses the next row of codes; see `decoding.StartedRows`."""
        shape = len(self._state.codes), len(noise)
        codes = np.full(shape, -1, np.int64) if kept is None else kept.numpy().copy()
        finite = self._finite[: len(noise)]
        guidance = self._guidance.next_steps(len(noise)).numpy()
        self._backend.run(self._state, noise.numpy(), guidance, self._rules, self._is_started, codes, finite)
        self._is_started = True
        return torch.from_numpy(codes)

    @property
    def finite(self) -> torch.Tensor:
        """Where the last row's logits are numbers; see `decoding.StartedRows`."""
        return torch.from_numpy(self._finite.all(axis=1))


def _empty_state(backend: CpuBackend, num_images: int, rows: Sequence[Sequence[int]]) -> DecodingState:
    weights, config = backend.weights, backend.model.config
    layers, kv_heads, head_size = len(weights.qkv), config.num_key_value_heads, 2 * weights.cos.shape[1]
    positions = max(map(len, rows)) + backend.layout.num_image_positions

    def floats(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    heads, group = (layers, len(rows), kv_heads), config.num_attention_heads // kv_heads
    query_size = config.num_attention_heads * head_size
    return DecodingState(
        keys=floats(*heads, _padded(positions) // BLOCK, head_size, BLOCK),
        values=floats(*heads, _padded(head_size) // BLOCK, positions, BLOCK),
        lengths=np.array([len(row) for row in rows]),
        x=floats(len(rows), _padded(config.hidden_size)),
        normed=floats(backend.num_threads, len(rows), config.hidden_size),
        projected=floats(backend.num_threads, max(len(rows), group), BLOCK),
        queries=floats(len(rows), query_size),
        attended=floats(len(rows), query_size),
        scores=floats(backend.num_threads, group, _padded(positions)),
        hidden=floats(len(rows), _padded(config.intermediate_size)),
        logits=floats(len(rows), len(weights.embedding)),
        guided=floats(num_images, len(weights.embedding)),
        codes=np.zeros(num_images, np.int64),
        barrier=np.zeros(16, np.int64),
    )


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
