"""The losses against a ten-line numpy reference, autograd in float64, and numbers worked out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arra_med.training.losses import alignment_loss, token_losses

ROWS, POSITIONS, WIDTH, VOCABULARY = 3, 5, 4, 11


def reference(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    log_partition = np.log(np.exp(logits).sum(-1))
    picked = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (log_partition - picked).mean(), (log_partition**2).mean()


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, POSITIONS, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, weight, bias, torch.randint(0, VOCABULARY, (ROWS, POSITIONS), generator=generator)


@pytest.mark.parametrize("logits_at_once", [1, 4 * VOCABULARY, 2**20], ids=["one", "four", "all"])
@pytest.mark.parametrize("biased", [False, True])
def test_token_losses_equal_the_numpy_reference(logits_at_once: int, biased: bool) -> None:
    hidden, weight, bias, targets = inputs()
    logits = hidden.detach().numpy() @ weight.detach().numpy().T + (bias.detach().numpy() if biased else 0)
    found = token_losses(
        hidden, weight, targets, 0.3, head_bias=bias if biased else None, logits_at_once=logits_at_once
    )
    cross_entropy, squared = reference(logits, targets.numpy())
    expected = (cross_entropy + 0.3 * squared, cross_entropy, squared)
    assert [float(value.detach()) for value in found] == pytest.approx(list(expected), rel=1e-12)


@pytest.mark.parametrize("logits_at_once", [1, 4 * VOCABULARY, 2**20], ids=["one", "four", "all"])
def test_gradients_of_token_losses_equal_autograds(logits_at_once: int) -> None:
    hidden, weight, bias, targets = inputs()
    found = token_losses(hidden, weight, targets, 0.3, head_bias=bias, logits_at_once=logits_at_once)
    gradients = torch.autograd.grad(2.5 * found.total, [hidden, weight, bias])
    logits = F.linear(hidden, weight, bias)
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + 0.3 * logits.logsumexp(-1).square().mean()
    for gradient, expected in zip(gradients, torch.autograd.grad(2.5 * plain, [hidden, weight, bias]), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_frozen_parts_get_no_gradient() -> None:
    hidden, weight, _, targets = inputs()
    token_losses(hidden, weight.detach(), targets, 0.0).total.backward()
    assert hidden.grad is not None
    hidden, weight, _, targets = inputs()
    token_losses(hidden.detach(), weight, targets, 0.0).total.backward()
    assert hidden.grad is None
    assert weight.grad is not None


def test_under_autocast_matrices_multiply_in_bfloat16_and_gradients_keep_the_weights_type() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = token_losses(hidden, weight, targets, 1e-5)
    found.total.backward()
    exact = token_losses(*(value.detach() for value in (hidden, weight, targets)), 1e-5)
    assert weight.grad is not None
    assert hidden.grad is not None
    assert weight.grad.dtype == hidden.grad.dtype == found.total.dtype == torch.float32
    assert float(found.total) == pytest.approx(float(exact.total), rel=0.02)
    assert float(found.total) != float(exact.total)


def test_no_more_logits_are_there_than_were_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    linear = F.linear

    def counted(*args: torch.Tensor) -> torch.Tensor:
        logits = linear(*args)
        seen.append(logits.numel())
        return logits

    monkeypatch.setattr("arra_med.training.losses.F.linear", counted)
    hidden, weight, _, targets = inputs()
    token_losses(hidden, weight, targets, 0.0, logits_at_once=4 * VOCABULARY).total.backward()
    assert seen == [4 * VOCABULARY] * 3 + [3 * VOCABULARY]


def test_logits_that_are_not_finite_give_a_loss_that_is_not() -> None:
    hidden, weight, _, targets = inputs()
    with torch.no_grad():
        hidden[0, 0, 0] = torch.nan
    assert not torch.isfinite(token_losses(hidden, weight, targets, 0.0).total)


def test_alignment_equals_the_numpy_reference() -> None:
    rng = np.random.default_rng(0)
    projected, teacher, patches = rng.normal(size=(3, 5, 7)), rng.normal(size=(3, 7)), rng.normal(size=(3, 5, 7))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    each = [cosine(p, teacher[row]) for row in range(3) for p in projected[row]]
    placed = [cosine(projected[row, k], patches[row, k]) for row in range(3) for k in range(5)]
    tensors = [torch.tensor(values) for values in (projected, teacher, patches)]
    assert float(alignment_loss(tensors[0], tensors[1])) == pytest.approx(1 - np.mean(each), rel=1e-6)
    assert float(alignment_loss(tensors[0], tensors[2])) == pytest.approx(1 - np.mean(placed), rel=1e-6)
    squared = ((projected - patches) ** 2).mean()
    assert float(alignment_loss(tensors[0], tensors[2], "mse")) == pytest.approx(squared, rel=1e-6)


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
