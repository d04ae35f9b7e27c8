"""The autoencoder's bottleneck as features."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from arra_med.encoders import load_encoder
from arra_med.encoders.autoencoder import AutoencoderShape, ConvolutionalAutoencoder, save_autoencoder
from arra_med.errors import EncoderError

SHAPE = AutoencoderShape(size_px=16, channels=1, widths=(8, 4))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, ConvolutionalAutoencoder]:
    torch.manual_seed(0)
    network = ConvolutionalAutoencoder(SHAPE)
    save_autoencoder(network, tmp_path / "tiny")
    return tmp_path / "tiny", network.eval()


def test_features_are_the_bottleneck(saved: tuple[Path, ConvolutionalAutoencoder]) -> None:
    folder, network = saved
    encoder = load_encoder(str(folder))
    views = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        bottleneck = network.encode(2 * views - 1)
        assert network(2 * views - 1).shape == views.shape
    features = encoder(views)
    assert encoder.name == "autoencoder:tiny"
    assert features.grid == (4, 4)
    torch.testing.assert_close(features.mean, bottleneck.mean(dim=(2, 3)))
    assert features.get("cls").shape == (3, 64)
    torch.testing.assert_close(features.get("cls").reshape(3, 16, 4).transpose(1, 2), bottleneck.flatten(2))


def test_brightness_stays_in_the_bottleneck(saved: tuple[Path, ConvolutionalAutoencoder]) -> None:
    encoder = load_encoder(str(saved[0]))
    dark, bright = (encoder(torch.full((1, 1, 16, 16), level)).mean for level in (0.2, 0.8))
    assert not torch.allclose(dark, bright, atol=1e-3)


def test_a_gray_autoencoder_refuses_colour(saved: tuple[Path, ConvolutionalAutoencoder]) -> None:
    encoder = load_encoder(str(saved[0]))
    with pytest.raises(EncoderError, match=r"autoencoder:tiny reads gray images, these are in colour"):
        encoder(torch.rand(1, 3, 16, 16))


def test_weights_of_another_shape_are_refused(saved: tuple[Path, ConvolutionalAutoencoder]) -> None:
    folder, _ = saved
    other = SHAPE.model_copy(update={"widths": (8, 8)})
    (folder / "autoencoder.json").write_text(other.model_dump_json(), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"tiny: model.safetensors is damaged or does not fit autoencoder.json"):
        load_encoder(str(folder))


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"size_px must be a multiple of 4, as there are that many halvings"):
        AutoencoderShape(size_px=18, channels=1, widths=(8, 4))
