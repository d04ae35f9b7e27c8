"""`arra-med tokenizer train`: study set -> image tokenizer, with checkpoints, held-out fidelity and a picture grid."""

import contextlib
import dataclasses
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from tqdm import tqdm

from arra_med.config import Device, StrictModel, dump_config, resolve_device
from arra_med.corpus.folds import PatientFold
from arra_med.corpus.study_set import StudySet
from arra_med.errors import StudySetError, TrainingError
from arra_med.imaging.view import augmented_view, from_uint8
from arra_med.records.study import Split
from arra_med.runs import atomic_file, versions, write_json
from arra_med.tokens.fidelity import TokenizerFidelity, measure_fidelity
from arra_med.tokens.vq import VQConfig, VQTokenizer
from arra_med.training.allocator import keep_freed_memory
from arra_med.training.descent import cosine_rate, descend
from arra_med.training.tokenizer_losses import TokenizerLossConfig, TokenizerObjective

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_GRID_COLUMNS = 8


class TokenizerTrainConfig(StrictModel):
    """Settings of one tokenizer training.

    Attributes:
        studies: Folder of the study set; training uses its train split, fidelity its validation split.
        sources: Only images of these sources train; empty takes all.
        fold: Only these patients of the train split train.
        tokenizer: Shape of the tokenizer; its size and channels must be the study set's.
        losses: Weights of the loss terms.
        steps: Optimiser steps.
        batch_size: Images a step.
        learning_rate: Peak rate of AdamW, after `warmup_steps`, falling along a cosine to a twentieth.
        warmup_steps: Steps of linear warm-up.
        seed: Of the initialisation, the order and the augmentation.
        checkpoint_every: Steps between checkpoints, fidelity on held-out images and picture grids.
        fidelity_images: Held-out images to measure at each checkpoint; the last measurement takes all.
        device: `auto`, `cpu`, `cuda` or `mps`.
        bf16: Autocast to bfloat16; the weights stay float32.
    """

    studies: Path
    sources: tuple[str, ...] = ()
    fold: PatientFold = PatientFold()
    tokenizer: VQConfig = VQConfig()
    losses: TokenizerLossConfig = TokenizerLossConfig()
    steps: int = Field(gt=0)
    batch_size: int = Field(default=16, gt=0)
    learning_rate: float = Field(default=4e-4, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    seed: int = 0
    checkpoint_every: int = Field(default=500, gt=0)
    fidelity_images: int = Field(default=64, gt=0)
    device: Device = "auto"
    bf16: bool = True


def train_tokenizer(config: TokenizerTrainConfig, out: Path, resume: bool = True) -> TokenizerFidelity:
    """Trains an image tokenizer.

    Args:
        config: The settings; saved to `out/config.yaml` before the first step.
        out: Receives `tokenizer/`, `fidelity.json`, `grid.png`, `checkpoint.pt` and TensorBoard logs.
        resume: Go on from `out/checkpoint.pt` where it exists.

    Returns:
        Fidelity on the validation split.

    Raises:
        StudySetError: If the study set does not fit the tokenizer.
        TrainingError: If a loss is not finite; the last checkpoint is kept.
    """
    from torch.utils.tensorboard import SummaryWriter  # the extra `train`; the app reads these settings without it

    studies = StudySet.open(config.studies)
    _check_fit(studies, config)
    dump_config(config, out / "config.yaml")
    run = _TokenizerRun(config, studies, out)
    if resume:
        run.load_checkpoint()
    with SummaryWriter(str(out / "logs")) as log:
        run.train(log)
    return run.finish()


class _TokenizerRun:
    """The state of one training: exactly what `save_checkpoint` lists."""

    def __init__(self, config: TokenizerTrainConfig, studies: StudySet, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        self.device = resolve_device(config.device)
        if self.device == "cpu":
            keep_freed_memory()
        train = studies.select(split="train", sources=config.sources, fold=config.fold)
        held_out = studies.select(split="validation", sources=config.sources)
        self.views, self.image_ids = _all_views(train), train.image_ids
        self.held_out = _all_views(held_out)
        self.tokenizer = VQTokenizer(config.tokenizer).to(self.device)
        self.objective = TokenizerObjective(config.losses, config.tokenizer.channels).to(self.device)
        self.optimizer = torch.optim.AdamW(self.tokenizer.parameters(), config.learning_rate, betas=(0.9, 0.95))
        self.discriminator_optimizer = torch.optim.AdamW(
            self.objective.discriminator.parameters(), config.learning_rate / 2, betas=(0.5, 0.9)
        )
        self.step = 0

    def train(self, log: "SummaryWriter") -> None:
        config = self.config
        progress = tqdm(total=config.steps, initial=self.step, desc="tokenizer", unit="step", dynamic_ncols=True)
        while self.step < config.steps:
            parts = self._train_step(self._batch(self.step))
            self.step += 1
            progress.update()
            if self.step % 20 == 0:
                for name, value in parts.items():
                    log.add_scalar(f"loss/{name}", value, self.step)
                progress.set_postfix({name: f"{value:.4f}" for name, value in parts.items()})
            if self.step % config.checkpoint_every == 0:
                self.save_checkpoint()
                fidelity = self._fidelity(config.fidelity_images)
                for name, value in dataclasses.asdict(fidelity).items():
                    log.add_scalar(f"held_out/{name}", value, self.step)
                progress.write(f"step {self.step}: {fidelity}")
                self.save_grid()
        progress.close()

    def _train_step(self, images: torch.Tensor) -> dict[str, float]:
        config = self.config
        adversarial = bool(config.losses.adversarial) and self.step >= config.losses.adversarial_start * config.steps
        rate = cosine_rate(config.learning_rate, config.warmup_steps, config.steps, self.step)
        for optimizer, scale in ((self.optimizer, 1.0), (self.discriminator_optimizer, 0.5)):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        self.objective.discriminator.requires_grad_(False)
        with self._autocast():
            decoded = self.tokenizer(images)
            losses = self.objective.tokenizer_losses(decoded, images, adversarial)
        self._descend(losses.total, self.optimizer, self.tokenizer)
        if adversarial:
            self.objective.discriminator.requires_grad_(True)
            with self._autocast():
                loss = self.objective.discriminator_loss(decoded, images)
            self._descend(loss, self.discriminator_optimizer, self.objective.discriminator)
            losses.parts["discriminator"] = float(loss.detach())
        return losses.parts

    def _descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> None:
        remedy = "lower learning_rate, leave a loss term out or set bf16: false"
        descend(loss, optimizer, network, what="tokenizer", step=self.step, out=self.out, remedy=remedy)

    def _batch(self, step: int) -> torch.Tensor:
        """Draws a batch from (seed, step) alone, so that a resumed run sees what an uninterrupted one would."""
        draw = random.Random(f"{self.config.seed}:{step}")
        chosen = [draw.randrange(len(self.views)) for _ in range(self.config.batch_size)]
        seed = self.config.seed
        views = [augmented_view(self.views[i], self.image_ids[i], 1 + step, seed) for i in chosen]
        return torch.from_numpy(from_uint8(np.stack(views))).to(self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.config.bf16)

    def _fidelity(self, num_images: int | None) -> TokenizerFidelity:
        chosen = np.random.default_rng(0).permutation(len(self.held_out))[:num_images]
        batches = np.array_split(self.held_out[chosen], max(1, len(chosen) // 16))
        self.tokenizer.eval()
        fidelity = measure_fidelity(
            self.tokenizer, (torch.from_numpy(from_uint8(batch)).to(self.device) for batch in batches)
        )
        self.tokenizer.train()
        return fidelity

    def save_grid(self) -> None:
        """Writes held-out images (odd rows) above their reconstructions (even rows)."""
        chosen = self.held_out[np.linspace(0, len(self.held_out) - 1, 2 * _GRID_COLUMNS).astype(int)]
        images = torch.from_numpy(from_uint8(chosen)).to(self.device)
        decoded = self.tokenizer.decode(self.tokenizer.encode(images)).cpu().numpy()
        decoded = np.rint(decoded * 255).astype(np.uint8)
        rows = []
        for start in range(0, len(chosen), _GRID_COLUMNS):
            rows += [np.concatenate(part[start : start + _GRID_COLUMNS], axis=-1) for part in (chosen, decoded)]
        grid = np.concatenate(rows, axis=-2)
        with atomic_file(self.out / "grid.png") as partial:
            Image.fromarray(grid[0] if grid.shape[0] == 1 else grid.transpose(1, 2, 0)).save(partial, format="PNG")

    def save_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "config": self.config.tokenizer.model_dump_json(),
            "tokenizer": self.tokenizer.state_dict(),
            "discriminator": self.objective.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }
        with atomic_file(self.out / "checkpoint.pt") as partial:
            torch.save(state, partial)

    def load_checkpoint(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != self.config.tokenizer.model_dump_json():
            raise TrainingError(f"{path}: belongs to a tokenizer of another shape; give another --out or --no-resume")
        self.step = state["step"]
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.objective.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])

    def finish(self) -> TokenizerFidelity:
        """Saves the tokenizer and measures what was saved (bf16 weights) on every held-out image."""
        self.save_checkpoint()
        self.tokenizer.save_pretrained(self.out / "tokenizer")
        self.tokenizer = VQTokenizer.from_pretrained(self.out / "tokenizer", self.device)
        fidelity = self._fidelity(None)
        self.save_grid()
        record = {"split": "validation", "steps": self.step, "seed": self.config.seed, "device": self.device}
        write_json(self.out / "fidelity.json", {**dataclasses.asdict(fidelity), **record, "versions": versions()})
        return fidelity


def _all_views(studies: StudySet) -> np.ndarray:
    return np.stack([studies.view(index) for index in range(len(studies))])


def _check_fit(studies: StudySet, config: TokenizerTrainConfig) -> None:
    spec, tokenizer = studies.spec, config.tokenizer
    if (spec.size_px, spec.channels) != (tokenizer.size_px, tokenizer.channels):
        raise StudySetError(
            f"the study set holds {spec.channels}-channel views of {spec.size_px} px, the tokenizer is configured for "
            f"{tokenizer.channels} channel(s) of {tokenizer.size_px} px; change tokenizer.size_px and tokenizer.channels"
        )
    parts: tuple[tuple[Split, PatientFold | None], ...] = (("train", config.fold), ("validation", None))
    for split, fold in parts:
        if not len(studies.select(split=split, sources=config.sources, fold=fold)):
            chosen = " of the chosen sources and fold" if config.sources or config.fold.count > 1 else ""
            raise StudySetError(f"the study set has no {split} rows{chosen}; ingest a source that has them")
