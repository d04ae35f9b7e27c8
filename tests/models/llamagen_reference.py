"""LlamaGen's language model written out in numpy, float64, random weights under its published names, and a tiny T5.

Equations: pre-norm decoder with RMSNorm and SwiGLU (arXiv 2302.13971); rotary positions in two dimensions, a head's first
half of channel pairs turning with the row and its second half with the column, by complex multiplication; the prompt's
queries and keys multiplied by zero; captions padded on the left with the padding masked (arXiv 2406.06525 and the
released tensors' conventions).
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

HEADS = 2
CODEBOOK_SIZE = 24
GRID = (2, 3)
WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "bird", "on", "the", "sea"]


def random_checkpoint(
    width: int = 16, layers: int = 2, classes: int | None = 5, text_width: int = 12, positions: int = 6
) -> dict[str, torch.Tensor]:
    """Published tensors drawn at random; `classes` is None for a model that reads captions."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 1.5 * shape[-1] ** -0.5

    inner = 256  # the published rule gives at least this
    tensors = {
        "tok_embeddings.weight": torch.randn(CODEBOOK_SIZE, width, generator=generator),
        "output.weight": 3 * draw(CODEBOOK_SIZE, width),
        "norm.weight": 1 + 0.1 * torch.randn(width, generator=generator),
    }
    if classes is not None:
        tensors["cls_embedding.embedding_table.weight"] = torch.randn(classes + 1, width, generator=generator)
    else:
        tensors["cls_embedding.cap_proj.fc1.weight"] = 2 * draw(width, text_width)
        tensors["cls_embedding.cap_proj.fc2.weight"] = 2 * draw(width, width)
        tensors["cls_embedding.uncond_embedding"] = torch.randn(positions, text_width, generator=generator)
    for index in range(layers):
        name = f"layers.{index}"
        tensors[f"{name}.attention.wqkv.weight"] = 2 * draw(3 * width, width)
        tensors[f"{name}.attention.wo.weight"] = draw(width, width)
        tensors[f"{name}.feed_forward.w1.weight"] = draw(inner, width)
        tensors[f"{name}.feed_forward.w2.weight"] = draw(width, inner)
        tensors[f"{name}.feed_forward.w3.weight"] = draw(inner, width)
        for norm in ("attention_norm", "ffn_norm"):
            tensors[f"{name}.{norm}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
    return tensors


def logits(tensors: dict[str, torch.Tensor], prompt: np.ndarray, used: np.ndarray, codes: list[int]) -> np.ndarray:
    """Logits (len(codes) + 1, codebook) at the prompt's last position and at every code.

    Args:
        tensors: Published tensors.
        prompt: Embeddings (P, width) of the prompt.
        used: (P,) False at padding.
        codes: The image's first codes.
    """
    w = {name: value.double().numpy() for name, value in tensors.items()}
    width, num_prompt = prompt.shape[1], len(prompt)
    x = np.concatenate([prompt, w["tok_embeddings.weight"][codes]])
    turns = np.zeros((len(x), width // HEADS // 2), dtype=complex)  # zero, not one: the prompt vanishes
    for place in range(len(codes)):
        turns[num_prompt + place] = _turn(place, width // HEADS)
    seen = np.tril(np.ones((len(x), len(x)), dtype=bool))
    seen[:, :num_prompt] &= used
    seen |= np.eye(len(x), dtype=bool)
    for index in range(sum(name.endswith("wqkv.weight") for name in w)):
        name = f"layers.{index}"
        qkv = _rms(x, w[f"{name}.attention_norm.weight"]) @ w[f"{name}.attention.wqkv.weight"].T
        q, k, v = (part.reshape(len(x), HEADS, -1) for part in np.split(qkv, 3, axis=1))
        q, k = _rotate(q, turns), _rotate(k, turns)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores = np.where(seen, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", shares, v).reshape(len(x), -1) @ w[f"{name}.attention.wo.weight"].T
        h = _rms(x, w[f"{name}.ffn_norm.weight"])
        gate = h @ w[f"{name}.feed_forward.w1.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (h @ w[f"{name}.feed_forward.w3.weight"].T)
        x = x + inner @ w[f"{name}.feed_forward.w2.weight"].T
    return np.asarray((_rms(x, w["norm.weight"]) @ w["output.weight"].T)[num_prompt - 1 :])


def caption_prompt(tensors: dict[str, torch.Tensor], features: np.ndarray) -> np.ndarray:
    """Two linear layers around a GELU (its tanh form) on features (P, text width)."""
    h = features @ tensors["cls_embedding.cap_proj.fc1.weight"].double().numpy().T
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    return np.asarray(h @ tensors["cls_embedding.cap_proj.fc2.weight"].double().numpy().T)


def _turn(place: int, head_width: int) -> np.ndarray:
    per_axis = head_width // 4
    frequencies = 10000.0 ** (-np.arange(per_axis) / per_axis)
    row, column = divmod(place, GRID[1])
    return np.exp(1j * np.concatenate([row * frequencies, column * frequencies]))


def _rotate(x: np.ndarray, turns: np.ndarray) -> np.ndarray:
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turns[:, None]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def _rms(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight)


def write_tiny_t5(folder: Path, width: int = 12) -> Path:
    """A random T5 encoder of `width` channels and a word tokenizer that ends texts as T5's does."""
    config = T5Config(
        vocab_size=len(WORDS),
        d_model=width,
        d_kv=6,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        encoder = T5EncoderModel(config)
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    encoder.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    tokenizer.save_pretrained(folder)
    return folder
