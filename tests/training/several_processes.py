"""Real trainings by several processes, and the jobs that they do one after another (`python -m ... JOBS.json`)."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from arra_med.config import dump_config, load_config
from arra_med.errors import ArraMedError
from arra_med.runs import write_json
from arra_med.training import run as training_run
from arra_med.training.alignment import decoder_blocks
from arra_med.training.blocks import enable_gradient_checkpointing
from arra_med.training.run import train
from arra_med.training.settings import TrainConfig
from arra_med.training.sharding import whole_weights
from arra_med.training.task import TrainingTask
from arra_med.training.trainer import TaskTrainer
from tests.training.test_task import ALIGNMENT, batch, task

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 600


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that finds this checkout."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "apps")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


def torchrun(*words: str | Path) -> subprocess.Popen[str]:
    """Starts two processes by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *words]
    return _start(command, environment())


def processes_without_torchrun(*words: str | Path) -> list[subprocess.Popen[str]]:
    """Starts two processes that nobody watches, as if on two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", *words]
    return [_start(command, environment(**place, RANK=str(rank), LOCAL_RANK=str(rank))) for rank in range(2)]


def write_config(config: TrainConfig, path: Path) -> Path:
    dump_config(config, path)
    return path


def do_jobs(jobs: list[dict[str, Any]], folder: Path) -> str:
    """Does jobs in two processes and returns what they printed. A job: config, out, and a change of the training."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    run = torchrun("tests.training.several_processes", folder / "jobs.json")
    printed, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, printed
    return printed


def five_held_out_images(monkeypatch: Any) -> None:
    """Five images for two processes and batches of two: the second process has none in the second round."""
    dataset = training_run.TrainingDataset

    def build(*args: Any, evaluation: bool = False, **kwargs: Any) -> Any:
        built = dataset(*args, evaluation=evaluation, **kwargs)
        if evaluation:
            built.examples = built.examples[:5]
        return built

    monkeypatch.setattr(training_run, "TrainingDataset", build)


def nan_in_the_second_process(monkeypatch: Any) -> None:
    forward = TrainingTask.forward
    calls = 0

    def broken(task: TrainingTask, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        losses = forward(task, *args, **kwargs)
        return {**losses, "loss": losses["loss"] * float("nan")} if calls == 5 and os.environ["RANK"] == "1" else losses

    monkeypatch.setattr(TrainingTask, "forward", broken)


def fsdp2_on_a_cpu(monkeypatch: Any) -> None:
    """Makes accelerate use its FSDP2 plugin, which it ignores without an accelerator."""
    from accelerate import DistributedType, FullyShardedDataParallelPlugin

    prepare = TaskTrainer.create_accelerator_and_postprocess

    def with_plugin(trainer: TaskTrainer) -> None:
        prepare(trainer)
        trainer.accelerator.state.distributed_type = DistributedType.FSDP
        trainer.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        trainer.is_fsdp_enabled = True

    def of_shards(module: Any, keep: bool) -> dict[str, torch.Tensor]:
        assert all(isinstance(parameter, DTensor) for parameter in module.parameters())
        return whole_weights(module, keep)

    monkeypatch.setattr(training_run, "whole_weights", of_shards)
    monkeypatch.setattr(TaskTrainer, "create_accelerator_and_postprocess", with_plugin)
    monkeypatch.setattr(training_run, "check_sharding", lambda *_: None)


def compare_fully_shard(out: Path) -> None:
    """Writes how far losses, gradients and their norm under `fully_shard` are from those of the whole model."""
    found = {}
    for checkpointed in (False, True):
        whole, cut = task(ALIGNMENT), task(ALIGNMENT)
        if checkpointed:
            enable_gradient_checkpointing(cut.language_model)
            cut.train()
        for block in decoder_blocks(cut.language_model):
            fully_shard(block)
        fully_shard(cut)
        inputs = batch([10, 11, 12], [13], [14, 15], [])
        mine = tree_map(lambda tensor: tensor.chunk(2)[dist.get_rank()], inputs)
        wanted, losses = whole(**inputs), cut(**mine)
        wanted["loss"].backward()
        losses["loss"].backward()
        means, truth = (torch.stack([part[name].detach() for name in sorted(part)]) for part in (losses, wanted))
        dist.all_reduce(means, op=dist.ReduceOp.SUM)
        pairs = list(zip(cut.parameters(), whole.parameters(), strict=True))
        gradients = [(p.grad.full_tensor(), q.grad.clone()) for p, q in pairs]
        norms = [torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1) for model in (cut, whole)]
        clipped = [(p.grad.full_tensor(), q.grad) for p, q in pairs]
        found[f"checkpointed={checkpointed}"] = {
            "losses": float((means / 2 - truth).abs().max()),
            "gradients": max(float((a - b).abs().max()) for a, b in gradients),
            "norm": abs(float(norms[0].full_tensor()) - float(norms[1])),
            "clipped": max(float((a - b).abs().max()) for a, b in clipped),
            "largest_gradient": max(float(b.abs().max()) for _, b in gradients),
        }
    if dist.get_rank() == 0:
        write_json(out, found)


CHANGES = {change.__name__: change for change in (five_held_out_images, nan_in_the_second_process, fsdp2_on_a_cpu)}


def _start(command: list[str | Path], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(map(str, command)), env=environ, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _main() -> None:
    import pytest

    torch.set_num_threads(1)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if job["config"] is None:
            compare_fully_shard(Path(job["out"]))
            continue
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in job["changes"]:
                CHANGES[name](monkeypatch)
            try:
                train(load_config(Path(job["config"]), TrainConfig), Path(job["out"]))
            except ArraMedError as error:
                Path(job["out"], f"error-{os.environ['RANK']}.txt").write_text(str(error))


if __name__ == "__main__":
    _main()
