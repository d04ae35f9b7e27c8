"""The in-house judge: a timm network with one output for each finding, and a loss that leaves the unknown out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from arra_med.encoders.finding_classifier import save_finding_classifier
from arra_med.errors import ConfigError, StudySetError
from arra_med.imaging.view import CanonicalView
from arra_med.training.encoder_data import EncoderImages, finding_targets
from arra_med.training.encoder_metrics import aurocs_by_source, macro_auroc
from arra_med.training.encoder_settings import ClassifierSettings, EncoderTrainConfig
from arra_med.training.encoder_task import (
    MEAN,
    STD,
    EncoderTask,
    batched,
    evaluation_batches,
    normalised,
    start_network,
)


def masked_finding_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the findings that are known.

    Args:
        logits: (B, F), log-odds.
        targets: (B, F): 1 present, 0 absent, NaN unknown, which counts as neither.

    Returns:
        A scalar; 0 if nothing in the batch is known.
    """
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.nan_to_num(0.0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


class ClassifierTask(EncoderTask):
    """Trains backbone and head together.

    Raises:
        ConfigError: If timm knows no such network.
        StudySetError: If a finding is present, or absent, in no training image.
        EncoderError: If the encoder to start from cannot be loaded.
        TrainingError: If it is another network.
    """

    uses_labels = True

    def __init__(
        self,
        config: EncoderTrainConfig,
        settings: ClassifierSettings,
        images: EncoderImages,
        spec: CanonicalView,
        vocabulary: dict[str, frozenset[str]],
        device: str,
    ) -> None:
        self.config, self.settings, self.spec = config, settings, spec
        self.vocabulary, self.device = vocabulary, device
        self.label_source = f"findings of {', '.join(sorted({record.source for record in images.records}))}"
        self.targets = torch.from_numpy(self._targets(images))
        _require_both_kinds(self.targets.numpy(), settings.findings)
        self.model_args = {"img_size": spec.size_px} if settings.image_size else {}
        try:
            network = timm.create_model(settings.model, num_classes=len(settings.findings), **self.model_args)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"encoder.model {settings.model!r} cannot be built ({' '.join(str(error).split())[:120]}): give the "
                "name of a timm network, with encoder.image_size for a vision transformer alone"
            ) from None
        self.initialisation, self.initialisation_sha256 = start_network(network, settings.start_from)
        self.network = network.to(device)

    def loss(self, images: Tensor, indices: Sequence[int], step: int) -> Tensor:
        """The masked loss of a batch; see `EncoderTask.loss`."""
        return masked_finding_loss(self.network(normalised(images, 3)), self.targets[list(indices)].to(self.device))

    @torch.no_grad()
    def measure(self, held_out: EncoderImages) -> dict[str, Any]:
        """AUROC of each finding."""
        self.network.eval()
        scores = batched([self.network(normalised(batch, 3)) for batch in evaluation_batches(held_out, self.device)])
        self.network.train()
        sources = [record.source for record in held_out.records]
        aurocs = aurocs_by_source(scores, self._targets(held_out), self.settings.findings, sources)
        headline = {f"macro_auroc/{source}": macro_auroc(rows) for source, rows in aurocs.items()}
        return {"headline": headline, "auroc": aurocs}

    def save(self, folder: Path) -> None:
        """Writes timm's layout, with the findings."""
        save_finding_classifier(
            self.network,
            self.settings.findings,
            folder,
            size_px=self.spec.size_px,
            mean=MEAN,
            std=STD,
            model_args=self.model_args,
        )

    def _targets(self, images: EncoderImages) -> np.ndarray:
        return finding_targets(images, self.settings.findings, self.vocabulary, self.config.absent_if_unlisted)


def _require_both_kinds(targets: np.ndarray, findings: Sequence[str]) -> None:
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    lacking = [
        f"{finding} ({p} present, {a} absent)"
        for finding, p, a in zip(findings, present, absent, strict=True)
        if not (p and a)
    ]
    if lacking:
        raise StudySetError(
            f"training images must show every finding as present and as absent: {', '.join(lacking)}; change "
            "encoder.findings, sources, absent_if_unlisted or fold"
        )
