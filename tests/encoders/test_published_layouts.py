"""Encoders that a test cannot download: random weights in the published layouts load strictly, by the same code."""

import argparse
import json
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from arra_med.encoders import load_encoder, retfound
from arra_med.encoders.config import parse_encoder
from arra_med.errors import EncoderError

# https://huggingface.co/microsoft/rad-dino: config.json and preprocessor_config.json, with a narrow and shallow network
RAD_DINO_CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
RAD_DINO_PROCESSOR = {
    "crop_size": {"height": 56, "width": 56},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5307, 0.5307, 0.5307],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.2583, 0.2583, 0.2583],
    "resample": 3,
    "size": {"shortest_edge": 56},
}


# RadDINO


def rad_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    transformers.Dinov2Model(transformers.Dinov2Config(**RAD_DINO_CONFIG)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(RAD_DINO_PROCESSOR), encoding="utf-8")
    return folder


def test_rad_dino_s_layout_loads_with_its_own_gray_levels(tmp_path: Path, views: Tensor) -> None:
    encoder = load_encoder(str(rad_dino(tmp_path / "rad-dino")))
    features = encoder(views)
    assert encoder.name == "transformers:rad-dino"
    assert encoder.preprocessing.mean == (0.5307,) * 3
    assert features.grid == (4, 4)
    assert (encoder.width("cls"), encoder.width("patch")) == (24, 24)


def test_rad_dino_of_another_width_is_refused(tmp_path: Path) -> None:
    folder = rad_dino(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"cannot be built from its files"):
        load_encoder(str(folder))


def test_rad_dino_that_is_not_cached_names_the_folder_option() -> None:
    assert parse_encoder("rad-dino").model == "microsoft/rad-dino"
    with pytest.raises(EncoderError, match=r"microsoft/rad-dino is not in the local .* give their folder instead"):
        load_encoder("rad-dino")


# RETFound


@pytest.fixture
def small_retfound(monkeypatch: pytest.MonkeyPatch) -> str:
    """RETFound's checkpoint at the width of a ViT-Ti, so that a test takes no gigabyte."""
    monkeypatch.setattr(retfound, "ARCHITECTURE", "vit_tiny_patch16_224")
    return "vit_tiny_patch16_224"


def write_retfound(path: Path, architecture: str, **changes: Tensor | None) -> Path:
    """As MAE's `save_model` writes it: encoder and decoder, optimiser, epoch, scaler, arguments."""
    torch.manual_seed(0)
    encoder = timm.create_model(architecture, pretrained=False, num_classes=0).state_dict()
    decoder = {
        "mask_token": torch.randn(1, 1, 8),
        "decoder_pos_embed": torch.randn(1, 197, 8),
        "decoder_embed.weight": torch.randn(8, 192),
        "decoder_blocks.0.attn.qkv.weight": torch.randn(24, 8),
        "decoder_norm.weight": torch.randn(8),
        "decoder_pred.bias": torch.randn(768),
    }
    model = {name: tensor for name, tensor in {**encoder, **decoder, **changes}.items() if tensor is not None}
    arguments = argparse.Namespace(model="mae_vit_large_patch16", input_size=224, mask_ratio=0.75)
    torch.save({"model": model, "optimizer": {"state": {}}, "epoch": 799, "scaler": {}, "args": arguments}, path)
    return path


def test_retfound_is_the_encoder_of_its_masked_autoencoder(small_retfound: str, tmp_path: Path, views: Tensor) -> None:
    write_retfound(tmp_path / "RETFound_mae_natureCFP.pth", small_retfound)
    encoder = load_encoder(f"retfound:{tmp_path}")
    torch.manual_seed(0)
    expected = timm.create_model(small_retfound, pretrained=False, num_classes=0).eval()
    with torch.no_grad():
        tokens = expected.forward_features(encoder.preprocess(views))
    features = encoder(views)
    assert features.grid == (14, 14)
    torch.testing.assert_close(features.mean, tokens[:, 1:].mean(dim=1))
    torch.testing.assert_close(features.get("cls"), tokens[:, 0])


def test_retfound_s_published_names_and_shapes_are_those_of_a_vit_l() -> None:
    with torch.device("meta"):
        state = timm.create_model(retfound.ARCHITECTURE, pretrained=False, num_classes=0).state_dict()
    assert len(state) == 4 + 24 * 12 + 2  # class token, positions, patches; 24 blocks; last norm
    assert tuple(state["pos_embed"].shape) == (1, 197, 1024)
    assert tuple(state["patch_embed.proj.weight"].shape) == (1024, 3, 16, 16)
    assert tuple(state["blocks.23.attn.qkv.weight"].shape) == (3072, 1024)
    assert tuple(state["blocks.23.mlp.fc1.weight"].shape) == (4096, 1024)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm.weight": None}, r"is of another architecture: norm.weight is missing"),
        ({"head.weight": torch.zeros(5, 192)}, r"head.weight is not expected"),
        ({"cls_token": torch.zeros(1, 1, 8)}, r"cls_token has shape \(1, 1, 8\) instead of \(1, 1, 192\)"),
    ],
)
def test_a_changed_retfound_is_refused(
    small_retfound: str, changes: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    path = write_retfound(tmp_path / "RETFound_mae_natureCFP.pth", small_retfound, **changes)
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"retfound:{path}")


# TorchXRayVision


def published_densenet(num_classes: int, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network whose pickle looks like the published one: classes of `torchxrayvision.models`, torch's own layers."""
    module = types.ModuleType("torchxrayvision.models")
    package = types.ModuleType("torchxrayvision")
    for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"):
        setattr(module, name, type(name, (nn.Sequential,), {"__module__": "torchxrayvision.models"}))
    module._DenseLayer.forward = lambda self, x: torch.cat([x, nn.Sequential.forward(self, x)], dim=1)
    monkeypatch.setitem(sys.modules, "torchxrayvision", package)
    monkeypatch.setitem(sys.modules, "torchxrayvision.models", module)

    def convolution(width_in: int, width_out: int, size: int, **options: int) -> nn.Conv2d:
        return nn.Conv2d(width_in, width_out, size, bias=False, **options)

    def layer(width: int) -> nn.Module:
        parts = [("norm1", nn.BatchNorm2d(width)), ("relu1", nn.ReLU()), ("conv1", convolution(width, 128, 1))]
        parts += [("norm2", nn.BatchNorm2d(128)), ("relu2", nn.ReLU()), ("conv2", convolution(128, 32, 3, padding=1))]
        return module._DenseLayer(OrderedDict(parts))

    torch.manual_seed(0)
    parts = [("conv0", convolution(1, 64, 7, stride=2, padding=3)), ("norm0", nn.BatchNorm2d(64))]
    parts += [("relu0", nn.ReLU()), ("pool0", nn.MaxPool2d(3, stride=2, padding=1))]
    width = 64
    for block, num_layers in enumerate((6, 12, 24, 16), start=1):
        layers = OrderedDict((f"denselayer{i + 1}", layer(width + 32 * i)) for i in range(num_layers))
        parts.append((f"denseblock{block}", module._DenseBlock(layers)))
        width += 32 * num_layers
        if block < 4:
            transition = [("norm", nn.BatchNorm2d(width)), ("relu", nn.ReLU())]
            transition += [("conv", convolution(width, width // 2, 1)), ("pool", nn.AvgPool2d(2))]
            parts.append((f"transition{block}", module._Transition(OrderedDict(transition))))
            width //= 2
    parts.append(("norm5", nn.BatchNorm2d(width)))
    network = module.DenseNet()
    network.add_module("features", nn.Sequential(OrderedDict(parts)))
    network.add_module("classifier", nn.Linear(width, num_classes))
    return network.eval()


XRV_FILE = "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"


def test_torchxrayvision_s_pickled_network_is_read_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: Tensor
) -> None:
    with monkeypatch.context() as patch:
        network = published_densenet(18, patch)
        torch.save(network, tmp_path / XRV_FILE)
    assert "torchxrayvision.models" not in sys.modules
    encoder = load_encoder(f"torchxrayvision:{tmp_path}")
    with torch.no_grad():  # torchxrayvision/models.py, DenseNet.features2 and classifier
        resized = nn.functional.interpolate(views, size=(224, 224), mode="bilinear", antialias=True)
        maps = network.features((2 * resized - 1) * 1024).relu()
    features = encoder(views)
    torch.testing.assert_close(features.mean, maps.mean(dim=(2, 3)), rtol=1e-3, atol=1e-3)
    assert (encoder.width("mean"), features.cls, features.grid) == (1024, None, (7, 7))
    assert str(tmp_path) not in encoder.name
    logits = encoder.network.classifier(features.mean)
    torch.testing.assert_close(logits, network.classifier(maps.mean(dim=(2, 3))), rtol=1e-3, atol=1e-3)


def test_torchxrayvision_s_input_lies_between_minus_and_plus_1024(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        state = published_densenet(18, patch).state_dict()
    save_file({**state, "op_threshs": torch.zeros(18)}, tmp_path / "model.safetensors")
    encoder = load_encoder(f"torchxrayvision:{tmp_path}")
    ramp = torch.linspace(0, 1, 224).expand(1, 1, 224, 224)
    pixels = encoder.preprocess(ramp)
    assert (pixels.min().item(), pixels.max().item()) == (-1024, 1024)
    with pytest.raises(EncoderError, match=r"reads gray images, these are in colour"):
        encoder(torch.rand(1, 3, 32, 32))


def test_a_changed_torchxrayvision_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        state = published_densenet(18, patch).state_dict()
    del state["features.norm5.weight"]
    state["features.conv0.weight"] = torch.zeros(64, 3, 7, 7)
    torch.save(state, tmp_path / "changed.pt")
    with pytest.raises(EncoderError, match=r"norm5.weight is missing; .*conv0.weight has shape \(64, 3, 7, 7\)"):
        load_encoder(f"torchxrayvision:{tmp_path / 'changed.pt'}")


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_network_in_torch_s_old_format_says_how_to_save_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / XRV_FILE
    with monkeypatch.context() as patch:
        network = published_densenet(18, patch)
        torch.save(network, path, _use_new_zipfile_serialization=False)
        torch.save(network.state_dict(), tmp_path / "tensors.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(EncoderError, match=r"where torchxrayvision is installed, run torch.save\(.*and give that file"):
        load_encoder(f"torchxrayvision:{path}")
    assert load_encoder(f"torchxrayvision:{tmp_path / 'tensors.pt'}").width("mean") == 1024


class Harmful:
    """A pickle whose loading would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code of the file ran",))


@pytest.mark.parametrize("kind", ["retfound", "torchxrayvision", "inception"])
def test_the_code_of_a_file_never_runs(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match=r"is no checkpoint that can be read without running its code"):
        load_encoder(f"{kind}:{tmp_path / 'weights.pth'}")
    assert capsys.readouterr().out == ""


# Inception


def test_inception_s_feature_is_torch_fidelity_s_own(tmp_path: Path, palace_photo: Tensor) -> None:
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = library.FeatureExtractorInceptionV3("reference", ["2048"])
    torch.save(network.state_dict(), path)
    encoder = load_encoder(f"inception:{tmp_path}")
    features = encoder(palace_photo[None] / 255)
    (expected,) = network(palace_photo[None])
    torch.testing.assert_close(features.mean, expected)
    assert (features.grid, features.patch.shape) == ((8, 8), (1, 64, 2048))
    torch.save({**network.state_dict(), "fc.bias": torch.zeros(3)}, path)
    with pytest.raises(EncoderError, match=r"is of another architecture than Inception v3 of FID \(.*fc.bias"):
        load_encoder(f"inception:{path}")


def test_inception_needs_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match=r"needs the package torch-fidelity: run pip install torch-fidelity"):
        load_encoder(f"inception:{tmp_path / 'weights.pth'}")


@pytest.mark.parametrize("kind", ["retfound", "torchxrayvision", "inception"])
def test_a_file_that_is_not_there_gives_one_sentence_that_names_the_folder_option(kind: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"is not on this machine: download .* and give the file, or the folder"):
        load_encoder(f"{kind}:{tmp_path / 'absent'}")
    with pytest.raises(EncoderError, match=r"holds 0 of the published files: download"):
        load_encoder(f"{kind}:{tmp_path}")
