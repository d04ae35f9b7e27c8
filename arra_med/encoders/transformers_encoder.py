"""Any transformers vision model: ViT, DINOv2, Swin, ConvNeXt, and the image towers of CLIP, SigLIP and SAM (MedSAM).

Source: https://huggingface.co/docs/transformers; a folder holds `config.json`, `preprocessor_config.json` and weights.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from arra_med.encoders.base import (
    EncoderFeatures,
    FrozenEncoder,
    Interpolation,
    Preprocessing,
    features_from_map,
    square_grid,
    three_channels,
)
from arra_med.encoders.hub import display_name, model_file, read_json, refuse, require_hub
from arra_med.errors import EncoderError
from arra_med.published_weights import TRANSFORMERS_LOADING

_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_TOWERS = ("vision_model", "vision_encoder")  # image towers inside CLIP-like and SAM-like models
_PROJECTION = "visual_projection"
_POOLER = "pooler"
_RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's codes


class ImageTower(nn.Module):
    """The image side of a transformers model, and the projection to its shared space where it has one."""

    def __init__(self, tower: nn.Module, projection: nn.Module | None, patch_size: int | None) -> None:
        super().__init__()
        self.tower = tower
        self.projection = projection
        self.patch_size = patch_size


class TransformersEncoder(FrozenEncoder):
    """A transformers vision model.

    `cls` is the projected embedding of a CLIP (`trunk-cls` before the projection), the pooled one of a SigLIP, the
    class token of a ViT or DINOv2; a network without any (ConvNeXt, Swin, SAM) has none.
    """

    network: ImageTower

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the tower on preprocessed pixels (B, 3, height, width)."""
        output = self.network.tower(pixel_values=pixels)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            return features_from_map(hidden)
        grid = self._grid(pixels, hidden.shape[1])
        num_prefix = hidden.shape[1] - grid[0] * grid[1]
        patch = hidden[:, num_prefix:].float()
        pooled = None
        if hasattr(self.network.tower, "post_layernorm"):  # contrastive towers publish the pooled embedding
            pooled = output.pooler_output
        elif num_prefix > 0:
            pooled = hidden[:, 0]
        cls, trunk_cls = pooled, None
        if pooled is not None and self.network.projection is not None:
            cls, trunk_cls = self.network.projection(pooled), pooled.float()
        return EncoderFeatures(
            cls=None if cls is None else cls.float(),
            mean=patch.mean(dim=1),
            patch=patch,
            grid=grid,
            trunk_cls=trunk_cls,
        )

    def _grid(self, pixels: Tensor, num_tokens: int) -> tuple[int, int]:
        patch_size = self.network.patch_size
        if patch_size is not None:
            grid = (pixels.shape[2] // patch_size, pixels.shape[3] // patch_size)
            if grid[0] * grid[1] <= num_tokens:
                return grid
        return square_grid(num_tokens, self.name)


def load_transformers_encoder(model: str) -> TransformersEncoder:
    """Builds the vision model, or the image tower of a vision-language model, with its published weights.

    Args:
        model: A hub id, or a folder with `config.json`, `preprocessor_config.json` and the weights.

    Raises:
        EncoderError: If it is no vision model, files are missing, damaged or do not fit, or the hub cannot be reached.
    """
    model_file(model, ["config.json"])
    processor_file = model_file(model, _PROCESSOR_FILES)
    preprocessing = _preprocessing(read_json(processor_file), processor_file.name)
    whole, missing = _load_model(model)
    place = next((name for name in _TOWERS if hasattr(whole, name)), None)
    tower = whole if place is None else getattr(whole, place)
    if getattr(tower, "main_input_name", "") != "pixel_values":
        raise EncoderError(f"transformers model {model} takes no pixels: choose a vision model")
    lacking = sorted(name for name in missing if _is_needed(name, place))
    if lacking:
        raise EncoderError(
            f"the weights of {model} lack {len(lacking)} tensors of the image tower (first: {lacking[0]}): "
            "they would be random; fetch the whole model"
        )
    _drop_pooler(tower)
    patch_size = getattr(tower.config, "patch_size", None)
    if isinstance(patch_size, (list, tuple)):
        patch_size = patch_size[0]
    network = ImageTower(tower, getattr(whole, _PROJECTION, None), patch_size)
    return TransformersEncoder(f"transformers:{display_name(model)}", network, preprocessing)


def _load_model(model: str) -> tuple[PreTrainedModel, set[str]]:
    folder = Path(model).expanduser()
    try:
        return _from_pretrained(str(folder) if folder.is_dir() else model, local_files_only=True)
    except OSError:
        if folder.is_dir():
            raise EncoderError(f"folder {model} has no readable weights: copy the published files there") from None
    require_hub(model)
    try:
        return _from_pretrained(model, local_files_only=False)
    except OSError as error:
        refuse(model, error)


def _from_pretrained(model: str, *, local_files_only: bool) -> tuple[PreTrainedModel, set[str]]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with TRANSFORMERS_LOADING:
            loaded, info = AutoModel.from_pretrained(
                model, local_files_only=local_files_only, output_loading_info=True, dtype=torch.float32
            )
    except (ValueError, KeyError, RuntimeError, EOFError, SafetensorError) as error:
        problem = " ".join(str(error).split())[:200]
        raise EncoderError(f"transformers model {model} cannot be built from its files ({problem})") from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    return loaded, {str(key) for key in info["missing_keys"]}


def _is_needed(tensor: str, place: str | None) -> bool:
    """Whether a tensor of the whole model (`vision_model.embeddings...`) is read when only its image side runs."""
    module, _, rest = tensor.partition(".")
    if place is None:
        return module != _POOLER
    return module == _PROJECTION or (module == place and not rest.startswith(f"{_POOLER}."))


def _drop_pooler(tower: nn.Module) -> None:
    # Published ViT weights often lack the pooler, which would then be random; nothing here reads it.
    pooler = getattr(tower, _POOLER, None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        tower.register_module(_POOLER, None)


def _preprocessing(published: dict[str, Any], file: str) -> Preprocessing:
    published = published.get("image_processor", published)
    if published.get("do_flip_channel_order"):
        raise EncoderError(f"{file} asks for BGR channels, which is not supported: choose an RGB model")
    resample = published.get("resample", 3)
    if resample not in _RESAMPLE:
        raise EncoderError(f"{file} asks for resample {resample}; only 2 (bilinear) and 3 (bicubic) are supported")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if published.get("do_normalize", True):
        if "image_mean" not in published or "image_std" not in published:
            raise EncoderError(f"{file} names no image_mean and image_std: fetch the published file")
        mean, std = three_channels(published["image_mean"], file), three_channels(published["image_std"], file)
    return Preprocessing(size_px=_input_size(published, file), mean=mean, std=std, interpolation=_RESAMPLE[resample])


def _input_size(published: dict[str, Any], file: str) -> tuple[int, int]:
    cropped = published.get("do_center_crop") and published.get("crop_size")
    size = published["crop_size"] if cropped else published.get("size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict):
        if size.get("height") and size.get("width"):
            return int(size["height"]), int(size["width"])
        edge = size.get("shortest_edge") or size.get("longest_edge")
        if edge:
            return int(edge), int(edge)
    raise EncoderError(f"{file} names no input size (size or crop_size): fetch the published file")
