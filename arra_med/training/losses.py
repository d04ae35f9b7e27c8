"""The losses of the method, as pure functions: tensors in, scalars out. They never touch disk and know no configuration.

    L = L_AR + z_weight * L_z + sum over teachers of lambda * L_GVA

Source: arXiv 2503.07334, equations 1 to 4.
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

AlignmentKind = Literal["cosine", "mse"]

LOGITS_AT_ONCE = 2**24  # 64 MiB in float32


class TokenLosses(NamedTuple):
    """Means over all predicted tokens.

    Attributes:
        total: `image_token_loss` + z_weight * `z_loss`; the one with gradients.
        image_token_loss: Cross-entropy of the next token, in nats.
        z_loss: Squared log-partition of the logits, which keeps them from drifting.
    """

    total: torch.Tensor
    image_token_loss: torch.Tensor
    z_loss: torch.Tensor


def token_losses(
    hidden_states: torch.Tensor,
    head_weight: torch.Tensor,
    targets: torch.Tensor,
    z_weight: float,
    *,
    head_bias: torch.Tensor | None = None,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> TokenLosses:
    """Cross-entropy and z-loss of the next token, without ever holding all logits.

    Logits are made for a few positions at a time, turned into their part of the gradient and dropped, so that nothing of
    the size positions x vocabulary is kept for the backward pass. Matrices multiply in autocast's type where it is on;
    everything else is float32.

    Args:
        hidden_states: (B, T, D) after the final norm, at the positions that predict.
        head_weight: (V, D) of the output head.
        targets: (B, T) int64, the tokens predicted there.
        z_weight: Weight of the z-loss in `total`.
        head_bias: (V,) of the output head, or None.
        logits_at_once: Logits that may be there at the same time; one position's are always.
    """
    losses = _TokenLosses.apply(
        hidden_states.flatten(0, 1),
        head_weight,
        head_bias,
        targets.flatten(),
        z_weight,
        max(1, logits_at_once // head_weight.shape[0]),
        torch.is_grad_enabled(),
    )
    return TokenLosses(*losses)


class _TokenLosses(torch.autograd.Function):
    """Losses and, in the same pass over the logits, their gradients; the backward pass only scales these."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        z_weight: float,
        num_rows: int,
        wants_gradients: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        device = hidden_states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_states.dtype
        hidden, matrix = hidden_states.to(dtype), weight.to(dtype)
        wanted = [wants_gradients and needed for needed in ctx.needs_input_grad[:3]]
        gradients = _Gradients(hidden, weight, bias, wanted)
        sums = torch.zeros(2, dtype=torch.float32 if dtype != torch.float64 else dtype, device=hidden.device)
        for first in range(0, len(targets), num_rows):
            rows = slice(first, first + num_rows)
            logits = F.linear(hidden[rows], matrix).to(sums.dtype)
            if bias is not None:
                logits += bias
            log_partition = torch.logsumexp(logits, dim=-1)
            target = targets[rows, None]
            sums += torch.stack([(log_partition - logits.gather(1, target)[:, 0]).sum(), log_partition.square().sum()])
            if any(wanted):
                probabilities = logits.sub_(log_partition[:, None]).exp_()
                slope = probabilities.mul_((1 + 2 * z_weight * log_partition)[:, None])
                slope.scatter_add_(1, target, torch.full_like(target, -1, dtype=slope.dtype))
                gradients.add(rows, slope.div_(len(targets)), matrix)
        ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.used = False
        ctx.dtypes = hidden_states.dtype, weight.dtype, None if bias is None else bias.dtype
        image_token_loss, z_loss = sums / len(targets)
        ctx.mark_non_differentiable(image_token_loss, z_loss)
        return image_token_loss + z_weight * z_loss, image_token_loss, z_loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total: torch.Tensor, *_: Any) -> Any:
        if ctx.used:
            raise RuntimeError("token losses give their gradients away: go backward through them once")
        ctx.used = True
        found = [
            None if gradient is None else gradient.mul_(total.to(gradient.dtype)).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*found, None, None, None, None)


class _Gradients:
    """Those of hidden states, weight and bias that are wanted; they add up over the positions."""

    def __init__(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, wanted: list[bool]
    ) -> None:
        self.states = hidden
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.weight = torch.zeros_like(weight, dtype=_at_least_float32(weight)) if wanted[1] else None
        self.bias = torch.zeros_like(bias, dtype=_at_least_float32(bias)) if bias is not None and wanted[2] else None

    def add(self, rows: slice, slope: torch.Tensor, matrix: torch.Tensor) -> None:
        """Adds what some positions contribute; `slope` (rows, V) is the gradient of their logits."""
        short = slope.to(matrix.dtype)
        if self.hidden is not None:
            torch.mm(short, matrix, out=self.hidden[rows])
        if self.weight is not None:
            if self.weight.dtype == short.dtype:
                self.weight.addmm_(short.t(), self.states[rows])
            else:
                self.weight += short.t() @ self.states[rows]
        if self.bias is not None:
            self.bias += slope.sum(dim=0)


def _at_least_float32(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def alignment_loss(
    projected: torch.Tensor, teacher_features: torch.Tensor, kind: AlignmentKind = "cosine"
) -> torch.Tensor:
    """Visual alignment: mean over batch and aligned positions.

    Args:
        projected: (B, T, D) hidden states at the aligned positions, after the projector.
        teacher_features: (B, D) global feature of the same images, or (B, T, D) with one for each position.
        kind: `cosine` is 1 - cos, as in the paper; `mse` the mean squared difference.
    """
    teacher = teacher_features.float()
    if teacher.ndim == 2:
        teacher = teacher[:, None, :]
    if kind == "cosine":
        return (1 - F.cosine_similarity(projected.float(), teacher, dim=-1)).mean()
    return (projected.float() - teacher).square().mean()
