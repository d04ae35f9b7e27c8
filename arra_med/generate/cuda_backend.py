"""Decoding on a GPU by replaying a captured step: one graph launch for each token, no waiting within a grid row.

The model is the bundle's own transformers code; what a token costs beside the GPU's work is one launch instead of
hundreds. Different prompts are read once each and shared out to the images that have them; conditional and unconditional
rows are one batch. A captured step and its cache belong to a number of images and a cache length (a multiple of 64), and
the last few are kept, so that requests of one size capture once.

Not run so far, for want of a GPU: capture and replay, several threads beside a capture, and any speed. All else, the
step itself included, is tested on a CPU, where it is called without a graph.
"""

import threading
import weakref
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, StaticCache
from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

from arra_med.errors import GenerationError
from arra_med.generate.sampling import GuidanceSchedule, SamplingRules
from arra_med.generate.static_step import StaticStep
from arra_med.generate.transformers_backend import ImageHead, left_padded, with_unconditional, without_adapter
from arra_med.tokens.layout import SequenceLayout

_LENGTH_STEP = 64
_MAX_KEPT = 2
_ATTENTIONS = ("sdpa", "eager")  # others cannot read a cache that is longer than what is in it
_CHANGING_ROTATIONS = ("dynamic", "longrope")  # they look at the positions' values on the host


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why this backend cannot decode with a model; none if it can."""
    inner = without_adapter(model)
    config = inner.config.get_text_config(decoder=True)
    try:
        kinds = {type(layer) for layer in StaticCache(config=inner.config, max_cache_len=_LENGTH_STEP).layers}
    except KeyError:  # a kind of layer that has no static cache
        kinds = {type(None)}
    if not inner._can_compile_fullgraph or not kinds <= {StaticLayer, StaticSlidingWindowLayer}:
        return f"{type(inner).__name__} has no static key-value cache"
    if config._attn_implementation not in _ATTENTIONS:
        return f"its attention is {config._attn_implementation}, not {' or '.join(_ATTENTIONS)}"
    rotations = getattr(config, "rope_parameters", None) or {}
    each = [rotations, *(part for part in rotations.values() if isinstance(part, dict))]
    if any(part.get("rope_type") in _CHANGING_ROTATIONS for part in each):
        return "the model's rotary embedding changes with the length"
    if len({parameter.device for parameter in inner.parameters()}) > 1:
        return "the model is spread over several devices"
    return None


class CudaGraphBackend:
    """Holds captured steps of one model.

    Args:
        model: On a GPU; on another device the same steps run without a graph, slowly.
        layout: Of its sequences.

    Raises:
        GenerationError: If the model has no static cache; see `unsupported_reason`.
    """

    name = "cuda-graph"

    def __init__(self, model: PreTrainedModel, layout: SequenceLayout) -> None:
        if reason := unsupported_reason(model):
            raise GenerationError(
                f"the cuda-graph backend cannot be used here, {reason}: choose the transformers backend"
            )
        self.model = model
        self.layout = layout
        self._head = ImageHead(model, layout)
        self._kept: list[StaticStep] = []  # the most recently used last; those in use are not among them
        self._lock = threading.RLock()

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> "CudaGraphRows":
        """Reads the prompts of one batch; see `decoding.DecodingBackend`."""
        return CudaGraphRows(self, prompts, rules)

    def take(self, num_images: int, rules: SamplingRules, length: int) -> StaticStep:
        """Returns a step that nobody else uses; give it back."""
        cache_length = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        shape = num_images, rules.is_guided, cache_length
        with self._lock:
            found = next((step for step in reversed(self._kept) if step.shape == shape), None)
            if found is not None:
                self._kept.remove(found)
                if found.rules != rules:
                    found.prepare(rules)
                return found
            try:
                return self._new_step(num_images, rules, cache_length)
            except torch.OutOfMemoryError:
                if not self._kept:
                    raise
            self._kept.clear()
            torch.cuda.empty_cache()
            return self._new_step(num_images, rules, cache_length)

    def _new_step(self, num_images: int, rules: SamplingRules, cache_length: int) -> StaticStep:
        return StaticStep(self.model, self.layout, self._head, num_images, rules, cache_length)

    def give_back(self, step: StaticStep) -> None:
        """Keeps a step for the next batch of its shape."""
        with self._lock:
            self._kept.append(step)
            del self._kept[:-_MAX_KEPT]


class CudaGraphRows:
    """The rows of one batch: each image's prompt, then, if guided, as many unconditional ones.

    Args:
        backend: Model and layout.
        prompts: Token ids, one list for each image.
        rules: Guidance and sampling.
    """

    def __init__(self, backend: CudaGraphBackend, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> None:
        layout = backend.layout
        rows = with_unconditional(prompts, rules, layout)
        number_of = {prompt: number for number, prompt in enumerate(dict.fromkeys(rows))}
        padded = left_padded(list(number_of), layout)
        length = padded.mask.shape[1] - 1  # the last token is drawn, never read
        self._step = backend.take(len(prompts), rules, length)
        weakref.finalize(self, backend.give_back, self._step).atexit = False  # also where a batch is left early
        self._row_end_ids, self._is_started = layout.row_end_ids, False
        self._guidance = GuidanceSchedule(rules, layout.num_image_tokens)
        self._step.read_prompts(padded, torch.tensor([number_of[row] for row in rows]))

    def next_row(self, noise: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Chooses the next row of codes, on the device; see `decoding.StartedRows`."""
        for mark in self._row_end_ids if self._is_started else ():
            self._step.write(mark)
        self._is_started = True
        return self._step.choose_row(noise, self._guidance.next_steps(len(noise)), kept)

    @property
    def finite(self) -> torch.Tensor:
        """Where the last row's logits are numbers; see `decoding.StartedRows`."""
        return self._step.finite
