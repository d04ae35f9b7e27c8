"""Decoding image tokens: one interface, behind it the backends that read tokens and choose codes.

A backend holds one model and starts batches; a started batch chooses one grid row of codes after the other. Random
numbers are drawn here, one stream for each image, so that every backend draws the same image from the same seed but for
the rounding of its sums.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel

from arra_med.errors import ArraMedError, GenerationError
from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.sampling import SamplingRules, UniformStreams, gumbel_noise
from arra_med.generate.transformers_backend import TransformersBackend, without_adapter
from arra_med.tokens.layout import SequenceLayout

BACKENDS = ("auto", "transformers", "cpu", "cpu-int8", "cuda-graph")
"""Names that `open_backend` knows."""


FREE = -1
"""Stands for a code that is yet to be chosen."""


class StartedRows(Protocol):
    """A batch whose prompts have been prepared."""

    def next_row(self, noise: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Chooses the next row of codes.

        Args:
            noise: Standard Gumbel noise, float32 (width, B, V).
            kept: int64 (B, width): a code that is to stand there, or `FREE` where one is to be chosen; none: all free.

        Returns:
            int64 (B, width); a device may still be at work on them.
        """
        ...

    @property
    def finite(self) -> torch.Tensor:
        """For each column of the last row, whether what every image's code was chosen from are numbers; bool (width,)."""
        ...


class DecodingBackend(Protocol):
    """Decodes with one model, which must not change while the backend is in use.

    Attributes:
        name: As in `BACKENDS`.
    """

    name: str

    def start(self, prompts: Sequence[Sequence[int]], rules: SamplingRules) -> StartedRows:
        """Prepares a batch of prompts, token ids from `layout.prompt_ids`, one list for each image."""
        ...


def require_backend(name: str) -> None:
    """Makes sure that a decoder of this name exists.

    Raises:
        GenerationError: If there is none.
    """
    if name not in BACKENDS:
        raise GenerationError(f"backend {name!r} is unknown: choose one of {', '.join(BACKENDS)}")


def open_backend(name: str, model: PreTrainedModel, layout: SequenceLayout) -> DecodingBackend:
    """Prepares a model for decoding.

    Args:
        name: `transformers` (any model, the reference), `cpu` (Llamas on a CPU, compiled), `cpu-int8` (the same with
            quantised weights), `cuda-graph` (models with a static cache on a GPU, captured; by name only, until it has
            been run on one), or `auto`: `cpu` where it can be used, else `transformers`.
        model: A causal language model with an image vocabulary.
        layout: Of its sequences.

    Raises:
        GenerationError: If the name is unknown, or the backend cannot be used with the model or on this machine.
    """
    require_backend(name)
    if name == "cuda-graph" and model.device.type != "cuda":
        raise GenerationError(
            f"the cuda-graph backend needs the model on a GPU of CUDA, it is on {model.device.type}: give --device cuda, "
            "or choose another backend"
        )
    if name == "cuda-graph":
        return CudaGraphBackend(model, layout)
    if name == "transformers":
        return TransformersBackend(model, layout)
    try:
        from arra_med.generate import cpu_backend
    except (ImportError, OSError, RuntimeError) as error:  # no Numba for this machine, or nowhere to keep its results
        if name == "auto":
            return TransformersBackend(model, layout)
        raise GenerationError(
            f"the {name} backend needs Numba, which does not start here ({type(error).__name__}): choose the "
            "transformers backend, or set NUMBA_CACHE_DIR to a folder that can be written"
        ) from error
    if name == "auto" and cpu_backend.unsupported_reason(model, layout) is not None:
        return TransformersBackend(model, layout)
    return cpu_backend.CpuBackend(model, layout, int8=name == "cpu-int8")


def free_memory() -> None:
    """Gives memory of an accelerator back that nothing uses any more, after a batch for which it was too small."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class GenerationStopped(ArraMedError):  # noqa: N818 (an end that was asked for, no error)
    """The caller asked for an end before the images were finished."""


def decode_image_tokens(
    model: PreTrainedModel,
    layout: SequenceLayout,
    prompts: Sequence[Sequence[int]],
    rules: SamplingRules,
    seeds: Sequence[int],
    on_row: Callable[[int, torch.Tensor], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    backend: DecodingBackend | None = None,
) -> torch.Tensor:
    """Generates the codes of one image for each prompt.

    Args:
        model: Any Hugging Face causal language model with an image vocabulary.
        layout: Vocabulary, grid and the unconditional prompt.
        prompts: Token ids from `layout.prompt_ids`, one list per image; lengths may differ.
        rules: Guidance and sampling.
        seeds: Seed of each image; its codes do not depend on the other images of the batch.
        on_row: Called after each grid row with the row's number (from 0) and the codes so far, int64 (B, row + 1, w).
        should_stop: Asked after each grid row but the last.
        backend: Opened with this model and layout; none: its transformers code.

    Returns:
        int64 (B, h, w) on the CPU, codes in [0, codebook_size).

    Raises:
        GenerationError: See `stream_image_tokens`.
        GenerationStopped: If `should_stop` returned true; no codes are returned then.
    """
    codes = torch.empty(0)
    with contextlib.closing(stream_image_tokens(model, layout, prompts, rules, seeds, backend)) as rows:
        for row, codes in enumerate(rows):
            if on_row is not None:
                on_row(row, codes)
            if row + 1 < layout.grid[0] and should_stop is not None and should_stop():
                raise GenerationStopped(
                    f"generation was stopped after row {row + 1} of {layout.grid[0]}; start it again"
                )
    return codes


def stream_image_tokens(
    model: PreTrainedModel,
    layout: SequenceLayout,
    prompts: Sequence[Sequence[int]],
    rules: SamplingRules,
    seeds: Sequence[int],
    backend: DecodingBackend | None = None,
    kept: torch.Tensor | None = None,
) -> Generator[torch.Tensor, None, None]:
    """Generates like `decode_image_tokens`; closing the iterator ends the work.

    Args:
        model: As there, like all that is not named here.
        layout: As there.
        prompts: As there.
        rules: As there.
        seeds: As there. Each code has its own random numbers, so that one which is drawn anew draws the same beside
            any kept ones.
        backend: As there.
        kept: int64 (B, h, w): codes that are to stay, which all later ones then follow; `FREE` where one is to be
            drawn. None: all are drawn.

    Yields:
        int64 (B, r, w) on the CPU after each grid row r = 1..h.

    Raises:
        GenerationError: If there is no prompt, prompts and seeds differ in number, the sequence is longer than the
            model's positions, the head has no rows for the codebook, a kept code is none of the codebook, or the
            model's numbers are not finite.
    """
    height, width = layout.grid
    _check(model, layout, prompts, seeds)
    if kept is not None:
        _check_kept(layout, len(prompts), kept)
    was_training = model.training
    model.eval()
    try:
        streams = UniformStreams(seeds, layout.vocabulary.codebook_size)
        rows = (backend or TransformersBackend(model, layout)).start(prompts, rules)
        codes = torch.empty(len(prompts), height, width, dtype=torch.long)
        noise = gumbel_noise(streams.next_steps(width))
        for row in range(height):
            chosen = rows.next_row(noise, None if kept is None else kept[:, row])
            if row + 1 < height:
                noise = gumbel_noise(streams.next_steps(width))  # while a device is at work on the row
            codes[:, row] = chosen.cpu()
            finite = rows.finite.cpu()
            if not finite.all():
                column = int(finite.long().argmin())
                raise GenerationError(
                    f"the model's logits are not finite at image token {row * width + column + 1} of {height * width} "
                    f"(row {row + 1}, column {column + 1}): its weights are damaged, or guidance or number format "
                    "overflows; use a guidance below 100 and float32, or copy the bundle again"
                )
            yield codes[:, : row + 1].clone()
    finally:
        model.train(was_training)


def _check_kept(layout: SequenceLayout, num_images: int, kept: torch.Tensor) -> None:
    shape, codebook_size = (num_images, *layout.grid), layout.vocabulary.codebook_size
    if tuple(kept.shape) != shape:
        raise GenerationError(
            f"kept codes have shape {tuple(kept.shape)}, required is {shape}: give one for each place"
        )
    if kept.min() < FREE or kept.max() >= codebook_size:
        raise GenerationError(
            f"kept codes lie between {int(kept.min())} and {int(kept.max())}, the codebook has 0 to {codebook_size - 1}: "
            "encode the image with the bundle's own image tokenizer"
        )


def _check(
    model: PreTrainedModel, layout: SequenceLayout, prompts: Sequence[Sequence[int]], seeds: Sequence[int]
) -> None:
    if not prompts:
        raise GenerationError("no prompt was given: give at least one report")
    if len(prompts) != len(seeds):
        raise GenerationError(f"{len(prompts)} prompts came with {len(seeds)} seeds: give one seed for each image")
    if empty := [str(index) for index, prompt in enumerate(prompts) if not prompt]:
        raise GenerationError(f"the prompt of image {', '.join(empty)} is empty: build prompts with layout.prompt_ids")
    num_positions = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts))
    needed = longest + layout.num_image_positions - 1  # the last token is drawn, never read
    if num_positions is not None and needed > num_positions:
        raise GenerationError(
            f"a prompt of {longest} tokens and {layout.num_image_positions} image tokens need {needed} positions, "
            f"the model has {num_positions}: shorten the report"
        )
    end_image_id = layout.vocabulary.end_image_id
    num_rows = without_adapter(model).get_output_embeddings().weight.shape[0]
    if end_image_id > num_rows:
        raise GenerationError(
            f"the image vocabulary ends at token {end_image_id}, the model's head at {num_rows}: model and layout are "
            "of different bundles"
        )
