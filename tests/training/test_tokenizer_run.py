"""Tokenizer training at toy size: files, resume, and errors before a weight is touched."""

import json
from pathlib import Path

import pytest
import torch
from monai.losses import JukeboxLoss

from arra_med.errors import StudySetError, TrainingError
from arra_med.tokens.protocol import load_image_tokenizer
from arra_med.tokens.vq import VQConfig
from arra_med.training.tokenizer_losses import TokenizerLossConfig, TokenizerObjective, spectral_loss
from arra_med.training.tokenizer_run import TokenizerTrainConfig, train_tokenizer
from tests.training.conftest import SIZE_PX, TinyData

SHAPE = VQConfig(size_px=SIZE_PX, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 4))
LOSSES = TokenizerLossConfig(perceptual=0.0, adversarial_start=0.5, discriminator_width=8)


def settings(data: TinyData, steps: int = 6) -> TokenizerTrainConfig:
    return TokenizerTrainConfig(
        studies=data.studies,
        tokenizer=SHAPE,
        losses=LOSSES,
        steps=steps,
        batch_size=4,
        warmup_steps=1,
        checkpoint_every=2,
        device="cpu",
        bf16=False,
    )


def test_a_run_writes_a_tokenizer_its_fidelity_and_a_grid(tiny_data: TinyData, tmp_path: Path) -> None:
    fidelity = train_tokenizer(settings(tiny_data), tmp_path)
    assert json.loads((tmp_path / "fidelity.json").read_text())["psnr_db"] == fidelity.psnr_db
    assert fidelity.num_images == 8
    assert load_image_tokenizer(tmp_path / "tokenizer").grid == (4, 4)
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert "steps: 6" in (tmp_path / "config.yaml").read_text()


def test_resume_equals_an_uninterrupted_run(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_tokenizer(settings(tiny_data), tmp_path / "whole")
    losses = TokenizerObjective.tokenizer_losses
    calls = 0

    def interrupted(self: TokenizerObjective, *args: torch.Tensor, **kwargs: bool) -> object:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return losses(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TokenizerObjective, "tokenizer_losses", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer(settings(tiny_data), tmp_path / "resumed")
    train_tokenizer(settings(tiny_data), tmp_path / "resumed")
    whole, resumed = (tmp_path / run / "tokenizer/model.safetensors" for run in ("whole", "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_training_lowers_the_pixel_error(tiny_data: TinyData, tmp_path: Path) -> None:
    before = train_tokenizer(settings(tiny_data, steps=1), tmp_path / "start")
    after = train_tokenizer(settings(tiny_data, steps=40), tmp_path / "end")
    assert after.psnr_db > before.psnr_db + 2


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.training.tokenizer_losses.spectral_loss", lambda a, b: (a - a).sum().sqrt())
    with pytest.raises(TrainingError, match="not finite at step 0; the last checkpoint"):
        train_tokenizer(settings(tiny_data), tmp_path)


def test_a_study_set_of_another_size_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    wrong = settings(tiny_data).model_copy(update={"tokenizer": SHAPE.model_copy(update={"size_px": 64})})
    with pytest.raises(StudySetError, match="1-channel views of 32 px, the tokenizer is configured for 1 channel"):
        train_tokenizer(wrong, tmp_path)


def test_a_checkpoint_of_another_shape_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    train_tokenizer(settings(tiny_data), tmp_path)
    other = settings(tiny_data).model_copy(update={"tokenizer": SHAPE.model_copy(update={"levels": (5, 5)})})
    with pytest.raises(TrainingError, match="belongs to a tokenizer of another shape"):
        train_tokenizer(other, tmp_path)


def test_the_spectral_loss_is_monais_with_a_gradient_at_zero() -> None:
    a, b = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    assert float(spectral_loss(a, b)) == pytest.approx(float(JukeboxLoss(spatial_dims=2)(a, b)), rel=1e-5)
    zero = torch.zeros(1, 1, 8, 8, requires_grad=True)
    spectral_loss(zero, torch.rand(1, 1, 8, 8)).backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


def test_the_discriminators_loss_leaves_the_tokenizer_alone() -> None:
    objective = TokenizerObjective(LOSSES, channels=1)
    decoded = torch.rand(2, 1, 32, 32, requires_grad=True)
    objective.discriminator_loss(decoded, torch.rand(2, 1, 32, 32)).backward()
    assert decoded.grad is None
