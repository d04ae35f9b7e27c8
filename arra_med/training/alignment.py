"""ARRA's training-only parts: projectors, the tap on the aligned decoder blocks, and the teacher's targets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from arra_med.config import StrictModel
from arra_med.errors import ConfigError
from arra_med.tokens.layout import SequenceLayout
from arra_med.training.losses import AlignmentKind, alignment_loss

Layer = int | float


class AlignmentConfig(StrictModel):
    """The one block that turns fine-tuning into ARRA; several of them align to several teachers at once.

    Attributes:
        teacher_features: The file that `arra-med features` wrote for a teacher and this corpus.
        feature: What of the teacher: one of its global features, `cls` and `mean` side by side, or `patch`: each position
            meets the teacher's patch at the place of the image token that it predicts.
        target: `hybnext` aligns every position that predicts an image token, `rep` the one `<REP>` token.
        layer: Decoder block whose output is aligned, counted from 1; or a fraction of the depth in (0, 1); or several of
            them, each with a projector of its own, whose losses are averaged.
        weight: lambda; 0 trains exactly the baseline and only reports the alignment.
        warmup_steps: Optimiser steps over which lambda rises from 0.
        end_step: Optimiser step from which lambda is 0; `null` aligns to the end.
        loss: Cosine (the paper) or mean squared error.
        projector_width: Width of the projector's hidden layers.
        projector_depth: Linear layers of the projector; 1 is one matrix, 2 the paper's.
        seed: Of the projector's initialisation, a random generator of its own.
    """

    teacher_features: Path
    feature: Literal["cls", "mean", "cls+mean", "trunk-cls", "patch"] = "cls"
    target: Literal["hybnext", "rep"] = "hybnext"
    layer: Layer | tuple[Layer, ...] = 1
    weight: float = Field(default=1.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    end_step: int | None = Field(default=None, gt=0)
    loss: AlignmentKind = "cosine"
    projector_width: int = Field(default=1024, gt=0)
    projector_depth: int = Field(default=2, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> "AlignmentConfig":
        if not self.layers:
            raise ValueError("layer names no block: give a number, a fraction, or a list of them")
        if self.feature == "patch" and self.target == "rep":
            raise ValueError("the one <REP> token has no place in the image: patch needs target hybnext")
        if self.end_step is not None and self.end_step <= self.warmup_steps:
            raise ValueError(f"end_step {self.end_step} must come after the {self.warmup_steps} warmup_steps")
        return self

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The aligned layers, also where it is one."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    def weight_at(self, step: int) -> float:
        """Returns lambda at an optimiser step, counted from 0."""
        if self.end_step is not None and step >= self.end_step:
            return 0.0
        return self.weight * min(1.0, step / self.warmup_steps) if self.warmup_steps else self.weight


class TeacherShape(NamedTuple):
    """What must be known of a teacher's features before they come.

    Attributes:
        width: Channels of the feature.
        grid: Patches down and across, for `patch`.
    """

    width: int
    grid: tuple[int, int] | None = None


class Projector(nn.Module):
    """Perceptron from the language model's hidden states to the teacher's features; dropped after training.

    Args:
        hidden_size: Width of the hidden states.
        width: Width of the layers between.
        teacher_width: Width of the teacher's feature.
        generator: Of its own: building it draws nothing from torch's global one.
        depth: Linear layers.
    """

    def __init__(
        self, hidden_size: int, width: int, teacher_width: int, generator: torch.Generator, depth: int = 2
    ) -> None:
        super().__init__()
        widths = [hidden_size, *[width] * (depth - 1), teacher_width]
        self.layers = nn.Sequential()
        with torch.random.fork_rng(devices=[]):
            for number, (before, after) in enumerate(pairwise(widths)):
                if number:
                    self.layers.append(nn.SiLU())
                self.layers.append(nn.Linear(before, after))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., hidden_size) -> (..., teacher_width)."""
        projected: torch.Tensor = self.layers(hidden_states)
        return projected


class Alignment(nn.Module):
    """The alignment to one teacher: a projector for each aligned layer, and the loss.

    Args:
        config: The settings.
        layout: Layout of the sequences, the only source of positions.
        hidden_size: Width of the language model's hidden states.
        num_layers: Its decoder blocks.
        teacher: Shape of the teacher's features.

    Attributes:
        layers: Numbers of the aligned blocks, counted from 1.

    Raises:
        ConfigError: If a layer lies outside the model, or `patch` is asked of a teacher without a grid.
    """

    def __init__(
        self, config: AlignmentConfig, layout: SequenceLayout, hidden_size: int, num_layers: int, teacher: TeacherShape
    ) -> None:
        super().__init__()
        self.config, self.layout, self.teacher = config, layout, teacher
        self.layers = [resolve_layer(layer, num_layers) for layer in config.layers]
        if len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"alignment.layer names block {_repeated(self.layers)} twice; name each block once")
        if config.feature == "patch" and teacher.grid is None:
            raise ConfigError("alignment.feature is patch, and the teacher's features have no grid: extract them again")
        generator = torch.Generator().manual_seed(config.seed)
        self.projectors = nn.ModuleList(
            Projector(hidden_size, config.projector_width, teacher.width, generator, config.projector_depth)
            for _ in self.layers
        )

    def forward(
        self, taken: Mapping[int, torch.Tensor], image_start: torch.Tensor, teacher_features: torch.Tensor
    ) -> torch.Tensor:
        """Returns the alignment loss, the mean over layers.

        Args:
            taken: (B, L, D) output of each aligned block, by its number.
            image_start: (B,) position of each row's first image token.
            teacher_features: (B, width), or (B, patches, width) for `patch`.
        """
        # the <REP> token stands right before the image, where the first image token is predicted
        offsets = [0] if self.config.target == "rep" else list(self.layout.image_offsets)
        aligned = image_start[:, None] - 1 + torch.tensor(offsets, device=image_start.device)
        if self.config.feature == "patch" and self.teacher.grid is not None:
            teacher_features = resample_patches(teacher_features, self.teacher.grid, self.layout.grid)
        losses = [
            alignment_loss(projector(at_positions(taken[layer], aligned)), teacher_features, self.config.loss)
            for layer, projector in zip(self.layers, self.projectors, strict=True)
        ]
        return torch.stack(losses).mean()


class HiddenStateTap:
    """Takes the outputs of some decoder blocks during a forward pass, and keeps no other layer's.

    Gradient checkpointing runs blocks again in the backward pass and their hooks with them: the tap listens only
    inside `listen`, so a recomputation does not replace what was taken.

    Args:
        blocks: The decoder blocks.
        layers: Numbers of those to take, counted from 1.
    """

    def __init__(self, blocks: nn.ModuleList, layers: Sequence[int]) -> None:
        self._layers = sorted(set(layers))
        self._taken: dict[int, torch.Tensor] = {}
        self._listening = False
        for layer in self._layers:
            blocks[layer - 1].register_forward_hook(lambda _m, _i, output, layer=layer: self._take(layer, output))

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Listens for one forward pass."""
        self._taken, self._listening = {}, True
        try:
            yield
        finally:
            self._listening = False

    def take(self) -> dict[int, torch.Tensor]:
        """Returns the hidden states (B, L, D) by layer and lets go of them."""
        taken, self._taken = self._taken, {}
        if missing := [layer for layer in self._layers if layer not in taken]:
            raise RuntimeError(f"the aligned block {missing[0]} did not run")
        return taken

    def _take(self, layer: int, output: Any) -> None:
        if self._listening:
            self._taken[layer] = output[0] if isinstance(output, tuple) else output


def resample_patches(features: torch.Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> torch.Tensor:
    """Resamples patch features to the grid of image tokens, so that each token has the teacher's patch at its place.

    Bilinear with the centres of the cells as sample points, and with antialiasing where the grid gets coarser.

    Args:
        features: (B, rows * columns, D) in raster order.
        grid: Rows and columns of the patches.
        wanted: Rows and columns of the image tokens.

    Returns:
        (B, rows * columns of `wanted`, D) float32.
    """
    cells = features.float().transpose(1, 2).unflatten(2, grid)
    if grid != wanted:
        cells = F.interpolate(cells, size=wanted, mode="bilinear", antialias=True)
    return cells.flatten(2).transpose(1, 2)


def at_positions(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Gathers (B, L, D) at positions (B, T) -> (B, T, D)."""
    return hidden_states.gather(1, positions[..., None].expand(-1, -1, hidden_states.shape[-1]))


def resolve_layer(layer: Layer, num_layers: int) -> int:
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


def _repeated(layers: Sequence[int]) -> int:
    return next(layer for layer in layers if layers.count(layer) > 1)
