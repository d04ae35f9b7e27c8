"""Whole trainings at toy size: what must be equal is equal to the last bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arra_med.errors import CorpusError, TrainingError
from arra_med.models.bundle import ModelBundle
from arra_med.models.presets import PRESETS
from arra_med.training.alignment import AlignmentConfig
from arra_med.training.run import train
from arra_med.training.settings import TrainConfig
from arra_med.training.task import TrainingTask
from tests.training.conftest import TinyData


def settings(data: TinyData, *, weight: float | None = None, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "name": "tiny",
        "corpus": data.corpus,
        "image_tokenizer": data.tokenizer,
        "start": {"kind": "random", "preset": "tiny", "text_vocab_size": 300},
        "max_text_tokens": 100,
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "log_every": 1,
        "evaluate_every": 3,
        "checkpoint_every": 3,
        "device": "cpu",
        "bf16": False,
    }
    if weight is not None:
        values["alignment"] = AlignmentConfig(
            teacher_features=data.features, weight=weight, layer=2, projector_width=16
        )
    return TrainConfig(**{**values, **changes})


def logged(out: Path, name: str) -> list[float]:
    return [row[name] for row in json.loads((out / "log.json").read_text()) if name in row]


@pytest.fixture(scope="module")
def baseline(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("baseline")
    train(settings(tiny_data), out)
    return out


def test_lambda_zero_is_bit_identical_to_fine_tuning(tiny_data: TinyData, baseline: Path, tmp_path: Path) -> None:
    train(settings(tiny_data, weight=0.0), tmp_path)
    assert logged(tmp_path, "image_token_loss") == logged(baseline, "image_token_loss")
    assert logged(tmp_path, "loss") == logged(baseline, "loss")
    assert (tmp_path / "bundle/model.safetensors").read_bytes() == (baseline / "bundle/model.safetensors").read_bytes()
    assert len(logged(tmp_path, "alignment_loss")) == 6  # reported although it does not count


def test_alignment_changes_training_without_any_z_loss(tiny_data: TinyData, tmp_path: Path) -> None:
    """The first implementation dropped the alignment when the unrelated z-loss was switched off."""
    train(settings(tiny_data, weight=1.0, z_loss_weight=0.0), tmp_path / "arra")
    train(settings(tiny_data, weight=0.0, z_loss_weight=0.0), tmp_path / "plain")
    alignment = logged(tmp_path / "arra", "alignment_loss")
    assert alignment[-1] < logged(tmp_path / "plain", "alignment_loss")[-1]
    assert logged(tmp_path / "arra", "image_token_loss") != logged(tmp_path / "plain", "image_token_loss")


@pytest.mark.parametrize("weight", [None, 1.0])
def test_resume_equals_an_uninterrupted_run(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float | None
) -> None:
    config = settings(tiny_data, weight=weight)
    train(config, tmp_path / "whole")
    forward = TrainingTask.forward
    calls = 0

    def interrupted(task: TrainingTask, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:  # after the checkpoint at step 3
            raise KeyboardInterrupt
        return forward(task, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingTask, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "resumed")
    train(config, tmp_path / "resumed")
    assert logged(tmp_path / "resumed", "image_token_loss") == logged(tmp_path / "whole", "image_token_loss")
    weights = [(tmp_path / run / "bundle/model.safetensors").read_bytes() for run in ("whole", "resumed")]
    assert weights[0] == weights[1]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TrainingTask.forward
    calls = 0

    def broken(task: TrainingTask, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        losses = forward(task, *args, **kwargs)
        return {**losses, "loss": losses["loss"] * float("nan")} if calls == 5 else losses

    monkeypatch.setattr(TrainingTask, "forward", broken)
    with pytest.raises(TrainingError, match="loss is not finite at step 4; the last complete checkpoint"):
        train(settings(tiny_data), tmp_path)
    assert (tmp_path / "checkpoints/checkpoint-3/complete.json").is_file()
    assert not (tmp_path / "bundle").exists()


def test_the_bundle_opens_with_plain_transformers_and_gives_the_same_logits(baseline: Path) -> None:
    from transformers import AutoModelForCausalLM

    bundle = ModelBundle.load(baseline / "bundle")
    plain = AutoModelForCausalLM.from_pretrained(baseline / "bundle", dtype=torch.float32)
    ids = torch.randint(0, bundle.layout.vocabulary.vocab_size, (2, 30))
    assert torch.equal(plain(ids).logits, bundle.model(ids).logits)
    assert not any("projector" in name for name, _ in plain.named_parameters())
    assert bundle.info.label_counts == {"effusion": 8, "normal": 8}
    assert bundle.info.variant == "finetuned"


def test_gradient_checkpointing_changes_no_loss(tiny_data: TinyData, tmp_path: Path) -> None:
    """A hook fires again on recomputation; the tap must not take that for a second forward pass."""
    train(settings(tiny_data, weight=1.0), tmp_path / "plain")
    train(settings(tiny_data, weight=1.0, gradient_checkpointing=True), tmp_path / "checkpointed")
    losses = [logged(tmp_path / run, "loss") for run in ("plain", "checkpointed")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_another_tokenizer_than_the_corpus_was_made_with_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_data.tokenizer.iterdir():
        (other / file.name).write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CorpusError, match="is not the tokenizer that made"):
        train(settings(tiny_data, image_tokenizer=other), tmp_path / "out")


def test_starting_from_a_bundle_keeps_its_image_head(tiny_data: TinyData, baseline: Path, tmp_path: Path) -> None:
    """The first implementation zeroed the rows of an image head that was already trained."""
    start = {"kind": "bundle", "path": baseline / "bundle"}
    train(settings(tiny_data, start=start, steps=1, learning_rate=1e-9, warmup_steps=0), tmp_path)
    before, after = (ModelBundle.load(run / "bundle").model.lm_head.weight for run in (baseline, tmp_path))
    assert torch.allclose(before, after, atol=1e-6)


def test_a_corpus_of_other_tokens_or_views_than_the_bundles_is_refused(
    tiny_data: TinyData, baseline: Path, tmp_path: Path
) -> None:
    start = {"kind": "bundle", "path": shutil.copytree(baseline / "bundle", tmp_path / "bundle")}
    weights = tmp_path / "bundle/image_tokenizer/model.safetensors"
    description = tmp_path / "bundle/bundle.json"
    kept = weights.read_bytes(), description.read_text()
    weights.write_bytes(kept[0][:-1] + b"\x00")
    with pytest.raises(CorpusError, match="was not made with the image tokenizer of .*: tokenize the studies with"):
        train(settings(tiny_data, start=start), tmp_path / "out")
    weights.write_bytes(kept[0])
    told = json.loads(kept[1])
    told["canonical_view"]["size_px"] += 32
    description.write_text(json.dumps(told))
    with pytest.raises(
        CorpusError, match=r"its views have 32 px a side, .* draws 64: ingest the studies with --size 64"
    ):
        train(settings(tiny_data, start=start), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_presets_have_whole_heads() -> None:
    assert all(shape.hidden_size % shape.num_heads == 0 for shape in PRESETS.values())


def test_held_out_images_may_come_from_sources_of_their_own(
    tiny_data: TinyData, baseline: Path, tmp_path: Path
) -> None:
    train(settings(tiny_data, sources=("nih_cxr14",), held_out_sources=()), tmp_path / "all")
    assert logged(tmp_path / "all", "eval_loss") == logged(baseline, "eval_loss")
    with pytest.raises(CorpusError, match="no image of the chosen sources and fold is in split validation"):
        train(settings(tiny_data, held_out_sources=("kermany_pneumonia",)), tmp_path / "none")
