"""`arra-med encoder train`: study set -> stand-in teacher or in-house judge, with checkpoints and held-out measures."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from arra_med.config import dump_config, resolve_device
from arra_med.corpus.contents import image_contents
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.encoders.provenance import EncoderProvenance, write_provenance
from arra_med.errors import TrainingError
from arra_med.imaging.view import CanonicalView
from arra_med.runs import atomic_file, versions
from arra_med.training.allocator import keep_freed_memory
from arra_med.training.autoencoder_task import AutoencoderTask
from arra_med.training.classifier_task import ClassifierTask
from arra_med.training.clip_task import ClipTask
from arra_med.training.descent import cosine_rate, descend
from arra_med.training.encoder_data import (
    BatchDraw,
    EncoderImages,
    held_out_images,
    source_vocabulary,
    training_images,
)
from arra_med.training.encoder_metrics import write_measures
from arra_med.training.encoder_settings import AutoencoderSettings, ClassifierSettings, ClipSettings, EncoderTrainConfig
from arra_med.training.encoder_task import EncoderTask

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

ENCODER_FOLDER = "encoder"

_BETAS = (0.9, 0.98)
_SEED_STRIDE = 1_000_003
_LOG_EVERY = 20
_FREE_TO_CHANGE = {"device", "checkpoint_every"}  # settings that may differ between a run and its continuation


def train_encoder(config: EncoderTrainConfig, out: Path, resume: bool = True) -> dict[str, Any]:
    """Trains a stand-in teacher or judge.

    Args:
        config: The settings; saved to `out/config.yaml` before the first step.
        out: Receives `encoder/` (what `arra-med features --teacher` takes, with its provenance), `held_out.json`,
            `checkpoint.pt` and TensorBoard logs.
        resume: Go on from `out/checkpoint.pt` where it exists.

    Returns:
        What `held_out.json` says: the measures by group of held-out images, and what they belong to.

    Raises:
        ConfigError: If the network cannot be built, or the device is not there.
        StudySetError: If the study set has no images to train or measure on, or too few of a finding.
        EncoderError: If the encoder to start from cannot be loaded.
        TrainingError: If the loss is not finite (the last checkpoint is kept), or the checkpoint is another training's.
    """
    from torch.utils.tensorboard import SummaryWriter  # the extra `train`; the app reads these settings without it

    studies = StudySet.open(config.studies)
    images, held_out = training_images(studies, config), held_out_images(studies, config)
    dump_config(config, out / "config.yaml")
    run = _EncoderRun(config, studies, images, held_out, out)
    if resume:
        run.load_checkpoint()
    with SummaryWriter(str(out / "logs")) as log:
        run.train(log)
    return run.finish()


class _EncoderRun:
    """The state of one training: exactly what `save_checkpoint` lists."""

    def __init__(
        self,
        config: EncoderTrainConfig,
        studies: StudySet,
        images: EncoderImages,
        held_out: dict[str, EncoderImages],
        out: Path,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.studies, self.held_out, self.out = config, studies, held_out, out
        self.device = resolve_device(config.device)
        if self.device == "cpu":
            keep_freed_memory()
        self.task = build_task(config, studies.spec, images, source_vocabulary(studies), self.device)
        self.contents = image_contents(studies, images.rows, labels=self.task.uses_labels)
        self.draw = BatchDraw(images, config.label_balance, config.batch_size, config.seed)
        self.optimizer = _optimizer(self.task.network, config)
        self.step = 0

    def train(self, log: "SummaryWriter") -> None:
        config = self.config
        progress = tqdm(total=config.steps, initial=self.step, desc="encoder", unit="step", dynamic_ncols=True)
        while self.step < config.steps:
            loss = self._train_step()
            self.step += 1
            progress.update()
            if self.step % _LOG_EVERY == 0:
                log.add_scalar("loss", loss, self.step)
                progress.set_postfix(loss=f"{loss:.4f}")
            if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                self.save_checkpoint()
                headline = self.task.measure(self.held_out["validation"])["headline"]
                for name, value in headline.items():
                    if value is not None:
                        log.add_scalar(f"held_out/{name}", value, self.step)
                progress.write(f"step {self.step}: {headline_words(headline)}")
        progress.close()

    def _train_step(self) -> float:
        config = self.config
        torch.manual_seed(config.seed * _SEED_STRIDE + self.step)  # of dropout, so that a resumed run drops the same
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(config.learning_rate, config.warmup_steps, config.steps, self.step)
        indices = self.draw.indices(self.step)
        images = torch.from_numpy(self.draw.views(indices, self.step)).to(self.device)
        with self._autocast():
            loss = self.task.loss(images, indices, self.step)
        remedy = "lower learning_rate or set bf16: false"
        descend(loss, self.optimizer, self.task.network, what="encoder", step=self.step, out=self.out, remedy=remedy)
        return float(loss.detach())

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.config.bf16)

    def save_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "config": self._identity(),
            "images_sha256": self.contents.sha256,
            "network": self.task.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_file(self.out / "checkpoint.pt") as partial:
            torch.save(state, partial)

    def load_checkpoint(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != self._identity():
            raise TrainingError(f"{path}: belongs to a training with other settings; give another --out or --no-resume")
        if state["images_sha256"] != self.contents.sha256:
            raise TrainingError(
                f"{path}: belongs to a training on other images than {self.config.studies} holds now; give another --out "
                "or --no-resume"
            )
        self.step = state["step"]
        self.task.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> dict[str, Any]:
        """Saves the encoder with its provenance, and measures it on all held-out images."""
        config = self.config
        self.save_checkpoint()
        folder = self.out / ENCODER_FOLDER
        self.task.save(folder)
        provenance = EncoderProvenance(
            name=config.name,
            kind=config.encoder.kind,
            weights_sha256=load_encoder(str(folder)).fingerprint,
            initialisation_sha256=self.task.initialisation_sha256,
            initialisation=self.task.initialisation,
            label_source=self.task.label_source,
            study_set_sha256=self.studies.content_sha256,
            spec=self.studies.spec,
            key_id=self.studies.info.key_id,
            num_images=len(self.contents.rows),
            images_sha256=self.contents.sha256,
            config=config.model_dump(mode="json", exclude={"studies"}),
            steps=self.step,
            seed=config.seed,
            device=self.device,
            versions=versions(),
        )
        write_provenance(folder, provenance, self.contents)
        measures = {
            "name": config.name,
            "weights_sha256": provenance.weights_sha256,
            "steps": self.step,
            "seed": config.seed,
            "device": self.device,
            "num_training_images": provenance.num_images,
            "held_out": {
                group: {"num_images": len(images), **self.task.measure(images)}
                for group, images in self.held_out.items()
            },
            "versions": versions(),
        }
        write_measures(self.out, measures)
        return measures

    def _identity(self) -> str:
        return self.config.model_dump_json(exclude=_FREE_TO_CHANGE)


def headline_words(headline: dict[str, float | None]) -> str:
    """Returns a few measures as one line; what cannot be estimated says so."""
    words = {name: "not estimable" if value is None else f"{value:.4g}" for name, value in headline.items()}
    return ", ".join(f"{name} {value}" for name, value in words.items())


def build_task(
    config: EncoderTrainConfig,
    spec: CanonicalView,
    images: EncoderImages,
    vocabulary: dict[str, frozenset[str]],
    device: str,
) -> EncoderTask:
    """Builds the network and the loss of a kind of encoder.

    Args:
        config: The settings.
        spec: The canonical view of the images.
        images: That train.
        vocabulary: The labels that each source lists anywhere.
        device: Where it computes.

    Raises:
        ConfigError: If the network cannot be built.
        StudySetError: If the images do not fit the kind.
        EncoderError: If the encoder to start from cannot be loaded.
        TrainingError: If it is another network.
    """
    match config.encoder:
        case ClipSettings() as settings:
            return ClipTask(config, settings, images, spec, vocabulary, device)
        case ClassifierSettings() as settings:
            return ClassifierTask(config, settings, images, spec, vocabulary, device)
        case AutoencoderSettings() as settings:
            return AutoencoderTask(settings, spec, device)


def _optimizer(network: torch.nn.Module, config: EncoderTrainConfig) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, config.learning_rate, betas=_BETAS)
