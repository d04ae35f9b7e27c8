"""`transformers.Trainer` with the task's named losses: fine-tuning and ARRA differ only in the task it is given."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from arra_med.errors import TrainingError
from arra_med.runs import write_json
from arra_med.training.task import TrainingTask

COMPLETE_MARK = "complete.json"
_WEIGHTS = "task.safetensors"
_BATCH_TENSORS = ("input_ids", "context_ids", "image_start", "teacher_features")


class TaskTrainer(Trainer):
    """Trains a `TrainingTask`.

    It logs every named loss, stops at the first loss that is not finite, marks a checkpoint only once it is complete,
    and clips language model and projector each by its own norm, so that the projector never scales the model's steps.

    Args:
        max_norm: Largest gradient norm of each of the two groups.
        kwargs: As `transformers.Trainer`; the model is a `TrainingTask`.
    """

    model: TrainingTask
    optimizer: Any
    control: Any

    def __init__(self, *, max_norm: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_norm = max_norm
        self.model_accepts_loss_kwargs = False  # every sequence predicts equally many tokens: means of means are exact
        self._sums: dict[str, float] = defaultdict(float)
        self._num_summed = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Returns the loss of one batch and remembers its named parts for the log."""
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
        """Adds the named losses' means since the last log."""
        if self._num_summed and "loss" in logs:
            logs.update({name: total / self._num_summed for name, total in self._sums.items()})
            self._sums.clear()
            self._num_summed = 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW on float32 weights; no decay on vectors (norms, biases); each group clipped by its own norm."""
        optimizer: torch.optim.Optimizer | None = self.optimizer
        if optimizer is None:
            clipped = [list(self.model.language_model.parameters())]
            if self.model.projector is not None:
                clipped.append(list(self.model.projector.parameters()))
            groups = [
                {"params": [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays], "weight_decay": decay}
                for parameters in clipped
                for decays, decay in ((True, self.args.weight_decay), (False, 0.0))
            ]
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            optimizer = self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, betas=betas, fused=True)

            def clip(*_: Any) -> None:
                for parameters in clipped:
                    torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)

            optimizer.register_step_pre_hook(clip)
        return optimizer

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Returns and logs the held-out losses, means over images."""
        sums: dict[str, float] = defaultdict(float)
        num_images = 0
        loader = DataLoader(self.eval_dataset, batch_size=self.args.eval_batch_size, collate_fn=self.data_collator)
        task = self.model.eval()
        for batch in loader:
            inputs = {name: batch[name].to(self.args.device) for name in ("input_ids", "image_start")}
            with self.compute_loss_context_manager():
                losses = task.held_out_losses(**inputs)
            num_images += len(batch["keys"])
            for name, value in losses.items():
                sums[name] += float(value) * len(batch["keys"])
        task.train()
        metrics = {f"eval_{name}": total / num_images for name, total in sums.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _everywhere_finite(self, loss: torch.Tensor) -> bool:
        """Whether the loss is finite on every process, so that all stop together instead of waiting for one."""
        finite = torch.isfinite(loss.detach()).float()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN)
        return bool(finite)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            write_json(folder / COMPLETE_MARK, {"step": self.state.global_step})

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / _WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_model(model or self.model, str(Path(resume_from_checkpoint) / _WEIGHTS))


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint that was written to its end; removes unfinished ones, so none is resumed."""
    while folder.is_dir() and (found := get_last_checkpoint(str(folder))) is not None:
        checkpoint = Path(found)
        try:
            json.loads((checkpoint / COMPLETE_MARK).read_text(encoding="utf-8"))
            return checkpoint
        except (OSError, ValueError):
            checkpoint.rename(checkpoint.with_name(f"unfinished-{checkpoint.name}"))
    return None
