"""A small convolutional autoencoder as a frozen encoder: a judge that has never seen a label.

Its folder holds `autoencoder.json` (the network's shape) and `model.safetensors`; writer and reader stand here.
"""

from pathlib import Path

import pydantic
from monai.networks.nets import AutoEncoder
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from arra_med.config import StrictModel
from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map, grey_channel
from arra_med.encoders.hub import display_name, model_file, read_json
from arra_med.errors import EncoderError
from arra_med.runs import atomic_file, write_json

SHAPE_FILE = "autoencoder.json"
_WEIGHTS_FILE = "model.safetensors"
_MEAN = _STD = (0.5, 0.5, 0.5)


class AutoencoderShape(StrictModel):
    """Shape of the network.

    Attributes:
        size_px: Side of the square input.
        channels: Of the input: 1 (gray) or 3 (RGB).
        widths: Channels after each halving, the bottleneck's last.
    """

    size_px: int = Field(gt=0)
    channels: int = Field(ge=1, le=3)
    widths: tuple[int, ...] = Field(default=(32, 64, 96, 16), min_length=1)

    @pydantic.model_validator(mode="after")
    def _halvings_fit(self) -> "AutoencoderShape":
        if self.size_px % 2 ** len(self.widths):
            raise ValueError(f"size_px must be a multiple of {2 ** len(self.widths)}, as there are that many halvings")
        return self


class ConvolutionalAutoencoder(nn.Module):
    """MONAI's autoencoder over images (B, C, S, S) in [-1, 1].

    Its batch norms keep an image's own brightness and contrast in the bottleneck; instance norms would remove them.
    """

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = AutoEncoder(
            spatial_dims=2,
            in_channels=shape.channels,
            out_channels=shape.channels,
            channels=shape.widths,
            strides=(2,) * len(shape.widths),
            norm="BATCH",
        )

    def encode(self, images: Tensor) -> Tensor:
        """Returns the bottleneck (B, D, h, w)."""
        return self.layers.encode(images)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the images (B, C, S, S) as decoded from the bottleneck."""
        return self.layers(images)


class AutoencoderEncoder(FrozenEncoder):
    """The encoder half. `cls` is the whole bottleneck side by side, from which the image is decoded."""

    network: ConvolutionalAutoencoder

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the encoder half on preprocessed pixels (B, 3, height, width)."""
        images = grey_channel(pixels, self.name) if self.network.shape.channels == 1 else pixels
        features = features_from_map(self.network.encode(images))
        return EncoderFeatures(
            cls=features.patch.flatten(1), mean=features.mean, patch=features.patch, grid=features.grid
        )


def save_autoencoder(network: ConvolutionalAutoencoder, folder: Path) -> None:
    """Writes the network into a folder, atomically."""
    with atomic_file(folder / _WEIGHTS_FILE) as partial:
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, partial)
    write_json(folder / SHAPE_FILE, network.shape.model_dump(mode="json"))


def load_autoencoder_encoder(model: str) -> AutoencoderEncoder:
    """Loads the encoder from a folder that `save_autoencoder` wrote.

    Raises:
        EncoderError: If files are missing, damaged or do not fit.
    """
    shape_file, weights_file = model_file(model, [SHAPE_FILE]), model_file(model, [_WEIGHTS_FILE])
    try:
        network = ConvolutionalAutoencoder(AutoencoderShape.model_validate(read_json(shape_file)))
        network.load_state_dict(load_file(weights_file), strict=True)
    except (pydantic.ValidationError, RuntimeError, SafetensorError, OSError):
        raise EncoderError(
            f"{display_name(model)}: {_WEIGHTS_FILE} is damaged or does not fit {SHAPE_FILE}: train the autoencoder again"
        ) from None
    size = (network.shape.size_px, network.shape.size_px)
    return AutoencoderEncoder(f"autoencoder:{display_name(model)}", network, Preprocessing(size, _MEAN, _STD))
