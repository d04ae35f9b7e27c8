"""Any timm vision model with published weights, by name, hub id or local folder.

Source: https://huggingface.co/docs/timm; a folder holds `config.json` (architecture, pretrained_cfg) and the weights.
"""

import difflib
import logging
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from arra_med.encoders.base import (
    EncoderFeatures,
    FrozenEncoder,
    Interpolation,
    Preprocessing,
    features_from_map,
    square_grid,
    three_channels,
)
from arra_med.encoders.hub import display_name, model_file, read_json
from arra_med.errors import EncoderError

_CONFIG_FILE = "config.json"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_INTERPOLATIONS: tuple[Interpolation, ...] = ("bicubic", "bilinear")


class TimmEncoder(FrozenEncoder):
    """A timm model. `cls` is its pooled class token (or attention pool); a convolutional network has none.

    Its classifier, where the weights have one, is loaded and hashed but not used.
    """

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the model on preprocessed pixels (B, 3, height, width)."""
        network = self.network
        features = network.forward_features(pixels)  # type: ignore[operator]
        if features.ndim == 4:
            if getattr(network, "output_fmt", "NCHW") == "NHWC":
                features = features.permute(0, 3, 1, 2)
            return features_from_map(features)
        num_prefix = int(getattr(network, "num_prefix_tokens", 0))
        patch = features[:, num_prefix:].float()
        return EncoderFeatures(
            cls=self._global_embedding(features),
            mean=patch.mean(dim=1),
            patch=patch,
            grid=self._grid(pixels, patch.shape[1]),
        )

    def _global_embedding(self, features: Tensor) -> Tensor | None:
        pooling = getattr(self.network, "global_pool", None)
        if pooling in ("token", "map"):
            return self.network.forward_head(features, pre_logits=True).float()  # type: ignore[operator]
        return None if getattr(self.network, "cls_token", None) is None else features[:, 0].float()

    def _grid(self, pixels: Tensor, num_patches: int) -> tuple[int, int]:
        patch_size = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        if patch_size is not None:
            grid = (pixels.shape[2] // patch_size[0], pixels.shape[3] // patch_size[1])
            if grid[0] * grid[1] == num_patches:
                return grid
        return square_grid(num_patches, self.name)


def load_timm_encoder(model: str) -> TimmEncoder:
    """Builds a timm model with its published weights.

    Args:
        model: A timm name (`vit_small_patch16_224.augreg_in21k`), a hub id, or a folder in the hub's layout.

    Raises:
        EncoderError: If the name is unknown or has no published weights, files are missing, damaged or do not fit, or
            the hub cannot be reached.
    """
    source = model if Path(model).expanduser().is_dir() or "/" in model else _hub_id(model)
    config = model_file(source, [_CONFIG_FILE])
    model_file(source, _WEIGHT_FILES)
    if "architecture" not in read_json(config):
        raise EncoderError(f"{_CONFIG_FILE} of {model} names no architecture: give a model in timm's layout")
    network = _create(config.parent, model)
    data = resolve_model_data_config(network)
    if data["interpolation"] not in _INTERPOLATIONS:
        raise EncoderError(
            f"timm model {model} asks for interpolation {data['interpolation']!r}; "
            f"only {' and '.join(_INTERPOLATIONS)} are supported"
        )
    preprocessing = Preprocessing(
        size_px=(data["input_size"][1], data["input_size"][2]),
        mean=three_channels(data["mean"], _CONFIG_FILE),
        std=three_channels(data["std"], _CONFIG_FILE),
        interpolation=data["interpolation"],
    )
    return TimmEncoder(f"timm:{display_name(model)}", network, preprocessing)


def _hub_id(name: str) -> str:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=3))
        raise EncoderError(f"timm knows no model {name!r}" + (f" (near: {near})" if near else "") + ": check the name")
    try:
        published = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        published = None
    if published is None or not published.hf_hub_id:
        raise EncoderError(f"timm model {name!r} has no published weights: give a hub id or a folder with its files")
    return str(published.hf_hub_id)


def _create(folder: Path, model: str) -> nn.Module:
    loading = logging.getLogger("timm")
    level = loading.level
    loading.setLevel(logging.ERROR)
    try:
        network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (RuntimeError, KeyError, TypeError, ValueError, OSError, EOFError, AssertionError, SafetensorError) as error:
        problem = " ".join(str(error).split())[:200]
        raise EncoderError(f"timm model {model} cannot be built from its files ({problem}): fetch them again") from None
    finally:
        loading.setLevel(level)
    if not isinstance(network, torch.nn.Module) or not hasattr(network, "forward_features"):
        raise EncoderError(f"timm model {model} gives no features: choose an image classification model")
    return network
