"""reAR's regulariser against numpy, and which hidden states it meets."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arra_med.models.presets import PRESETS, random_llama
from arra_med.tokens.vq import VQConfig, VQTokenizer
from arra_med.training.alignment import decoder_blocks
from arra_med.training.consistency import Consistency, ConsistencyConfig
from arra_med.training.run import train
from arra_med.training.task import TrainingTask
from tests.training.conftest import TinyData
from tests.training.test_run import logged, settings
from tests.training.test_task import LAYOUT, VOCABULARY, batch


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_the_early_block_knows_the_token_at_its_place_and_the_late_one_the_next(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(VOCABULARY.codebook_size, 3, generator=generator)
    config = ConsistencyConfig(current_layer=1, next_layer=3, loss=loss, projector_width=6)
    subject = Consistency(config, LAYOUT, hidden_size=5, num_layers=4, codebook=codebook)
    ids = torch.tensor([LAYOUT.training_ids([10], [1, 7, 0, 4])[0], LAYOUT.training_ids([11], [2, 2, 5, 6])[0]])
    taken = {layer: torch.randn(2, ids.shape[1], 5, generator=generator) for layer in (1, 3)}
    found = subject(taken, torch.tensor([3, 3]), ids)
    distances = []
    for layer, projector, shift in ((1, subject.projectors[0], 0), (3, subject.projectors[1], 1)):
        for row, codes in enumerate([[1, 7, 0, 4], [2, 2, 5, 6]]):
            for place, code in enumerate(codes):
                p = projector(taken[layer][row, 3 + place - shift]).detach().double().numpy()
                e = codebook[code].double().numpy()
                cosine = p @ e / np.linalg.norm(p) / np.linalg.norm(e)
                distances.append(1 - cosine if loss == "cosine" else ((p - e) ** 2).mean())
    assert float(found.detach()) == pytest.approx(np.mean(distances), rel=1e-5)


def test_a_code_is_what_the_decoder_reads() -> None:
    tokenizer = VQTokenizer(VQConfig(size_px=16, downsampling=4, width=32, levels=(3, 4)))
    codes = torch.tensor([[[0, 5], [11, 3]]])
    assert torch.equal(tokenizer.codebook[codes].permute(0, 3, 1, 2), tokenizer.quantizer.values(codes))


def test_gradients_reach_the_blocks_up_to_the_late_one_and_the_projectors_alone() -> None:
    model = random_llama(PRESETS["tiny"], VOCABULARY.vocab_size, 64, seed=0)
    config = ConsistencyConfig(current_layer=1, next_layer=1, projector_width=8)
    codebook = torch.randn(VOCABULARY.codebook_size, 3, generator=torch.Generator().manual_seed(1))
    subject = TrainingTask(model, LAYOUT, z_loss_weight=0.0, consistency=config, codebook=codebook)
    losses = subject(**{name: value for name, value in batch([10]).items() if name != "teacher_features"})
    assert float(losses["loss"].detach()) == pytest.approx(
        float(losses["image_token_loss"] + losses["consistency_loss"].detach()), rel=1e-6
    )
    losses["consistency_loss"].backward()
    touched = [any(p.grad is not None and bool(p.grad.any()) for p in b.parameters()) for b in decoder_blocks(model)]
    assert touched == [True, False]
    assert subject.consistency is not None
    assert all(p.grad is not None and bool(p.grad.any()) for p in subject.consistency.parameters())


def test_training_with_it_resumes_and_leaves_a_plain_bundle(tiny_data: TinyData, tmp_path: Path) -> None:
    config = settings(tiny_data, consistency={"projector_width": 16})
    train(config, tmp_path / "whole")
    train(config.model_copy(update={"steps": 3, "schedule": "constant"}), tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed/bundle")
    train(config, tmp_path / "resumed")
    losses = [logged(tmp_path / run, "consistency_loss") for run in ("whole", "resumed")]
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    plain = tmp_path / "plain"
    train(settings(tiny_data), plain)
    tensors = [load_file(out / "bundle/model.safetensors").keys() for out in (tmp_path / "whole", plain)]
    assert tensors[0] == tensors[1]
