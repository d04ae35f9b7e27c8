"""Whole trainings of the variants: they run, resume exactly, and steps are not lost to rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arra_med.corpus.features import extract_features
from arra_med.errors import CorpusError
from arra_med.models.bundle import ModelBundle
from arra_med.training.run import train
from tests.training.conftest import TinyData
from tests.training.test_run import logged, settings


@pytest.fixture(scope="module")
def patches(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("patches") / "patches.parquet"
    teacher = f"timm:{tiny_data.features.parent / 'teacher'}"
    extract_features(tiny_data.studies, teacher, out, views=2, kinds=("cls", "mean", "patch"), progress=False)
    return out


def aligned(data: TinyData, features: Path, *blocks: dict[str, Any], **changes: Any) -> Any:
    listed = [{"teacher_features": features, "projector_width": 16, **block} for block in blocks]
    return settings(data, alignment=listed, **changes)


@pytest.mark.parametrize(
    "blocks",
    [
        [{"feature": "patch", "layer": [1, 2], "projector_depth": 3}],
        [{"feature": "cls+mean", "loss": "mse", "warmup_steps": 2, "end_step": 5}],
        [{"feature": "patch", "layer": 2}, {"feature": "mean", "target": "rep", "weight": 0.5}],
    ],
    ids=["patches-two-layers", "both-mse-schedule", "two-teachers"],
)
def test_a_variant_trains_and_resumes_exactly(
    tiny_data: TinyData, patches: Path, tmp_path: Path, blocks: list[dict[str, Any]]
) -> None:
    train(aligned(tiny_data, patches, *blocks), tmp_path / "whole")
    train(aligned(tiny_data, patches, *blocks, steps=3), tmp_path / "parts")
    train(aligned(tiny_data, patches, *blocks), tmp_path / "parts")
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")
    names = ["alignment_loss"] if len(blocks) == 1 else ["alignment_loss_1", "alignment_loss_2"]
    assert all(len(logged(tmp_path / "whole", name)) == 6 for name in names)
    bundle = ModelBundle.load(tmp_path / "whole/bundle")
    assert bundle.info.variant == "arra"
    assert len(bundle.info.training["teachers"]) == len(blocks)
    assert "teacher_features" not in (tmp_path / "whole/bundle/bundle.json").read_text()


def test_a_feature_that_the_file_does_not_hold_is_named(tiny_data: TinyData, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match="holds cls, mean, feature 'patch' was asked for; run arra-med features with it"
    ):
        train(aligned(tiny_data, tiny_data.features, {"feature": "patch"}), tmp_path)


def test_steps_below_bfloat16s_resolution_count(tiny_data: TinyData, tmp_path: Path) -> None:
    """In bfloat16 a weight of 1 moves by 1/256 at least; steps of 1e-5 would leave every norm where it was."""
    train(settings(tiny_data, bf16=True, learning_rate=1e-5, warmup_steps=0), tmp_path)
    checkpoint = torch.load(tmp_path / "checkpoints/checkpoint-6/optimizer.pt", weights_only=True)
    assert {value.dtype for state in checkpoint["state"].values() for value in state.values()} == {torch.float32}
    norm = load_file(tmp_path / "checkpoints/checkpoint-6/task.safetensors")["language_model.model.norm.weight"]
    assert norm.dtype == torch.float32
    moved = (norm - 1).abs()
    assert bool((moved > 0).all())
    assert float(moved.max()) < 1 / 256
