"""The one interface of a frozen vision encoder: canonical views in, global and patch features out."""

import abc
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from arra_med.errors import EncoderError

Feature = Literal["cls", "mean", "patch", "trunk-cls"]
Interpolation = Literal["bicubic", "bilinear"]

_RGB_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class EncoderFeatures:
    """What a frozen encoder says about a batch of B views.

    Attributes:
        cls: (B, D) float32, the encoder's own global embedding (projected, where it has a projection), or None.
        mean: (B, Dm) float32, the mean of the patch features.
        patch: (B, N, Dp) float32, row by row from the top left; N = h * w.
        grid: (h, w), the number of patches down and across.
        trunk_cls: (B, Dt) float32, the global embedding before the projection, or None where there is no projection.
    """

    cls: Tensor | None
    mean: Tensor
    patch: Tensor
    grid: tuple[int, int]
    trunk_cls: Tensor | None = None

    def get(self, feature: Feature) -> Tensor:
        """Returns one feature by its name in a configuration.

        Raises:
            EncoderError: If the name is unknown or this encoder has no such feature.
        """
        if feature not in get_args(Feature):
            raise EncoderError(f"feature {feature!r} is unknown: use one of {', '.join(get_args(Feature))}")
        values: dict[str, Tensor | None] = {
            "cls": self.cls,
            "mean": self.mean,
            "patch": self.patch,
            "trunk-cls": self.trunk_cls,
        }
        value = values[feature]
        if value is None:
            there = ", ".join(name for name, tensor in values.items() if tensor is not None)
            raise EncoderError(
                f"feature {feature!r} was asked for, but this encoder has only {there}: choose one of these"
            )
        return value


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its pixels. The whole view is resized; nothing is cropped, so the encoder sees all of it.

    Attributes:
        size_px: (height, width) of the encoder's input.
        mean: Mean of each of the three channels, for pixels in [0, 1].
        std: Standard deviation of each of the three channels.
        interpolation: The resize filter, antialiased.
    """

    size_px: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"


class FrozenEncoder(nn.Module, abc.ABC):
    """A vision encoder that never trains: always in eval mode, no gradients, its own preprocessing.

    Args:
        name: What features and tables call this encoder; never a path.
        network: The network with its weights; it becomes `self.network`.
        preprocessing: What the network wants its pixels to be.

    Attributes:
        name: As given.
        fingerprint: SHA-256 over the network's weights; equal weights give equal fingerprints, whatever the name.
        preprocessing: As given.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(False)
        self.fingerprint = fingerprint_weights(network)
        self._widths: dict[str, int] = {}

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in eval mode, whatever a trainer that holds this module asks for."""
        super().train(False)
        return self

    def width(self, feature: Feature) -> int:
        """Returns the number of channels of a feature; the first call runs one blank view.

        Raises:
            EncoderError: If the name is unknown or this encoder has no such feature.
        """
        if feature not in self._widths:
            blank = torch.zeros(1, 1, *self.preprocessing.size_px, device=self.mean.device)
            self._widths[feature] = self(blank).get(feature).shape[-1]
        return self._widths[feature]

    def preprocess(self, views: Tensor) -> Tensor:
        """Turns canonical views into the network's input.

        Args:
            views: (B, C, S, S) floating point in [0, 1]; C is 1 (repeated to RGB) or 3.

        Returns:
            (B, 3, height, width) float32 on the encoder's device, resized and normalised.

        Raises:
            EncoderError: If the shape, dtype or range is another one.
        """
        check_views(views)
        pixels = views.to(self.mean.device, torch.float32).expand(-1, _RGB_CHANNELS, -1, -1)
        if pixels.shape[-2:] != self.preprocessing.size_px:
            pixels = nn.functional.interpolate(
                pixels, size=self.preprocessing.size_px, mode=self.preprocessing.interpolation, antialias=True
            )
            pixels = pixels.clamp(0.0, 1.0)  # bicubic overshoots at edges; image libraries clip there too
        return (pixels - self.mean.float()) / self.std.float()

    @torch.no_grad()
    def forward(self, views: Tensor) -> EncoderFeatures:
        """Encodes canonical views.

        Args:
            views: (B, C, S, S) floating point in [0, 1]; C is 1 or 3.

        Returns:
            The features, float32, on the encoder's device.

        Raises:
            EncoderError: If `views` is not of that kind.
        """
        pixels = self.preprocess(views)
        return self.encode_pixels(pixels.to(next(self.network.parameters()).dtype))

    @abc.abstractmethod
    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the network on preprocessed pixels (B, 3, height, width)."""


def features_from_map(feature_map: Tensor) -> EncoderFeatures:
    """Returns the features of a convolutional network's last map (B, D, h, w): no global embedding of its own."""
    patch = feature_map.flatten(2).transpose(1, 2).float()
    return EncoderFeatures(
        cls=None, mean=patch.mean(dim=1), patch=patch, grid=(feature_map.shape[2], feature_map.shape[3])
    )


def grey_channel(pixels: Tensor, name: str) -> Tensor:
    """Returns the one channel (B, 1, height, width) of gray pixels (B, 3, height, width).

    Raises:
        EncoderError: If the channels differ; `name` is the encoder's.
    """
    first = pixels[:, :1]
    if not torch.equal(first.expand_as(pixels), pixels):
        raise EncoderError(f"encoder {name} reads gray images, these are in colour: give it chest radiographs")
    return first


def fingerprint_weights(network: nn.Module) -> str:
    """Returns the SHA-256, in hex, over the state dict, sorted by name: name, dtype, shape, bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def three_channels(values: Sequence[float], source: str) -> tuple[float, float, float]:
    """Returns a published mean or standard deviation as three numbers.

    Raises:
        EncoderError: If there are not three of them; `source` names the file.
    """
    if len(values) != _RGB_CHANNELS:
        raise EncoderError(f"{source} names {len(values)} channels for mean or std; an RGB encoder (3) is required")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def square_grid(num_patches: int, name: str) -> tuple[int, int]:
    """Returns (h, h) with h * h = `num_patches`.

    Raises:
        EncoderError: If the patches form no square.
    """
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise EncoderError(f"encoder {name} gives {num_patches} patch tokens, which form no square grid: not supported")
    return side, side


def check_views(views: Tensor) -> None:
    """Makes sure that views are (B, 1 or 3, S, S), floating point, in [0, 1].

    Raises:
        EncoderError: If they are not.
    """
    if views.ndim != 4 or views.shape[1] not in (1, _RGB_CHANNELS) or not views.is_floating_point():
        raise EncoderError(
            f"views have shape {tuple(views.shape)} and type {views.dtype}; canonical views are "
            "(batch, 1 or 3, height, width), floating point"
        )
    if views.numel() == 0:
        raise EncoderError(f"views have shape {tuple(views.shape)}: give at least one view")
    low, high = views.amin().item(), views.amax().item()
    if not (low >= 0.0 and high <= 1.0):
        raise EncoderError(f"views range from {low:g} to {high:g}; canonical views lie in [0, 1] (divide uint8 by 255)")
