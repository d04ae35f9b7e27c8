"""What every training of a stand-in teacher or judge has: a network, a loss, a measure, and a folder it is saved in."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arra_med.encoders import load_encoder
from arra_med.encoders.base import fingerprint_weights
from arra_med.errors import TrainingError
from arra_med.imaging.view import from_uint8
from arra_med.training.encoder_data import EncoderImages

MEAN = STD = 0.5
"""Of every channel: the networks see pixels in [-1, 1]."""

_MEASURE_BATCH = 64


class EncoderTask(abc.ABC):
    """One kind of encoder.

    Attributes:
        network: What is trained and checkpointed.
        label_source: What supervises it, in words.
        uses_labels: Whether labels or reports are looked at.
        initialisation: `random`, or the encoder it starts from.
        initialisation_sha256: Fingerprints of the image network before the first step, and of that encoder.
    """

    network: nn.Module
    label_source: str
    uses_labels: bool
    initialisation: str = "random"
    initialisation_sha256: tuple[str, ...]

    @abc.abstractmethod
    def loss(self, images: Tensor, indices: Sequence[int], step: int) -> Tensor:
        """Returns the scalar to descend.

        Args:
            images: (B, C, S, S) float32 in [0, 1].
            indices: Which training images they are.
            step: Of the training; with the seed the only source of chance.
        """

    @abc.abstractmethod
    def measure(self, held_out: EncoderImages) -> dict[str, Any]:
        """Returns JSON values: `headline` holds the few numbers that a line can show."""

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the encoder in the layout that `arra_med.encoders.load_encoder` reads."""


def normalised(images: Tensor, channels: int) -> Tensor:
    """Returns images (B, C, S, S) in [0, 1] as (B, `channels`, S, S) in [-1, 1]."""
    return (images.expand(-1, channels, -1, -1) - MEAN) / STD


def evaluation_batches(images: EncoderImages, device: str) -> Iterator[Tensor]:
    """Yields the plain views in order, float32 (B, C, S, S) in [0, 1]."""
    for start in range(0, len(images), _MEASURE_BATCH):
        yield torch.from_numpy(from_uint8(images.views[start : start + _MEASURE_BATCH])).to(device)


def start_network(network: nn.Module, start_from: str | None) -> tuple[str, tuple[str, ...]]:
    """Fills an image network from another encoder, if asked for.

    Args:
        network: Randomly initialised; changed in place.
        start_from: A short name or folder of an encoder of the same network, or `None`.

    Returns:
        What it starts from, and the fingerprints to record. A timm network's classifier stays random and is no part of
        the fingerprint, so that networks of the same start are known by it whatever they learn.

    Raises:
        EncoderError: If the encoder cannot be loaded.
        TrainingError: If it is another network.
    """
    fingerprints: tuple[str, ...] = ()
    classifier = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    ignored = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    if start_from is not None:
        encoder = load_encoder(start_from)
        wanted = _without(network.state_dict(), ignored)
        found = _without(encoder.network.state_dict(), ignored)
        if {name: tensor.shape for name, tensor in wanted.items()} != {n: tensor.shape for n, tensor in found.items()}:
            raise TrainingError(
                f"start_from {encoder.name} is another network than encoder.model: name the same network in both"
            )
        network.load_state_dict({**network.state_dict(), **found})
        fingerprints = (encoder.fingerprint,)
        start_from = encoder.name
    trunk = nn.Module()
    for name, tensor in _without(network.state_dict(), ignored).items():
        trunk.register_buffer(name.replace(".", "/"), tensor)
    return start_from or "random", (fingerprint_weights(trunk), *fingerprints)


def batched(parts: Sequence[Tensor]) -> np.ndarray:
    """Returns the rows of several batches as one float32 array."""
    return torch.cat([part.float().cpu() for part in parts]).numpy()


def _without(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
