"""How surprising a model finds each image: the loss of its tokens, image by image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arra_med.corpus.dataset import Corpus, TrainingDataset
from arra_med.errors import EvaluationError
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import Split
from arra_med.training.task import TrainingTask


@dataclass(frozen=True)
class ImageLosses:
    """Losses of the same images with and without their report.

    Attributes:
        conditional: float64 (n,), mean loss of an image token in nats, given the report.
        unconditional: float64 (n,), the same without it.
    """

    conditional: np.ndarray
    unconditional: np.ndarray


def plain_examples(bundle: ModelBundle, corpus: Corpus, split: Split) -> TrainingDataset:
    """The examples of a split as a bundle reads them: plain views, in the wordings of its training's first epoch."""
    seed = bundle.info.training.get("settings", {}).get("seed", 0)
    return TrainingDataset(corpus, split, bundle.layout, bundle.text_tokenizer, seed=seed, evaluation=True)


def image_losses(
    bundle: ModelBundle,
    dataset: TrainingDataset,
    indices: Sequence[int] | None = None,
    *,
    with_report: bool = True,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Computes the mean image-token loss of each image, `eoi` included, one image at a time so that no other changes it.

    Args:
        bundle: The model.
        dataset: Examples in the bundle's layout, made with `evaluation=True`: plain views, wordings of one epoch.
        indices: Which examples; all by default.
        with_report: Whether the model reads the report; else the unconditional prompt that guidance uses.
        advance: Told of every image.

    Returns:
        float64 (n,), in nats.

    Raises:
        EvaluationError: If the dataset is not an evaluation one, or a loss is not finite.
    """
    if not dataset.evaluation:
        raise EvaluationError("losses of single images need a dataset made with evaluation=True: no view may be drawn")
    task = TrainingTask(bundle.model, bundle.layout, z_loss_weight=0.0)
    device = bundle.model.device
    losses = []
    for index in range(len(dataset)) if indices is None else indices:
        image, _ = dataset.examples[index]
        text_ids = dataset.draw(index).text_ids
        if not with_report:
            text_ids = bundle.layout.dropped_text_ids(text_ids)
        ids, span = bundle.layout.training_ids(text_ids, dataset.corpus.codes(image).flatten().tolist())
        found = task.held_out_losses(
            torch.tensor([ids], device=device), torch.tensor([span.start], dtype=torch.int64, device=device)
        )
        losses.append(float(found["image_token_loss"]))
        if advance is not None:
            advance(1)
    values = np.array(losses, dtype=np.float64)
    if not np.isfinite(values).all():
        raise EvaluationError(f"a loss is not finite with bundle {bundle.info.name}: copy the bundle again")
    return values
