"""An encoder's network as it was before any training: the control that shows what a teacher's learning is worth."""

import hashlib

import torch
from torch import nn

from arra_med.encoders.base import FrozenEncoder, fingerprint_weights

_SPREAD = 0.02  # of parameters that no layer of torch's initialises: class tokens, position embeddings, scales


def reinitialised(encoder: FrozenEncoder) -> FrozenEncoder:
    """Draws every weight of an encoder's network anew; architecture and preprocessing stay.

    Layers draw by their own `reset_parameters`, what is left (class tokens, position embeddings) from a normal of
    spread 0.02. The generator is seeded by the encoder's shapes alone, so that every call gives the same weights.

    Args:
        encoder: The encoder; its network is changed in place.

    Returns:
        The same object, with a name and a fingerprint of its own.
    """
    shapes = sorted((name, tuple(value.shape)) for name, value in encoder.network.state_dict().items())
    seed = int.from_bytes(hashlib.sha256(repr(shapes).encode()).digest()[:4])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in encoder.network.modules():
            _reset(module)
    encoder.name = f"random:{encoder.name}"
    encoder.fingerprint = fingerprint_weights(encoder.network)
    return encoder


def _reset(module: nn.Module) -> None:
    for method in ("reset_parameters", "_reset_parameters"):
        if callable(reset := getattr(module, method, None)):
            reset()
            return
    for parameter in module.parameters(recurse=False):
        parameter.normal_(std=_SPREAD)
