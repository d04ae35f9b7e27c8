"""The tokenizer's shapes, its file, and its fidelity measured against independent numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.errors import TokenizerError
from arra_med.tokens.fidelity import measure_fidelity
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer
from arra_med.tokens.vq import VQConfig, VQTokenizer

SMALL = VQConfig(size_px=32, channels=3, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 3))


@pytest.fixture
def tokenizer() -> VQTokenizer:
    torch.manual_seed(0)
    return VQTokenizer(SMALL).eval()


@pytest.mark.parametrize(("downsampling", "side"), [(4, 8), (8, 4), (16, 2), (32, 1)])
def test_grid_and_shapes_for_every_downsampling(downsampling: int, side: int) -> None:
    tokenizer = VQTokenizer(SMALL.model_copy(update={"downsampling": downsampling}))
    assert isinstance(tokenizer, ImageTokenizer)
    codes = tokenizer.encode(torch.rand(2, 3, 32, 32))
    assert codes.shape == (2, side, side) == (2, *tokenizer.grid)
    assert codes.dtype == torch.int64
    images = tokenizer.decode(codes)
    assert images.shape == (2, 3, 32, 32)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_decoding_the_codes_is_the_training_reconstruction(tokenizer: VQTokenizer) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = tokenizer(images).clamp(0, 1)
    assert torch.allclose(tokenizer.decode(tokenizer.encode(images)), expected, atol=1e-5)


def test_save_and_load_keep_codes_up_to_bfloat16(tokenizer: VQTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    first = load_image_tokenizer(tmp_path)
    first.save_pretrained(tmp_path / "again")
    second = load_image_tokenizer(tmp_path / "again")
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(first.encode(images), second.encode(images))
    assert (first.encode(images) == tokenizer.encode(images)).float().mean() > 0.9


def test_a_damaged_or_foreign_tokenizer_is_one_sentence(tokenizer: VQTokenizer, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no readable config\.json"):
        load_image_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(TokenizerError, match="does not fit config"):
        load_image_tokenizer(tmp_path)
    weights.unlink()
    with pytest.raises(TokenizerError, match="is missing"):
        load_image_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "other"}')
    with pytest.raises(TokenizerError, match="tokenizer kind 'other' is unknown"):
        load_image_tokenizer(tmp_path)


def test_wrong_images_and_codes_are_refused(tokenizer: VQTokenizer) -> None:
    with pytest.raises(TokenizerError, match="images have shape"):
        tokenizer.encode(torch.rand(1, 1, 32, 32))
    with pytest.raises(TokenizerError, match="codes must lie in"):
        tokenizer.decode(torch.full((1, 4, 4), 12))


class _Darkening:
    """A stand-in whose errors are known: it loses a tenth of full scale, and uses two of its four codes."""

    codebook_size, downsampling, channels, size_px, grid = 4, 8, 1, 128, (16, 16)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.images = images
        return (torch.arange(256) % 2).reshape(1, 16, 16).expand(len(images), -1, -1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.images - 0.1

    def save_pretrained(self, folder: Path) -> None:
        raise NotImplementedError


def test_fidelity_by_hand() -> None:
    images = torch.rand(3, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    fidelity = measure_fidelity(_Darkening(), [images[:2], images[2:]])
    assert fidelity.psnr_db == pytest.approx(20.0, abs=1e-4)  # 10 log10(1 / 0.1^2)
    assert fidelity.codes_used == 0.5
    assert fidelity.code_perplexity == pytest.approx(2.0)
    assert fidelity.num_images == 3
    assert 0.5 < fidelity.ms_ssim < 1


def test_small_images_have_no_ms_ssim(tokenizer: VQTokenizer) -> None:
    assert np.isnan(measure_fidelity(tokenizer, [torch.rand(2, 3, 32, 32)]).ms_ssim)
