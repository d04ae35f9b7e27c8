"""Chameleon's image tokenizer: Meta's file format, `transformers`' encoder, the decoder's equations, and other files."""

from pathlib import Path

import pytest
import torch
from transformers import ChameleonVQVAEConfig

from arra_med.errors import TokenizerError
from arra_med.tokens.chameleon_vq import published_name, read_chameleon_vq, tokenizer_shapes
from arra_med.tokens.llamagen_vq import LlamaGenVQConfig
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer
from tests.tokens import chameleon_reference as reference

LEVELS = len(reference.CONFIG.channel_multiplier)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return reference.random_weights()


@pytest.fixture
def published(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """As Lightning writes it, the networks of the training's loss included."""
    path = tmp_path / "vqgan.ckpt"
    torch.save({"state_dict": {**tensors, "loss.discriminator.main.0.weight": torch.zeros(2)}, "epoch": 3}, path)
    return path


def test_codes_are_those_of_transformers(published: Path, tensors: dict[str, torch.Tensor]) -> None:
    tokenizer = read_chameleon_vq(published, size_px=32)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    codes = tokenizer.encode(images)
    assert isinstance(tokenizer, ImageTokenizer)
    assert codes.shape == (3, 4, 4) == (3, *tokenizer.grid)
    assert len(codes.unique()) > 4
    theirs = reference.encoder_of_transformers(tensors)
    with torch.no_grad():
        encoded = theirs.encode(images * 2 - 1, return_dict=True)
        latent = tokenizer.quant_conv(tokenizer.encoder(images * 2 - 1))
        assert torch.allclose(latent, theirs.quant_conv(encoded.last_hidden_state), atol=1e-5)
    assert torch.equal(codes.flatten(), encoded.image_tokens.flatten())


def test_pictures_are_those_of_the_equations(published: Path, tensors: dict[str, torch.Tensor]) -> None:
    codes = torch.randint(0, reference.NUM_CODES, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    expected = reference.decode(tensors, codes, LEVELS)
    assert expected.std() > 0.05
    assert torch.allclose(read_chameleon_vq(published, 32).decode(codes).double(), expected.clamp(0, 1), atol=1e-5)


def test_the_published_size_has_the_names_and_shapes_of_transformers() -> None:
    widths = (128, 128, 256, 256, 512)
    config = LlamaGenVQConfig(
        kind="chameleon-vq", size_px=512, widths=widths, codebook_size=8192, codebook_channels=256
    )
    ours = {published_name(name, len(widths)): shape for name, shape in tokenizer_shapes(config).items()}
    assert ours == reference.published_shapes(ChameleonVQVAEConfig())
    assert config.size_px // config.downsampling == 32


def test_a_saved_tokenizer_opens_with_the_same_codes_and_pictures(published: Path, tmp_path: Path) -> None:
    tokenizer = read_chameleon_vq(published, 32)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    opened = load_image_tokenizer(tmp_path / "tokenizer")
    codes = tokenizer.encode(images := torch.rand(2, 3, 32, 32))
    assert torch.equal(opened.encode(images), codes)
    assert torch.equal(opened.decode(codes), tokenizer.decode(codes))


def test_a_grayscale_image_is_an_rgb_image_with_equal_channels(published: Path) -> None:
    gray, rgb = read_chameleon_vq(published, 32, channels=1), read_chameleon_vq(published, 32)
    images = torch.rand(1, 1, 32, 32)
    codes = gray.encode(images)
    assert torch.equal(codes, rgb.encode(images.repeat(1, 3, 1, 1)))
    assert gray.decode(codes).shape == (1, 1, 32, 32)


def test_tensors_are_named_as_in_the_file(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    damaged = dict(tensors)
    del damaged["decoder.mid.attn_1.q.bias"]
    damaged["encoder.down.3.attn.0.q.weight"] = torch.zeros(1)
    damaged["decoder.up.3.block.0.conv1.bias"] = torch.zeros(3)
    torch.save({"state_dict": damaged}, tmp_path / "vqgan.ckpt")
    with pytest.raises(TokenizerError, match="another architecture") as error:
        read_chameleon_vq(tmp_path / "vqgan.ckpt", 32)
    for part in (
        "decoder.mid.attn_1.q.bias is missing",
        "encoder.down.3.attn.0.q.weight is not expected",
        "decoder.up.3.block.0.conv1.bias has shape (3,) instead of (64,)",
    ):
        assert part in str(error.value)


def test_weights_without_a_decoder_are_refused(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    encoder = {name: value for name, value in tensors.items() if not name.startswith("decoder.")}
    torch.save({"state_dict": encoder}, tmp_path / "vqgan.ckpt")
    with pytest.raises(TokenizerError, match=r"decoder\.conv_in\.weight is missing"):
        read_chameleon_vq(tmp_path / "vqgan.ckpt", 32)


def test_another_file_and_a_side_that_does_not_fit(published: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(TokenizerError, match="is no image tokenizer of Chameleon"):
        read_chameleon_vq(tmp_path / "other.ckpt")
    with pytest.raises(TokenizerError, match="size_px 36 must be a multiple of the downsampling 8"):
        read_chameleon_vq(published, size_px=36)
    torch.save({"state_dict": Path("x")}, tmp_path / "code.ckpt")
    with pytest.raises(TokenizerError, match="without running its code"):
        read_chameleon_vq(tmp_path / "code.ckpt")
