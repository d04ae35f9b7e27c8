"""The losses against a ten-line numpy reference and numbers worked out by hand."""

import numpy as np
import pytest
import torch

from arra_med.training.losses import alignment_loss, autoregressive_loss, z_loss


def reference(
    logits: np.ndarray, targets: np.ndarray, projected: np.ndarray, teacher: np.ndarray
) -> tuple[float, float, float]:
    log_partition = np.log(np.exp(logits).sum(-1))
    picked = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    cosines = [
        [p @ f / np.linalg.norm(p) / np.linalg.norm(f) for p in row] for row, f in zip(projected, teacher, strict=True)
    ]
    return (log_partition - picked).mean(), (log_partition**2).mean(), 1 - np.mean(cosines)


def test_losses_equal_the_numpy_reference() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(3, 5, 11)), rng.integers(0, 11, (3, 5))
    projected, teacher = rng.normal(size=(3, 5, 7)), rng.normal(size=(3, 7))
    expected = reference(logits, targets, projected, teacher)
    found = (
        autoregressive_loss(torch.tensor(logits), torch.tensor(targets)),
        z_loss(torch.tensor(logits)),
        alignment_loss(torch.tensor(projected), torch.tensor(teacher)),
    )
    assert [float(value) for value in found] == pytest.approx(list(expected), rel=1e-5)


def test_alignment_by_hand() -> None:
    projected = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]])  # along the teacher, and at a right angle to it
    teacher = torch.tensor([[1.0, 0.0]])
    assert float(alignment_loss(projected, teacher)) == pytest.approx((0 + 1) / 2)
    assert float(alignment_loss(projected, teacher, "mse")) == pytest.approx((4 + 0 + 1 + 4) / 4)


def test_alignment_reaches_the_projection_and_not_the_teacher() -> None:
    projected = torch.randn(2, 3, 4, requires_grad=True)
    teacher = torch.randn(2, 4)
    alignment_loss(projected, teacher).backward()
    assert projected.grad is not None
    assert projected.grad.abs().sum() > 0
    assert teacher.grad is None
