"""The losses of the method, as pure functions: tensors in, scalar out. They never touch disk and know no configuration.

    L = L_AR + lambda * L_GVA + z_weight * L_z

Source: arXiv 2503.07334, equations 1 to 4.
"""

from typing import Literal

import torch
import torch.nn.functional as F

AlignmentKind = Literal["cosine", "mse"]


def autoregressive_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token.

    Args:
        logits: (B, T, V) at the positions that predict.
        targets: (B, T) int64, the tokens predicted there.
    """
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def z_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean squared log-partition of the logits (B, T, V), which keeps them from drifting."""
    return torch.logsumexp(logits.float(), dim=-1).square().mean()


def alignment_loss(
    projected: torch.Tensor, teacher_features: torch.Tensor, kind: AlignmentKind = "cosine"
) -> torch.Tensor:
    """Global visual alignment: mean over batch and aligned positions.

    Args:
        projected: (B, T, D) hidden states at the aligned positions, after the projector.
        teacher_features: (B, D) global feature of the same images.
        kind: `cosine` is 1 - cos, as in the paper; `mse` the mean squared difference.
    """
    teacher = teacher_features.float()[:, None, :]
    if kind == "cosine":
        return (1 - F.cosine_similarity(projected.float(), teacher, dim=-1)).mean()
    return (projected.float() - teacher).square().mean()
