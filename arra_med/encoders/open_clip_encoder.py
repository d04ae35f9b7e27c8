"""The image tower of any open_clip model, BioMedCLIP first, from a hub id or a folder in the published layout.

Only `open_clip_config.json` and the weight file are needed, and only the image tower is built: the text tower's own
configuration, which open_clip would fetch from the hub even for a local folder, is not touched.

Source: BioMedCLIP, arXiv 2303.00915; hub id `microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224`.
"""

import pickle
from pathlib import Path
from typing import Any

from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.factory import load_state_dict
from open_clip.model import _build_vision_tower
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import SafetensorError
from torch import Tensor, nn

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map, three_channels
from arra_med.encoders.hub import display_name, model_file, read_json
from arra_med.errors import EncoderError

_WEIGHT_FILES = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, "model.safetensors", "pytorch_model.bin")
_IMAGE_TOWER = "visual."
_INTERPOLATIONS = ("bicubic", "bilinear")


class OpenClipEncoder(FrozenEncoder):
    """An open_clip image tower.

    `cls` is the projected image embedding, open_clip's `encode_image` (512 wide for BioMedCLIP); `trunk-cls` is the
    class token before the projection (768); `patch` are the tokens of the last layer after its norm.
    """

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the tower on preprocessed pixels (B, 3, height, width)."""
        wanted: dict[str, Any] = {"indices": 1, "normalize_intermediates": True, "output_fmt": "NCHW"}
        if _num_prefix_tokens(self.network) > 0:
            wanted["output_extra_tokens"] = True
        output = self.network.forward_intermediates(pixels, **wanted)  # type: ignore[operator]
        features = features_from_map(output["image_intermediates"][-1])
        prefix = output.get("image_intermediates_prefix")
        return EncoderFeatures(
            cls=output["image_features"].float(),
            mean=features.mean,
            patch=features.patch,
            grid=features.grid,
            trunk_cls=prefix[-1][:, 0].float() if prefix else None,
        )


def load_open_clip_encoder(model: str) -> OpenClipEncoder:
    """Builds the image tower with its published weights.

    Args:
        model: A hub id, or a folder with `open_clip_config.json` and the weight file.

    Raises:
        EncoderError: If files are missing, damaged or do not fit, or the hub cannot be reached.
    """
    config = read_json(model_file(model, [HF_CONFIG_NAME]))
    weights = model_file(model, _WEIGHT_FILES)
    if not isinstance(config.get("model_cfg"), dict):
        raise EncoderError(f"{HF_CONFIG_NAME} of {model} has no model_cfg: give a model saved in open_clip's layout")
    tower = _build_tower(config["model_cfg"], model)
    _load_tower(tower, weights, model)
    return OpenClipEncoder(f"open_clip:{display_name(model)}", tower, _preprocessing(config, tower, model))


def _build_tower(model_cfg: dict[str, Any], model: str) -> nn.Module:
    try:
        vision_cfg = {**model_cfg["vision_cfg"], "timm_model_pretrained": False}
        return _build_vision_tower(model_cfg["embed_dim"], vision_cfg, model_cfg.get("quick_gelu", False))
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise EncoderError(
            f"the image tower that {HF_CONFIG_NAME} of {model} describes cannot be built with the installed open_clip "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}): check the file"
        ) from None


def _load_tower(tower: nn.Module, weights: Path, model: str) -> None:
    try:
        state = load_state_dict(str(weights), weights_only=True)
        image_state = {key.removeprefix(_IMAGE_TOWER): state[key] for key in state if key.startswith(_IMAGE_TOWER)}
    except (OSError, EOFError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError, StopIteration):
        raise EncoderError(f"{weights.name} of {model} cannot be read as weights: fetch it again") from None
    try:
        tower.load_state_dict(image_state, strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).splitlines()[1:2]).strip()[:200]
        raise EncoderError(f"{weights.name} of {model} does not fit its {HF_CONFIG_NAME} ({problem})") from None


def _preprocessing(config: dict[str, Any], tower: nn.Module, model: str) -> Preprocessing:
    published = merge_preprocess_dict(PreprocessCfg(), config.get("preprocess_cfg") or {})
    if published["interpolation"] not in _INTERPOLATIONS:
        raise EncoderError(
            f"{HF_CONFIG_NAME} of {model} asks for interpolation {published['interpolation']!r}; "
            f"only {' and '.join(_INTERPOLATIONS)} are supported"
        )
    size: Any = tower.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    return Preprocessing(
        size_px=(int(height), int(width)),
        mean=three_channels(published["mean"], HF_CONFIG_NAME),
        std=three_channels(published["std"], HF_CONFIG_NAME),
        interpolation=published["interpolation"],
    )


def _num_prefix_tokens(tower: nn.Module) -> int:
    trunk = getattr(tower, "trunk", None)
    if trunk is not None:
        return int(getattr(trunk, "num_prefix_tokens", 0))
    return 1 if hasattr(tower, "class_embedding") else 0
