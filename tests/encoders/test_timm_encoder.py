"""timm models: the library's own features and preprocessing, and nothing random."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf
from torch import Tensor

from arra_med.encoders.timm_encoder import load_timm_encoder
from arra_med.errors import EncoderError


@pytest.fixture
def broken(timm_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(timm_folder, tmp_path / "broken"))


def saved(name: str, folder: Path, **arguments: object) -> str:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **arguments)
    save_for_hf(model, str(folder), safe_serialization=True, model_args=arguments or None)
    return str(folder)


def test_features_are_timm_s_own(timm_folder: Path, views: Tensor) -> None:
    encoder = load_timm_encoder(str(timm_folder))
    model = timm.create_model(f"local-dir:{timm_folder}", pretrained=True).eval()
    with torch.no_grad():
        tokens = model.forward_features(encoder.preprocess(views))
    features = encoder(views)
    assert features.grid == (10, 10)
    torch.testing.assert_close(features.cls, tokens[:, 0])
    torch.testing.assert_close(features.patch, tokens[:, 1:])
    assert (encoder.width("cls"), encoder.width("patch")) == (64, 64)


def test_preprocessing_is_timm_s_own_without_its_crop(timm_folder: Path, palace_photo: Tensor) -> None:
    encoder = load_timm_encoder(str(timm_folder))
    settings = {**resolve_model_data_config(encoder.network), "crop_pct": 1.0}
    expected = create_transform(**settings)(Image.fromarray(palace_photo.permute(1, 2, 0).numpy()))
    difference = (encoder.preprocess(palace_photo[None] / 255)[0] - expected).abs()
    assert difference.max() <= 3 / 255 / min(encoder.preprocessing.std)
    assert difference.mean() <= 0.5 / 255 / min(encoder.preprocessing.std)


def test_a_convolutional_model_has_no_cls(tmp_path: Path, views: Tensor) -> None:
    encoder = load_timm_encoder(saved("test_resnet", tmp_path / "conv"))
    features = encoder(views)
    assert features.cls is None
    assert features.patch.shape[1] == features.grid[0] * features.grid[1]
    with torch.no_grad():
        expected = encoder.network.forward_head(
            encoder.network.forward_features(encoder.preprocess(views)), pre_logits=True
        )
    torch.testing.assert_close(features.mean, expected)


def test_an_attention_pool_and_an_average_pool_are_told_apart(tmp_path: Path, views: Tensor) -> None:
    # Registers and a class token stand before the patches in both; neither is a patch.
    mapped = load_timm_encoder(saved("test_vit3", tmp_path / "map"))
    averaged = load_timm_encoder(saved("test_vit2", tmp_path / "avg"))
    for encoder in (mapped, averaged):
        features = encoder(views)
        assert features.patch.shape[1] == features.grid[0] * features.grid[1]
    with torch.no_grad():
        tokens = mapped.network.forward_features(mapped.preprocess(views))
        pooled = mapped.network.forward_head(tokens, pre_logits=True)
    cls = mapped(views).cls
    assert (cls is None) == (mapped.network.global_pool not in ("token", "map"))
    if cls is not None:
        torch.testing.assert_close(cls, pooled)


def test_channels_last_models_are_read_in_the_right_order(tmp_path: Path, views: Tensor) -> None:
    arguments = {"img_size": 64, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    encoder = load_timm_encoder(saved("swin_tiny_patch4_window7_224", tmp_path / "swin", **arguments))
    features = encoder(views)
    assert features.grid == (8, 8)
    assert features.patch.shape == (3, 64, 16)
    assert features.cls is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tets_vit", r"timm knows no model 'tets_vit' \(near: test_vit.*\): check the name"),
        ("qqqq", r"timm knows no model 'qqqq': check the name"),
        ("resnet18.no_such_weights", r"'resnet18.no_such_weights' has no published weights"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_timm_encoder(name)


def test_a_folder_without_weights_is_refused(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"has none of model.safetensors, pytorch_model.bin"):
        load_timm_encoder(str(broken))


def test_one_missing_tensor_is_refused(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["norm.weight"]
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(EncoderError, match=r"cannot be built from its files \(.*norm.weight.*\): fetch them again"):
        load_timm_encoder(str(broken))


def test_a_truncated_weight_file_is_refused(broken: Path) -> None:
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EncoderError, match=r"cannot be built from its files"):
        load_timm_encoder(str(broken))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, r"names no architecture"),
        ({"architecture": "no_such_net"}, r"cannot be built from its files \(Unknown model"),
        (
            {"pretrained_cfg": {"interpolation": "nearest"}},
            r"asks for interpolation 'nearest'; only bicubic and bilinear",
        ),
    ],
)
def test_a_configuration_that_cannot_be_met_is_refused(changes: dict[str, object], message: str, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (broken / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EncoderError, match=message):
        load_timm_encoder(str(broken))
