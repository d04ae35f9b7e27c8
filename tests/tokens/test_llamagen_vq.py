"""LlamaGen's image tokenizer: its published file format, its numbers against numpy, and files that are something else."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.errors import TokenizerError
from arra_med.tokens.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig, read_llamagen_vq
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer
from tests.tokens import llamagen_reference as reference

WIDTHS = (32, 32, 64)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return reference.random_weights(WIDTHS, stem=32, latent=48, codebook=(40, 8))


@pytest.fixture
def published(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """As a training of LlamaGen writes it, its arguments included."""
    path = tmp_path / "vq_toy.pt"
    torch.save({"model": tensors, "steps": 7, "args": argparse.Namespace(vq_model="VQ-16")}, path)
    return path


def test_codes_and_pictures_are_those_of_the_equations(published: Path, tensors: dict[str, torch.Tensor]) -> None:
    tokenizer = read_llamagen_vq(published, size_px=16)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    codes = tokenizer.encode(images)
    assert isinstance(tokenizer, ImageTokenizer)
    assert codes.shape == (2, 4, 4) == (2, *tokenizer.grid)
    assert len(codes.unique()) > 4  # not all places take one code
    expected = [reference.encode(tensors, image.double().numpy(), len(WIDTHS)) for image in images]
    assert np.array_equal(codes.numpy(), np.stack(expected))
    pictures = [reference.decode(tensors, image_codes.numpy(), len(WIDTHS)) for image_codes in codes]
    assert np.abs(tokenizer.decode(codes).numpy() - np.stack(pictures)).max() < 1e-5
    assert np.stack(pictures).std() > 0.05


@pytest.mark.parametrize("key", ["model", "ema", None])
def test_weights_lie_below_a_key_or_on_top(tensors: dict[str, torch.Tensor], tmp_path: Path, key: str | None) -> None:
    torch.save({key: tensors} if key else tensors, tmp_path / "vq.pt")
    assert torch.equal(
        read_llamagen_vq(tmp_path / "vq.pt", 16).encoder.conv_in.weight, tensors["encoder.conv_in.weight"]
    )


def test_the_weights_that_the_language_models_saw_win_over_their_average(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    other = {name: value + 1 for name, value in tensors.items()}
    torch.save({"ema": other, "model": tensors}, tmp_path / "vq.pt")
    assert torch.equal(read_llamagen_vq(tmp_path / "vq.pt", 16).quant_conv.bias, tensors["quant_conv.bias"])


def test_a_saved_tokenizer_opens_with_the_same_codes_and_pictures(published: Path, tmp_path: Path) -> None:
    tokenizer = read_llamagen_vq(published, size_px=32)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    opened = load_image_tokenizer(tmp_path / "tokenizer")
    images = torch.rand(2, 3, 32, 32)
    codes = tokenizer.encode(images)
    assert torch.equal(opened.encode(images), codes)
    assert torch.equal(opened.decode(codes), tokenizer.decode(codes))
    assert {path.name for path in (tmp_path / "tokenizer").iterdir()} == {"config.json", "model.safetensors"}


def test_a_grayscale_image_is_an_rgb_image_with_equal_channels(published: Path) -> None:
    gray, rgb = read_llamagen_vq(published, 16, channels=1), read_llamagen_vq(published, 16)
    images = torch.rand(1, 1, 16, 16)
    codes = gray.encode(images)
    assert torch.equal(codes, rgb.encode(images.repeat(1, 3, 1, 1)))
    assert gray.decode(codes).shape == (1, 1, 16, 16)
    unclamped = rgb.decoder(rgb.post_quant_conv(rgb.codebook[codes].movedim(-1, 1))) / 2 + 0.5
    assert torch.allclose(gray.decode(codes), unclamped.mean(1, keepdim=True).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("widths", "downsampling", "millions"), [((128, 128, 256, 256, 512), 16, 72), ((128, 256, 256, 512), 8, 70)]
)
def test_the_published_sizes(widths: tuple[int, ...], downsampling: int, millions: int) -> None:
    with torch.device("meta"):
        tokenizer = LlamaGenVQ(LlamaGenVQConfig(widths=widths))
    assert tokenizer.downsampling == downsampling
    assert tokenizer.codebook_size == 16384
    assert round(sum(value.numel() for value in tokenizer.parameters()) / 1e6) == millions


def test_tensors_that_lack_are_left_over_or_have_another_shape_are_named(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    damaged = dict(tensors)
    del damaged["decoder.mid.1.q.bias"]
    damaged["decoder.extra"] = torch.zeros(1)
    damaged["post_quant_conv.bias"] = torch.zeros(3)
    torch.save({"model": damaged}, tmp_path / "vq.pt")
    with pytest.raises(TokenizerError, match="another architecture") as error:
        read_llamagen_vq(tmp_path / "vq.pt", 16)
    for part in (
        "decoder.mid.1.q.bias is missing",
        "decoder.extra is not expected",
        "post_quant_conv.bias has shape (3,) instead of (48,)",
    ):
        assert part in str(error.value)


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, tmp_path / "vq.pt")
    with pytest.raises(TokenizerError, match="without running its code"):
        read_llamagen_vq(tmp_path / "vq.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [({"model": {"a": torch.zeros(1)}}, "is no LlamaGen image tokenizer"), ({"steps": 3}, "holds no weights")],
)
def test_another_file_says_what_to_give(tmp_path: Path, content: dict[str, object], message: str) -> None:
    torch.save(content, tmp_path / "vq.pt")
    with pytest.raises(TokenizerError, match=message):
        read_llamagen_vq(tmp_path / "vq.pt")


def test_a_missing_file_and_a_side_that_does_not_fit(published: Path, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="is missing"):
        read_llamagen_vq(tmp_path / "none.pt")
    with pytest.raises(TokenizerError, match="size_px 18 must be a multiple of the downsampling 4"):
        read_llamagen_vq(published, size_px=18)


def test_images_and_codes_of_another_tokenizer_are_refused(published: Path) -> None:
    tokenizer = read_llamagen_vq(published, 16)
    with pytest.raises(TokenizerError, match="this tokenizer takes"):
        tokenizer.encode(torch.rand(1, 1, 16, 16))
    with pytest.raises(TokenizerError, match="codes must lie in"):
        tokenizer.decode(torch.full((1, 4, 4), 40))
