"""`transformers.Trainer` with the task's named losses: fine-tuning and ARRA differ only in the task it is given."""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from arra_med.errors import TrainingError
from arra_med.runs import atomic_file, write_json
from arra_med.training.processes import Meeting, sums_over_processes
from arra_med.training.sharding import (
    load_whole_optimizer_state,
    load_whole_weights,
    whole_optimizer_state,
    whole_weights,
)
from arra_med.training.task import TrainingTask

COMPLETE_MARK = "complete.json"
_WEIGHTS, _OPTIMIZER, _SCHEDULE = "task.safetensors", "optimizer.pt", "scheduler.pt"
_BATCH_TENSORS = ("input_ids", "context_ids", "image_start", "teacher_features")


class TaskTrainer(Trainer):
    """Trains a `TrainingTask`.

    It logs every named loss, stops at the first loss that is not finite, marks a checkpoint only once it is complete,
    and clips language model and projectors each by their own norm, so that a projector never scales the model's steps.
    With several processes losses are means over all of them, each evaluates its share of the held-out images, and the
    first one writes; a checkpoint does not depend on how many there were or how they cut the weights.

    Args:
        max_norm: Largest gradient norm of each of the two groups.
        meeting: Where processes wait for the one that writes.
        kwargs: As `transformers.Trainer`; the model is a `TrainingTask`, the training data a `SequenceStream`.
    """

    model: TrainingTask
    optimizer: Any
    control: Any

    def __init__(self, *, max_norm: float, meeting: Meeting, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_norm = max_norm
        self.meeting = meeting
        self.model_accepts_loss_kwargs = False  # every sequence predicts equally many tokens: means of means are exact
        self._sums: dict[str, float] = defaultdict(float)
        self._num_summed = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Returns the loss of one batch and remembers its named parts for the log."""
        self.model.step = self.state.global_step
        losses = model(**{name: inputs[name] for name in _BATCH_TENSORS if name in inputs})
        if not self._everywhere_finite(losses["loss"]):
            raise TrainingError(
                f"the loss is not finite at step {self.state.global_step}; the last complete checkpoint in "
                f"{self.args.output_dir} is kept: lower learning_rate, and start the same command again to go on from it"
            )
        for name, value in losses.items():
            if name != "loss":
                self._sums[name] += float(value.detach())
        self._num_summed += 1
        loss: torch.Tensor = losses["loss"]
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the named losses' means since the last log, and counts the epochs of the stream."""
        if self._num_summed and "loss" in logs:
            *totals, num_summed = sums_over_processes([*self._sums.values(), self._num_summed], self.args.device)
            logs.update({name: total / num_summed for name, total in zip(self._sums, totals, strict=True)})
            self._sums.clear()
            self._num_summed = 0
        self.state.epoch = self.state.global_step * self.global_batch / len(self.train_dataset.examples)
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW on float32 weights; no decay on vectors (norms, biases); each group clipped by its own norm."""
        optimizer: torch.optim.Optimizer | None = self.optimizer
        if optimizer is None:
            parts = [self.model.language_model, *filter(None, (self.model.alignments, self.model.consistency))]
            clipped = [list(part.parameters()) for part in parts]
            groups = [
                {"params": [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays], "weight_decay": decay}
                for parameters in clipped
                for decays, decay in ((True, self.args.weight_decay), (False, 0.0))
            ]
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            optimizer = self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, betas=betas, fused=True)

            def clip(stepping: torch.optim.Optimizer, *_: Any) -> None:
                pairs = zip(stepping.param_groups[::2], stepping.param_groups[1::2], strict=True)
                for matrices, vectors in pairs:  # FSDP2 has put other parameters in the place of `clipped`
                    torch.nn.utils.clip_grad_norm_([*matrices["params"], *vectors["params"]], self.max_norm)

            optimizer.register_step_pre_hook(clip)
        return optimizer

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Returns and logs the held-out losses, means over all images; each process computes its share of them."""
        sums: dict[str, float] = defaultdict(float)
        batch_size, num_images = self.args.eval_batch_size, len(self.eval_dataset)
        mine = range(self.args.process_index, num_images, self.args.world_size)
        task = self.model.eval()
        if isinstance(task, FSDPModule) and "held_out_losses" not in vars(task):
            register_fsdp_forward_method(task, "held_out_losses")
        # every process computes equally often, because sharded weights are gathered by all of them together
        for first in range(0, -(-num_images // self.args.world_size), batch_size):
            images = mine[first : first + batch_size]
            batch = self.data_collator([self.eval_dataset[image] for image in images or [0]])
            inputs = {name: batch[name].to(self.args.device) for name in ("input_ids", "image_start")}
            with self.compute_loss_context_manager():
                losses = task.held_out_losses(**inputs)
            for name, value in losses.items():
                sums[name] += float(value) * len(images)
        if isinstance(task, FSDPModule):
            task.reshard()  # without a backward pass its own unit would stay gathered
        task.train()
        totals = sums_over_processes(list(sums.values()), self.args.device)
        metrics = {f"eval_{name}": total / num_images for name, total in zip(sums, totals, strict=True)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @property
    def global_batch(self) -> int:
        """Sequences of one optimiser step, over all processes."""
        each: int = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return each * self.args.world_size

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the whole weights, by the first process."""
        weights = whole_weights(self.model, keep=self.args.should_save, trained_alone=True)
        if self.args.should_save:
            with atomic_file(Path(output_dir or self.args.output_dir) / _WEIGHTS) as partial:
                save_file(weights, str(partial))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _everywhere_finite(self, loss: torch.Tensor) -> bool:
        """Whether the loss is finite on every process, so that all stop together instead of waiting for one."""
        finite = torch.isfinite(loss.detach()).float()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN)
        return bool(finite)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.meeting.wait()  # each process has written its own random state
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            write_json(folder / COMPLETE_MARK, {"step": self.state.global_step, "global_batch": self.global_batch})

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        saves = self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if saves:
            self.meeting.wait()  # the first process has marked the checkpoint and drawn its samples

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = whole_optimizer_state(self.optimizer, keep=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / _OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        sharded = isinstance(self.model, FSDPModule)  # a shard reads its part of the file, not a copy of all
        state = torch.load(Path(checkpoint) / _OPTIMIZER, map_location="cpu", weights_only=True, mmap=sharded)
        load_whole_optimizer_state(self.optimizer, state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / _SCHEDULE, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_whole_weights(model or self.model, Path(resume_from_checkpoint) / _WEIGHTS)


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint that was written to its end; removes unfinished ones, so none is resumed."""
    while folder.is_dir() and (found := get_last_checkpoint(str(folder))) is not None:
        if _mark(Path(found)) is not None:
            return Path(found)
        shutil.rmtree(found)
    return None


def check_global_batch(checkpoint: Path, global_batch: int) -> None:
    """Checks that a checkpoint is gone on from with as many sequences a step as it was made with.

    Raises:
        TrainingError: If it was made with another number.
    """
    before = (_mark(checkpoint) or {}).get("global_batch", global_batch)
    if before != global_batch:
        raise TrainingError(
            f"{checkpoint}: was made with {before} sequences a step, and now batch_size x accumulation x processes is "
            f"{global_batch}; set global_batch={before} (and accumulation to 1), or choose another --out"
        )


def _mark(checkpoint: Path) -> dict[str, Any] | None:
    try:
        mark: dict[str, Any] = json.loads((checkpoint / COMPLETE_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark
