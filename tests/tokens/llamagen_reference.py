"""LlamaGen's image tokenizer written out in numpy, float64, and random weights under its published names.

Equations: VQGAN (arXiv 2012.09841) with group normalisation of 32 groups, swish, one attention head, and the nearest
code on the unit sphere (arXiv 2406.06525, section 2.1).
"""

import numpy as np
import torch

Weights = dict[str, np.ndarray]


def random_weights(
    widths: tuple[int, ...], *, stem: int, latent: int, codebook: tuple[int, int], seed: int = 0
) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint with two residual blocks a level, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}

    def conv(name: str, before: int, after: int, side: int) -> None:
        scale = (before * side * side) ** -0.5
        tensors[f"{name}.weight"] = torch.randn(after, before, side, side, generator=generator) * scale
        tensors[f"{name}.bias"] = torch.randn(after, generator=generator) * 0.1

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"] = 1 + torch.randn(width, generator=generator) * 0.1
        tensors[f"{name}.bias"] = torch.randn(width, generator=generator) * 0.1

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.norm1", before)
        conv(f"{name}.conv1", before, after, 3)
        norm(f"{name}.norm2", after)
        conv(f"{name}.conv2", after, after, 3)
        if before != after:
            conv(f"{name}.nin_shortcut", before, after, 1)

    def attention(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", width, width, 1)

    def middle(name: str, width: int) -> None:
        block(f"{name}.mid.0", width, width)
        attention(f"{name}.mid.1", width)
        block(f"{name}.mid.2", width, width)

    last = len(widths) - 1
    conv("encoder.conv_in", 3, stem, 3)
    before = stem
    for level, width in enumerate(widths):
        for index in range(2):
            block(f"encoder.conv_blocks.{level}.res.{index}", before, width)
            before = width
            if level == last:
                attention(f"encoder.conv_blocks.{level}.attn.{index}", width)
        if level < last:
            conv(f"encoder.conv_blocks.{level}.downsample.conv", width, width, 3)
    middle("encoder", before)
    norm("encoder.norm_out", before)
    conv("encoder.conv_out", before, latent, 3)
    conv("decoder.conv_in", latent, before, 3)
    middle("decoder", before)
    for place, width in enumerate(reversed(widths)):
        for index in range(3):
            block(f"decoder.conv_blocks.{place}.res.{index}", before, width)
            before = width
            if place == 0:
                attention(f"decoder.conv_blocks.{place}.attn.{index}", width)
        if place < last:
            conv(f"decoder.conv_blocks.{place}.upsample.conv", width, width, 3)
    norm("decoder.norm_out", before)
    conv("decoder.conv_out", before, 3, 3)
    conv("quant_conv", latent, codebook[1], 1)
    conv("post_quant_conv", codebook[1], latent, 1)
    tensors["quantize.embedding.weight"] = torch.randn(*codebook, generator=generator)
    tensors["quantize.codebook_used"] = torch.zeros(65536)
    return tensors


def _conv(
    weights: Weights, name: str, x: np.ndarray, stride: int = 1, pad: tuple[int, int] | None = None
) -> np.ndarray:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    side = kernel.shape[-1]
    before, after = pad if pad is not None else (side // 2, side // 2)
    x = np.pad(x, ((0, 0), (before, after), (before, after)))
    height, width = (x.shape[1] - side) // stride + 1, (x.shape[2] - side) // stride + 1
    out = np.zeros((kernel.shape[0], height, width)) + bias[:, None, None]
    for i in range(side):
        for j in range(side):
            part = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            out += np.einsum("oc,chw->ohw", kernel[:, :, i, j], part)
    return out


def _norm(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    groups = x.reshape(32, -1)
    groups = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-6)
    return groups.reshape(x.shape) * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]


def _swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _block(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    h = _conv(weights, f"{name}.conv1", _swish(_norm(weights, f"{name}.norm1", x)))
    h = _conv(weights, f"{name}.conv2", _swish(_norm(weights, f"{name}.norm2", h)))
    return h + (_conv(weights, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in weights else x)


def _attention(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    normed = _norm(weights, f"{name}.norm", x)
    q, k, v = (_conv(weights, f"{name}.{part}", normed).reshape(len(x), -1) for part in "qkv")
    scores = q.T @ k / np.sqrt(len(x))
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return x + _conv(weights, f"{name}.proj_out", (v @ shares.T).reshape(x.shape))


def _middle(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    x = _attention(weights, f"{name}.mid.1", _block(weights, f"{name}.mid.0", x))
    return _block(weights, f"{name}.mid.2", x)


def _levels(weights: Weights, name: str, x: np.ndarray, num_levels: int, num_blocks: int) -> np.ndarray:
    for level in range(num_levels):
        place = f"{name}.conv_blocks.{level}"
        for index in range(num_blocks):
            x = _block(weights, f"{place}.res.{index}", x)
            if f"{place}.attn.{index}.q.weight" in weights:
                x = _attention(weights, f"{place}.attn.{index}", x)
        if f"{place}.downsample.conv.weight" in weights:
            x = _conv(weights, f"{place}.downsample.conv", x, stride=2, pad=(0, 1))
        if f"{place}.upsample.conv.weight" in weights:
            x = _conv(weights, f"{place}.upsample.conv", x.repeat(2, axis=1).repeat(2, axis=2))
    return x


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _as_numpy(tensors: dict[str, torch.Tensor]) -> Weights:
    return {name: value.double().numpy() for name, value in tensors.items()}


def encode(tensors: dict[str, torch.Tensor], image: np.ndarray, num_levels: int) -> np.ndarray:
    """Image (3, H, W) in [0, 1] -> codes (h, w): the smallest squared distance to a code's unit vector."""
    weights = _as_numpy(tensors)
    x = _conv(weights, "encoder.conv_in", image * 2.0 - 1.0)
    x = _middle(weights, "encoder", _levels(weights, "encoder", x, num_levels, 2))
    x = _conv(weights, "encoder.conv_out", _swish(_norm(weights, "encoder.norm_out", x)))
    latent = _unit(np.moveaxis(_conv(weights, "quant_conv", x), 0, -1))
    codebook = _unit(weights["quantize.embedding.weight"])
    return np.asarray(((latent[:, :, None] - codebook) ** 2).sum(-1).argmin(-1))


def decode(tensors: dict[str, torch.Tensor], codes: np.ndarray, num_levels: int) -> np.ndarray:
    """Codes (h, w) -> image (3, H, W), clamped to [0, 1]."""
    weights = _as_numpy(tensors)
    vectors = np.moveaxis(_unit(weights["quantize.embedding.weight"])[codes], -1, 0)
    x = _middle(weights, "decoder", _conv(weights, "decoder.conv_in", _conv(weights, "post_quant_conv", vectors)))
    x = _levels(weights, "decoder", x, num_levels, 3)
    x = _conv(weights, "decoder.conv_out", _swish(_norm(weights, "decoder.norm_out", x)))
    return np.clip((x + 1) / 2, 0, 1)
