"""One optimiser step, and its learning rate, of the networks that are trained beside the language model."""

import math
from pathlib import Path

import torch

from arra_med.errors import TrainingError

_LAST_SHARE = 0.05
_MAX_GRADIENT_NORM = 1.0


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


def descend(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    network: torch.nn.Module,
    *,
    what: str,
    step: int,
    out: Path,
    remedy: str,
) -> None:
    """Takes one optimiser step, its gradient clipped to a norm of 1.

    Args:
        loss: The scalar to descend.
        optimizer: Of the network's parameters.
        network: What is trained.
        what: Is trained, for the message.
        step: Counted from 0, for the message.
        out: Folder of the checkpoint, for the message.
        remedy: What to change, for the message.

    Raises:
        TrainingError: If the loss or a gradient is not finite; no weight is touched then.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise TrainingError(
            f"{what} loss or gradient is not finite at step {step}; the last checkpoint in {out} is kept: {remedy}, and "
            "start the same command again"
        )
    optimizer.step()
