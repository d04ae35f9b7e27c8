"""Two ways for the decoder blocks to compute a step with less: again instead of keeping everything, or compiled."""

from typing import Any

import torch

from arra_med.errors import ConfigError
from arra_med.training.alignment import decoder_blocks


def enable_gradient_checkpointing(language_model: Any) -> None:
    """Turns it on, non-reentrant, by the name that this version of transformers has for it."""
    settings = {"use_reentrant": False}
    if hasattr(language_model, "activation_checkpointing_enable"):
        language_model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    else:
        language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def compile_blocks(language_model: Any) -> None:
    """Compiles every decoder block by itself, in place.

    One graph serves all blocks, so compiling takes the time of one, and hooks (the tap of the aligned block, FSDP2's)
    stay outside of it. Weights keep their names.

    Raises:
        ConfigError: If `torch.compile` does not work on this machine.
    """
    device = next(language_model.parameters()).device
    try:
        torch.compile(torch.cos)(torch.zeros(1, device=device))
    except Exception as error:  # noqa: BLE001 - whatever the compilers of this machine raise
        raise ConfigError(
            f"compile is true, and torch.compile does not work here ({type(error).__name__}): on a CPU it needs a C++ "
            "compiler and Python's headers (apt-get install g++ python3-dev), on a GPU triton; or set compile to false"
        ) from None
    for block in decoder_blocks(language_model):
        block.forward = torch.compile(block.forward, dynamic=True)
