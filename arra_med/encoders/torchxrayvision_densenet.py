"""TorchXRayVision's DenseNet-121 of chest radiographs, from the file that its library downloads.

The published files are whole pickled networks. They are read without running code: every class in them is replaced by
an empty `nn.Module`, whose tensors are then loaded, strictly, into timm's DenseNet-121, which has the same names. torch
reads no network so that was saved before version 1.6; the error for one says how its tensors are saved once.

Source: Cohen et al., "TorchXRayVision: A library of chest X-ray datasets and models", MIDL 2022;
`torchxrayvision.models.DenseNet` and `torchxrayvision.datasets.normalize` (version 1.5).
"""

import pickle
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map, grey_channel
from arra_med.encoders.published_file import published_file
from arra_med.errors import EncoderError
from arra_med.published_weights import read_published_weights, require_names_and_shapes

FILES = (
    "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
    "model.safetensors",
)
_SIZE_PX = 224
_CLASSIFIER = "classifier.weight"
_THRESHOLDS = "op_threshs"  # where a probability becomes a yes: not part of the features
_CLASSES = (
    *(f"torchxrayvision.models.{name}" for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")),
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.pooling.AvgPool2d",
    "torch.nn.modules.pooling.MaxPool2d",
)


class TorchXRayVisionEncoder(FrozenEncoder):
    """A DenseNet-121 of one gray channel in [-1024, 1024]: `mean` (1024 channels) and `patch`, no `cls`.

    `network.classifier(features.mean)` gives the logits of the file's pathologies.
    """

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the network on preprocessed pixels (B, 3, height, width), whose channels are equal."""
        return features_from_map(self.network.forward_features(grey_channel(pixels, self.name)))  # type: ignore[operator]


class _Shell(nn.Module):
    """Stands in for every class of a pickled network: it holds tensors and has no code of the file's."""


def load_torchxrayvision_encoder(model: str) -> TorchXRayVisionEncoder:
    """Builds the encoder with the published weights.

    Args:
        model: The published file, a state dict of that network, or the folder of either.

    Raises:
        EncoderError: If the file is missing, cannot be read without running its code, or is of another architecture.
    """
    path = published_file(model, "TorchXRayVision DenseNet-121", FILES, "~/.torchxrayvision/models_data of its library")
    found = _pickled_network(path) or _state_dict(path)
    num_classes = len(found[_CLASSIFIER]) if _CLASSIFIER in found else 0
    network = timm.create_model("densenet121", pretrained=False, in_chans=1, num_classes=num_classes)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    require_names_and_shapes(path, found, expected, EncoderError, ignored=(_THRESHOLDS,))
    network.load_state_dict({name: found[name] for name in expected}, strict=True)
    return TorchXRayVisionEncoder(f"torchxrayvision:{path.stem}", network, _preprocessing())


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        return read_published_weights(path, ("state_dict",), EncoderError)
    except EncoderError:
        raise EncoderError(
            f"{path}: is no checkpoint that can be read without running its code; where torchxrayvision is installed, run "
            "torch.save(torchxrayvision.models.DenseNet(weights='densenet121-res224-all').state_dict(), FILE) and give "
            "that file"
        ) from None


def _preprocessing() -> Preprocessing:
    # (2 x - 1) * 1024 for x in [0, 1], as datasets.normalize; the library resizes tensors with an antialiased bilinear.
    return Preprocessing((_SIZE_PX, _SIZE_PX), (0.5,) * 3, (1 / 2048,) * 3, interpolation="bilinear")


def _pickled_network(path: Path) -> dict[str, Tensor] | None:
    """Returns the tensors of a pickled network, or `None` if the file holds none that can be read so."""
    if path.suffix == ".safetensors":
        return None
    with torch.serialization.safe_globals([(_Shell, name) for name in _CLASSES]):
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
            return None
    return dict(loaded.state_dict()) if isinstance(loaded, _Shell) else None
