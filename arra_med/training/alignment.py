"""ARRA's two training-only parts: the projector, and the tap on the one aligned decoder block."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from arra_med.config import StrictModel
from arra_med.errors import ConfigError
from arra_med.training.losses import AlignmentKind


class AlignmentConfig(StrictModel):
    """The one block that turns fine-tuning into ARRA.

    Attributes:
        teacher_features: The file that `arra-med features` wrote for a teacher and this corpus.
        feature: Which global feature of the teacher.
        target: `hybnext` aligns every position that predicts an image token, `rep` the one `<REP>` token.
        layer: Decoder block whose output is aligned, counted from 1; or a fraction of the depth in (0, 1).
        weight: lambda; 0 trains exactly the baseline and only reports the alignment.
        loss: Cosine (the paper) or mean squared error.
        projector_width: Width of the projector's hidden layer.
        seed: Of the projector's initialisation, a random generator of its own.
    """

    teacher_features: Path
    feature: Literal["cls", "mean"] = "cls"
    target: Literal["hybnext", "rep"] = "hybnext"
    layer: int | float = 1
    weight: float = Field(default=1.0, ge=0)
    loss: AlignmentKind = "cosine"
    projector_width: int = Field(default=1024, gt=0)
    seed: int = 0


class Projector(nn.Module):
    """Two-layer perceptron from the language model's hidden states to the teacher's features; dropped after training.

    Args:
        hidden_size: Width of the hidden states.
        width: Width of the layer between.
        teacher_width: Width of the teacher's feature.
        seed: Of its own generator: building it draws nothing from torch's global one.
    """

    def __init__(self, hidden_size: int, width: int, teacher_width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.Sequential(nn.Linear(hidden_size, width), nn.SiLU(), nn.Linear(width, teacher_width))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., hidden_size) -> (..., teacher_width)."""
        projected: torch.Tensor = self.layers(hidden_states)
        return projected


class HiddenStateTap:
    """Takes the output of one decoder block during a forward pass, and keeps no other layer's.

    Gradient checkpointing runs blocks again in the backward pass and their hooks with them: the tap listens only
    inside `listen`, so a recomputation does not replace what was taken.
    """

    def __init__(self, blocks: nn.ModuleList, layer: int | float) -> None:
        self.layer = resolve_layer(layer, len(blocks))
        self._taken: torch.Tensor | None = None
        self._listening = False
        blocks[self.layer - 1].register_forward_hook(self._hook)

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Listens for one forward pass."""
        self._taken, self._listening = None, True
        try:
            yield
        finally:
            self._listening = False

    def take(self) -> torch.Tensor:
        """Returns the hidden states (B, L, D) and lets go of them."""
        taken, self._taken = self._taken, None
        if taken is None:
            raise RuntimeError("the aligned block did not run")
        return taken

    def _hook(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._listening:
            self._taken = output[0] if isinstance(output, tuple) else output


def resolve_layer(layer: int | float, num_layers: int) -> int:
    """Returns a block's number, counted from 1, for a number or a fraction of the depth.

    Raises:
        ConfigError: If it lies outside the model.
    """
    if isinstance(layer, float) and 0 < layer < 1:
        return max(1, round(layer * num_layers))
    if layer != int(layer) or not 1 <= layer <= num_layers:
        raise ConfigError(
            f"alignment.layer is {layer}; the model has blocks 1 to {num_layers} (or use a fraction below 1)"
        )
    return int(layer)


def decoder_blocks(language_model: Any) -> nn.ModuleList:
    """Returns the decoder blocks of a `transformers` causal LM (Llama, Qwen, SmolLM, GPT-2 kinds).

    Raises:
        ConfigError: If the architecture keeps them under another name.
    """
    for name in ("layers", "h", "decoder.layers"):
        found: Any = language_model.base_model
        for part in name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise ConfigError(
        f"{type(language_model).__name__} keeps its decoder blocks under an unknown name: cannot align it"
    )
