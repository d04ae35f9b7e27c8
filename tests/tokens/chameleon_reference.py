"""Chameleon's image tokenizer: random weights under the names of `vqgan.ckpt`, and its decoder written out.

The encoder's names and shapes are those of `transformers`; the decoder follows VQGAN (arXiv 2012.09841, appendix), whose
levels are numbered from the highest resolution.
"""

import torch
import torch.nn.functional as F
from transformers import ChameleonVQVAEConfig
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

NUM_CODES = 24
CONFIG = ChameleonVQVAEConfig(
    embed_dim=16,
    num_embeddings=NUM_CODES,
    latent_channels=48,
    base_channels=32,
    channel_multiplier=[1, 1, 1, 2],
    num_res_blocks=2,
    resolution=32,
    attn_resolutions=[],
)
Tensors = dict[str, torch.Tensor]


def decoder_shapes(config: ChameleonVQVAEConfig) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, before: int, after: int, side: int = 3) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (after, before, side, side), (after,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.norm1", before)
        conv(f"{name}.conv1", before, after)
        norm(f"{name}.norm2", after)
        conv(f"{name}.conv2", after, after)
        if before != after:
            conv(f"{name}.nin_shortcut", before, after, 1)

    widths = [config.base_channels * factor for factor in config.channel_multiplier]
    width = widths[-1]
    conv("decoder.conv_in", config.latent_channels, width)
    block("decoder.mid.block_1", width, width)
    norm("decoder.mid.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        conv(f"decoder.mid.attn_1.{part}", width, width, 1)
    block("decoder.mid.block_2", width, width)
    for level in reversed(range(len(widths))):
        for index in range(config.num_res_blocks + 1):
            block(f"decoder.up.{level}.block.{index}", width, widths[level])
            width = widths[level]
        if level:
            conv(f"decoder.up.{level}.upsample.conv", width, width)
    norm("decoder.norm_out", width)
    conv("decoder.conv_out", width, 3)
    return shapes


def published_shapes(config: ChameleonVQVAEConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        encoder = ChameleonVQVAE(config).state_dict()
    return {**{name: tuple(value.shape) for name, value in encoder.items()}, **decoder_shapes(config)}


def random_weights(config: ChameleonVQVAEConfig = CONFIG, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in published_shapes(config).items():
        drawn = torch.randn(shape, generator=generator)
        if "norm" in name:
            tensors[name] = drawn * 0.1 + (1 if name.endswith("weight") else 0)
        elif name.endswith("bias"):
            tensors[name] = drawn * 0.1
        elif name.startswith("quantize"):
            tensors[name] = drawn
        else:
            tensors[name] = drawn * (drawn[0].numel() ** -0.5)
    return tensors


def encoder_of_transformers(tensors: Tensors, config: ChameleonVQVAEConfig = CONFIG) -> ChameleonVQVAE:
    model = ChameleonVQVAE(config)
    model.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("decoder.")})
    return model.eval()


def decode(tensors: Tensors, codes: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Codes (B, h, w) -> images (B, 3, H, W) in [0, 1], not clamped; float64."""
    weights = {name: value.double() for name, value in tensors.items()}

    def conv(name: str, values: torch.Tensor) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        return F.conv2d(values, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        groups = values.unflatten(1, (32, -1))
        mean = groups.mean(dim=(2, 3, 4), keepdim=True)
        spread = (groups.var(dim=(2, 3, 4), keepdim=True, unbiased=False) + 1e-6).sqrt()
        scale, shift = (weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return ((groups - mean) / spread).flatten(1, 2) * scale + shift

    def swish(values: torch.Tensor) -> torch.Tensor:
        return values / (1 + (-values).exp())

    def block(name: str, values: torch.Tensor) -> torch.Tensor:
        change = conv(f"{name}.conv1", swish(norm(f"{name}.norm1", values)))
        change = conv(f"{name}.conv2", swish(norm(f"{name}.norm2", change)))
        return change + (conv(f"{name}.nin_shortcut", values) if f"{name}.nin_shortcut.weight" in weights else values)

    def attention(name: str, values: torch.Tensor) -> torch.Tensor:
        normed = norm(f"{name}.norm", values)
        query, key, value = (conv(f"{name}.{part}", normed).flatten(2) for part in "qkv")
        shares = torch.einsum("bci,bcj->bij", query, key) * query.shape[1] ** -0.5
        mixed = torch.einsum("bij,bcj->bci", shares.softmax(dim=2), value)
        return values + conv(f"{name}.proj_out", mixed.view(values.shape))

    values = weights["quantize.embedding.weight"][codes].permute(0, 3, 1, 2)
    values = conv("decoder.conv_in", conv("post_quant_conv", values))
    values = block("decoder.mid.block_1", values)
    values = attention("decoder.mid.attn_1", values)
    values = block("decoder.mid.block_2", values)
    for level in reversed(range(num_levels)):
        for index in range(3):
            values = block(f"decoder.up.{level}.block.{index}", values)
        if level:
            values = values.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            values = conv(f"decoder.up.{level}.upsample.conv", values)
    return conv("decoder.conv_out", swish(norm("decoder.norm_out", values))) / 2 + 0.5
