"""Sampling rules, and random numbers that belong to an image rather than to its batch.

A token is drawn by the Gumbel-max trick: the argmax of log-probability plus Gumbel noise is a draw from the softmax.
One noise vector per image and step makes a draw depend on the image's own seed and position only, and lets two models
that are given the same seed be compared under common random numbers.

Source: Gumbel, "Statistical Theory of Extreme Values", 1954; top-p: Holtzman et al., arXiv 1904.09751, section 3.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from arra_med.config import StrictModel
from arra_med.errors import GenerationError


class SamplingRules(StrictModel):
    """How the next token is chosen. Guidance comes first, then temperature, top-k and top-p.

    Attributes:
        temperature: Divides the logits; 0 takes the most probable token.
        top_k: Only the k most probable codes may be drawn; none: all.
        top_p: Only the most probable codes that together reach this probability may be drawn, at least one; none: all.
        guidance_scale: s in `unconditional + s * (conditional - unconditional)`; 1 leaves the report's logits as they
            are and halves the work, larger values follow the report more strictly.
        guidance_start: s of the first image token, from which it goes in equal steps to `guidance_scale` at the last one;
            none: `guidance_scale` everywhere. docs/results/beyond_the_paper.md has what a rising one did.
    """

    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    guidance_scale: float = Field(3.0, ge=0, allow_inf_nan=False)
    guidance_start: float | None = Field(None, ge=0, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _as_before(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves a schedule out that nobody asked for, so that hashes of what was drawn before there was one stay."""
        told: dict[str, Any] = written(self)
        return told if self.guidance_start is not None else {k: v for k, v in told.items() if k != "guidance_start"}

    @property
    def is_guided(self) -> bool:
        """Whether the unconditional branch is needed."""
        return self.guidance_scale != 1 or self.guidance_start not in (None, 1)


class GuidanceSchedule:
    """The guidance scales of an image's tokens, in their order.

    Args:
        rules: Of the sampling.
        num_tokens: Of an image.

    Source: a rising scale, as in Chang et al., arXiv 2301.00704, section 2.7.
    """

    def __init__(self, rules: SamplingRules, num_tokens: int) -> None:
        start = rules.guidance_scale if rules.guidance_start is None else rules.guidance_start
        self._scales = torch.linspace(start, rules.guidance_scale, num_tokens)
        self._place = 0

    def next_steps(self, num_steps: int) -> torch.Tensor:
        """Returns the scales of the next tokens, float32 (num_steps,) on the CPU."""
        self._place += num_steps
        return self._scales[self._place - num_steps : self._place]


class UniformStreams:
    """One stream of uniform numbers for each image, on the CPU whatever the model's device.

    Args:
        seeds: Seed of each image, 0 to 2**64 - 1.
        codebook_size: Numbers per step.
    """

    def __init__(self, seeds: Sequence[int], codebook_size: int) -> None:
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._codebook_size = codebook_size

    def next_steps(self, num_steps: int) -> torch.Tensor:
        """Draws the next numbers of every stream.

        Returns:
            float64 (num_steps, B, codebook_size) in [0, 1).
        """
        shape = (num_steps, self._codebook_size)
        drawn = torch.empty(num_steps, len(self._generators), self._codebook_size, dtype=torch.float64)
        for image, generator in enumerate(self._generators):
            drawn[:, image] = torch.rand(shape, generator=generator, dtype=torch.float64)
        return drawn


def gumbel_noise(uniforms: torch.Tensor) -> torch.Tensor:
    """Turns uniform numbers in [0, 1] into standard Gumbel noise, float32 and finite, of the same shape.

    Step by step: for large tensors torch wakes its other threads, which then spin for milliseconds where those of a
    decoder should be at work (0.4 ms a token on two cores).
    """
    limits = torch.finfo(torch.float64)
    noise = torch.empty(uniforms.shape, dtype=torch.float32)
    for step, numbers in enumerate(uniforms):
        noise[step] = -torch.log(-torch.log(numbers.double().clamp(limits.tiny, 1 - limits.eps / 2))).float()
    return noise


def guided_logits(
    conditional: torch.Tensor, unconditional: torch.Tensor, guidance_scale: float | torch.Tensor
) -> torch.Tensor:
    """Moves logits (B, ..., V) away from the unconditional ones (classifier-free guidance).

    The scale is one number, or a tensor of any shape that spreads over them.

    Source: Ho and Salimans, arXiv 2207.12598, with s = 1 + w; the form the paper (arXiv 2503.07334) samples with.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


def filtered_logits(logits: torch.Tensor, rules: SamplingRules) -> torch.Tensor:
    """Applies temperature, top-k and top-p.

    Args:
        logits: float32 (B, V).
        rules: Its temperature must be positive.

    Returns:
        float32 (B, V); codes that may not be drawn are -inf, at least one is left in each row.
    """
    logits = logits / rules.temperature
    if rules.top_k is not None and rules.top_k < logits.shape[-1]:
        weakest_kept = logits.topk(rules.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < weakest_kept, -torch.inf)
    if rules.top_p is not None and rules.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        outside = before >= rules.top_p
        outside[:, :1].zero_()  # in place: assigning False would make a tensor of it, which a captured step must not
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -torch.inf)
    return logits


def choose_tokens(logits: torch.Tensor, rules: SamplingRules, uniforms: torch.Tensor) -> torch.Tensor:
    """Chooses one code for each image.

    Args:
        logits: (B, V) over the codebook, guidance already applied.
        rules: Temperature, top-k and top-p.
        uniforms: float64 (B, V) in [0, 1), row b from the stream of image b; unused at temperature 0.

    Returns:
        int64 (B,), codes in [0, V).

    Raises:
        GenerationError: If the shapes differ.
    """
    if logits.shape != uniforms.shape:
        raise GenerationError(
            f"logits have shape {tuple(logits.shape)}, the uniform numbers {tuple(uniforms.shape)}: "
            "draw one number for each logit"
        )
    return choose_with_noise(logits, rules, gumbel_noise(uniforms).to(logits.device))


def choose_with_noise(logits: torch.Tensor, rules: SamplingRules, noise: torch.Tensor) -> torch.Tensor:
    """Chooses one code (B,) for each row of logits (B, V), given its Gumbel noise float32 (B, V) on the same device."""
    if rules.temperature == 0:
        return logits.float().argmax(dim=-1)
    return (filtered_logits(logits.float(), rules) + noise).argmax(dim=-1)
