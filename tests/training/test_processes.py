"""One training by two processes is the training by one: losses, checkpoints, held-out means, and how it ends."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arra_med.errors import ConfigError, TrainingError
from arra_med.models.bundle import ModelBundle
from arra_med.training.processes import accumulation_for
from arra_med.training.run import train
from arra_med.training.settings import TrainConfig
from tests.training.conftest import TinyData
from tests.training.several_processes import (
    PATIENCE_S,
    do_jobs,
    five_held_out_images,
    processes_without_torchrun,
    torchrun,
    write_config,
)
from tests.training.test_run import logged, settings

NAMED_LOSSES = ("loss", "image_token_loss", "alignment_loss", "z_loss", "eval_image_token_loss")


def shared_step(data: TinyData, **changes: Any) -> TrainConfig:
    """Four sequences a step, whoever computes them; sixteen images, so six steps reach the second epoch."""
    values: dict[str, Any] = {"global_batch": 4, "batch_size": 2, "token_noise": 0.1, "prompt_dropout": 0.3}
    return settings(data, weight=1.0, **{**values, "checkpoint_every": 2, "evaluate_every": 2, **changes})


@pytest.fixture(scope="module")
def alone(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as monkeypatch:
        five_held_out_images(monkeypatch)
        train(shared_step(tiny_data), out)
    return out


@pytest.fixture(scope="module")
def jobs(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes did: `moved` from a checkpoint of one process, `nan`, `sharded`, and two resumes of those."""
    root = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        five_held_out_images(monkeypatch)
        train(shared_step(tiny_data, steps=2), root / "moved")
    sharded = {"sharding": "fsdp2", "gradient_checkpointing": True}
    todo = [
        ("moved", shared_step(tiny_data, steps=4), ["five_held_out_images"]),
        ("nan", shared_step(tiny_data), ["nan_in_the_second_process"]),
        ("sharded", shared_step(tiny_data, steps=4, **sharded), ["five_held_out_images", "fsdp2_on_a_cpu"]),
        ("sharded", shared_step(tiny_data, steps=5, **sharded), ["five_held_out_images", "fsdp2_on_a_cpu"]),
        ("bf16", shared_step(tiny_data, steps=3, bf16=True, **sharded), ["fsdp2_on_a_cpu"]),
    ]
    listed = [
        {"config": str(write_config(config, root / f"{n}.yaml")), "out": str(root / name), "changes": changes}
        for n, (name, config, changes) in enumerate(todo)
    ]
    do_jobs([*listed, {"config": None, "out": str(root / "fully_shard.json")}], root)
    return root


def by_step(out: Path, name: str) -> dict[int, float]:
    return {row["step"]: row[name] for row in json.loads((out / "log.json").read_text()) if name in row}


def assert_same_losses(found: Path, wanted: Path, steps: int = 6) -> None:
    for name in NAMED_LOSSES:
        ours, theirs = by_step(found, name), by_step(wanted, name)
        every = 2 if name.startswith("eval") else 1
        compared = range(every, steps + 1, every)
        assert [ours[step] for step in compared] == pytest.approx([theirs[step] for step in compared], rel=1e-5), name


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tiny_data: TinyData, tmp_path: Path) -> None:
    train(shared_step(tiny_data, global_batch=None, batch_size=4), tmp_path / "one")
    config = write_config(shared_step(tiny_data), tmp_path / "two.yaml")
    run = torchrun("arra_med.cli", "train", "--config", config, "--out", tmp_path / "two")
    printed, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, printed
    assert printed.count("bundle written to") == 1
    assert_same_losses(tmp_path / "two", tmp_path / "one")
    bundles = [ModelBundle.load(tmp_path / name / "bundle") for name in ("one", "two")]
    assert [bundle.info.training["processes"] for bundle in bundles] == [1, 2]
    assert [bundle.info.training["sequences"] for bundle in bundles] == [24, 24]
    weights = [dict(bundle.model.named_parameters()) for bundle in bundles]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-2) for name in weights[0])


@pytest.mark.slow
def test_a_checkpoint_moves_from_one_process_to_two_and_back(
    tiny_data: TinyData, alone: Path, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps by one process, two by two, two by one."""
    five_held_out_images(monkeypatch)
    assert len(logged(jobs / "moved", "loss")) == 4
    train(shared_step(tiny_data), jobs / "moved")
    assert_same_losses(jobs / "moved", alone)
    with pytest.raises(TrainingError, match=r"made with 4 sequences a step, .* is 2; set global_batch=4"):
        train(shared_step(tiny_data, global_batch=2, steps=8), jobs / "moved")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_stops_both(jobs: Path) -> None:
    for rank in range(2):
        assert "the loss is not finite at step 4" in (jobs / f"nan/error-{rank}.txt").read_text()
    assert not (jobs / "nan/bundle").exists()
    assert (jobs / "nan/checkpoints/checkpoint-4/complete.json").is_file()


@pytest.mark.slow
def test_fsdp2_gives_the_losses_of_one_process_and_goes_on_from_its_checkpoints(
    tiny_data: TinyData, alone: Path, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps sharded, one more after a resume, and the sixth by one process without sharding."""
    assert_same_losses(jobs / "sharded", alone, steps=5)
    whole = load_file(jobs / "sharded/checkpoints/checkpoint-4/task.safetensors")
    plain = load_file(alone / "checkpoints/checkpoint-4/task.safetensors")
    assert {name: weight.shape for name, weight in whole.items()} == {n: w.shape for n, w in plain.items()}
    bundle = ModelBundle.load(jobs / "sharded/bundle")
    assert not any(parameter.is_meta for parameter in bundle.model.parameters())
    five_held_out_images(monkeypatch)
    train(shared_step(tiny_data), jobs / "sharded")
    assert_same_losses(jobs / "sharded", alone)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
def test_losses_gradients_and_clipping_under_fully_shard_are_those_of_the_whole_model(
    jobs: Path, checkpointed: bool
) -> None:
    """The tap on the aligned block stands under FSDP2's own hooks and under non-reentrant recomputation."""
    found = json.loads((jobs / "fully_shard.json").read_text())[f"checkpointed={checkpointed}"]
    assert found.pop("largest_gradient") > 1e-3
    assert max(found.values()) < 1e-5, found


@pytest.mark.slow
def test_sharded_bfloat16_does_not_round_the_losses_it_reports(alone: Path, jobs: Path) -> None:
    losses = torch.tensor(logged(jobs / "bf16", "loss"))
    assert losses.tolist() == pytest.approx(logged(alone, "loss")[:3], rel=2e-2)
    assert not torch.equal(losses, losses.bfloat16().float())


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_lost_process_ends_the_other_with_a_sentence(tiny_data: TinyData, tmp_path: Path, how: int) -> None:
    """Without torchrun to end it: what the processes of another machine see."""
    config = write_config(shared_step(tiny_data, steps=100_000, process_timeout_s=5), tmp_path / "long.yaml")
    first, second = processes_without_torchrun("arra_med.cli", "train", "--config", config, "--out", tmp_path / "long")
    try:
        wait_for_checkpoint(tmp_path / "long")
        second.send_signal(how)
        lost = time.monotonic()
        printed, _ = first.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - lost < 60
        assert first.returncode == 1
        assert "another process of this training has ended or no longer answers" in printed
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert list((tmp_path / "long/checkpoints").glob("*/complete.json"))


@pytest.mark.slow
def test_torchrun_ends_all_when_one_process_is_killed(tiny_data: TinyData, tmp_path: Path) -> None:
    config = write_config(shared_step(tiny_data, steps=100_000), tmp_path / "long.yaml")
    run = torchrun("arra_med.cli", "train", "--config", config, "--out", tmp_path / "long")
    try:
        wait_for_checkpoint(tmp_path / "long")
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        lost = time.monotonic()
        printed, _ = run.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - lost < 60
        assert run.returncode != 0
        assert "SIGKILL" in printed
    finally:
        run.kill()
        run.communicate()


def wait_for_checkpoint(out: Path) -> None:
    """Waits until a run has a complete checkpoint."""
    end = time.monotonic() + PATIENCE_S
    while not list((out / "checkpoints").glob("*/complete.json")):
        assert time.monotonic() < end, "the run wrote no checkpoint"
        time.sleep(0.1)


def test_processes_share_a_step_equally_or_say_which_number_can() -> None:
    assert accumulation_for(batch_size=2, accumulation=3, global_batch=None, processes=5) == 3
    assert [accumulation_for(2, 1, 24, processes) for processes in (1, 2, 3, 4, 6, 12)] == [12, 6, 4, 3, 2, 1]
    with pytest.raises(ConfigError, match=r"24, which 5 processes .* \(2 x 5 = 10 .*: start 1, 2, 3, 4, 6, 12 proc"):
        accumulation_for(2, 1, 24, 5)
    with pytest.raises(ConfigError, match="make global_batch a multiple of batch_size"):
        accumulation_for(5, 1, 24, 1)
    with pytest.raises(ConfigError, match="global_batch decides the accumulation"):
        accumulation_for(2, 2, 24, 1)


def test_sharding_without_gpus_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fsdp2 with 1 process\(es\) on cpu; it needs several"):
        train(shared_step(tiny_data, sharding="fsdp2"), tmp_path)
    assert not list(tmp_path.iterdir())
