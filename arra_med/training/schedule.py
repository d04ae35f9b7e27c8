"""The learning rate of the networks that are trained beside the language model."""

import math

_LAST_SHARE = 0.05


def cosine_rate(peak: float, warmup_steps: int, steps: int, step: int) -> float:
    """Returns the rate of a step: linear warm-up to `peak`, then a cosine down to a twentieth of it.

    Args:
        peak: The highest rate.
        warmup_steps: Steps of warm-up.
        steps: All steps.
        step: Counted from 0.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (_LAST_SHARE + (1 - _LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * done)))
