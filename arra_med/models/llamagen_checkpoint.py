"""LlamaGen's language models from their published checkpoints, or with random weights of the same sizes.

Source: Sun et al., arXiv 2406.06525, table 1 (sizes) and the names of the tensors in the released files. The released
files hold no number of heads; it follows from the size, which width and depth tell.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from arra_med.config import StrictModel
from arra_med.errors import BundleError
from arra_med.models.llamagen import LlamaGenConfig, LlamaGenForCausalLM
from arra_med.models.llamagen_prompts import TextEncoderParts, class_tokenizer, open_text_encoder
from arra_med.models.llamagen_start import LlamaGenSize
from arra_med.published_weights import read_published_weights, require_names_and_shapes
from arra_med.tokens.llamagen_layout import LlamaGenLayout
from arra_med.tokens.vocabulary import ImageVocabulary

_KEYS = ("model", "module", "state_dict")
_DERIVED = "freqs_cis"  # the rotary table, written by some versions; it follows from the configuration
_FFN_MULTIPLE = 256
_ROW_MULTIPLE = 64
_CLASS_TABLE = "cls_embedding.embedding_table.weight"
_CAPTION_IN, _CAPTION_OUT = "cls_embedding.cap_proj.fc1.weight", "cls_embedding.cap_proj.fc2.weight"
_UNCONDITIONAL = "cls_embedding.uncond_embedding"


class LlamaGenShape(StrictModel):
    """Width, depth and heads of a decoder."""

    hidden_size: int
    num_layers: int
    num_heads: int

    @property
    def intermediate_size(self) -> int:
        """Width of the feed-forward layer: two thirds of four times the width, rounded up."""
        return -(-int(8 * self.hidden_size / 3) // _FFN_MULTIPLE) * _FFN_MULTIPLE


LLAMAGEN_SHAPES: Mapping[LlamaGenSize, LlamaGenShape] = {
    "B": LlamaGenShape(hidden_size=768, num_layers=12, num_heads=12),
    "L": LlamaGenShape(hidden_size=1024, num_layers=24, num_heads=16),
    "XL": LlamaGenShape(hidden_size=1280, num_layers=36, num_heads=20),
    "XXL": LlamaGenShape(hidden_size=1536, num_layers=48, num_heads=24),
    "XXXL": LlamaGenShape(hidden_size=2560, num_layers=48, num_heads=40),
    "1B": LlamaGenShape(hidden_size=2048, num_layers=22, num_heads=32),
    "3B": LlamaGenShape(hidden_size=3200, num_layers=24, num_heads=32),
    "7B": LlamaGenShape(hidden_size=4096, num_layers=32, num_heads=32),
}


class LlamaGenParts(NamedTuple):
    """A float32 model on the CPU, its text tokenizer and layout."""

    model: LlamaGenForCausalLM
    text_tokenizer: Any
    layout: LlamaGenLayout


def read_llamagen(
    path: Path,
    *,
    grid: tuple[int, int],
    codebook_size: int,
    text_encoder: str | None = None,
    class_names: Sequence[str] | None = None,
    num_heads: int | None = None,
) -> LlamaGenParts:
    """Opens a published file such as `c2i_B_256.pt` or `t2i_XL_stage1_256.pt`.

    Args:
        path: The file.
        grid: Rows and columns of the images it was trained on (16 x 16 for 256 px); the file does not tell.
        codebook_size: Of the image tokenizer.
        text_encoder: FLAN-T5-XL (folder or hub id) of a caption-conditional file.
        class_names: Of a class-conditional file; by default ImageNet's for 1,000 classes, else `class 0`, ...
        num_heads: Only for a size that was never published.

    Raises:
        BundleError: If the file is none of LlamaGen's language models, or does not fit the other parts.
    """
    tensors = read_published_weights(path, _KEYS, BundleError)
    shape = _shape_of(path, tensors, num_heads)
    captions = _CLASS_TABLE not in tensors
    if captions == (text_encoder is None):
        raise BundleError(
            f"{path}: reads captions, so that it needs a text encoder: give the folder of FLAN-T5-XL"
            if captions
            else f"{path}: reads classes, so that a text encoder has no place in it: leave it out"
        )
    prompt = tensors.get(_UNCONDITIONAL if captions else _CLASS_TABLE)
    if prompt is None or prompt.ndim != 2:
        raise BundleError(f"{path}: holds neither {_CLASS_TABLE} nor {_UNCONDITIONAL}; give a LlamaGen language model")
    encoder = open_text_encoder(text_encoder) if text_encoder is not None else None
    width = encoder.width if encoder is not None else 0
    require_names_and_shapes(
        path, tensors, _published_shapes(shape, codebook_size, prompt.shape[0], width), BundleError, ignored=(_DERIVED,)
    )
    parts = _Parts(shape, grid, codebook_size, encoder)
    config = parts.config(num_prompt_positions=prompt.shape[0]) if captions else parts.config(prompt.shape[0] - 1)
    with torch.device("meta"):
        model = LlamaGenForCausalLM(config)
    weights = _converted(tensors, shape, config.vocab_size)
    if encoder is not None:
        state = encoder.model.state_dict()
        weights |= {f"model.text_encoder.{name}": value for name, value in state.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    if encoder is not None:
        model.model.text_encoder.tie_weights()
    return parts.finished(model, config, class_names)


def random_llamagen(
    size: LlamaGenSize | LlamaGenShape,
    *,
    grid: tuple[int, int],
    codebook_size: int,
    max_text_tokens: int,
    text_encoder: str | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> LlamaGenParts:
    """Returns a randomly initialised model of LlamaGen's architecture (`arra-base`).

    Args:
        size: A published size, or another shape.
        grid: Rows and columns of image tokens.
        codebook_size: Of the image tokenizer.
        max_text_tokens: Longest caption; a class takes one token.
        text_encoder: Frozen T5 encoder (folder or hub id) for captions; without it the prompt is a class.
        class_names: Names of the classes; by default ImageNet's.
        seed: Of the weights.

    Raises:
        BundleError: If the text encoder cannot be opened.
    """
    shape = size if isinstance(size, LlamaGenShape) else LLAMAGEN_SHAPES[size]
    encoder = open_text_encoder(text_encoder) if text_encoder is not None else None
    parts = _Parts(shape, grid, codebook_size, encoder)
    num_classes = len(class_names) if class_names is not None else 1000
    config = parts.config(num_prompt_positions=max_text_tokens) if encoder else parts.config(num_classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaGenForCausalLM(config)
    if encoder is not None:
        model.model.text_encoder.load_state_dict(encoder.model.state_dict())
    return parts.finished(model, config, class_names)


class _Parts:
    """What goes into a model beside its weights."""

    def __init__(
        self, shape: LlamaGenShape, grid: tuple[int, int], codebook_size: int, encoder: TextEncoderParts | None
    ) -> None:
        self.shape, self.grid, self.encoder = shape, grid, encoder
        eoi, padding, unconditional, unused = range(codebook_size, codebook_size + 4)
        self.vocabulary = ImageVocabulary(
            bos_id=unconditional,
            pad_id=padding,
            boi_id=unused,  # the prompt is followed by the image at once
            eoi_id=eoi,
            first_image_id=0,
            codebook_size=codebook_size,
            vocab_size=-(-(codebook_size + 4) // _ROW_MULTIPLE) * _ROW_MULTIPLE,
        )

    def config(self, num_classes: int | None = None, num_prompt_positions: int = 1) -> LlamaGenConfig:
        rows, columns = self.grid
        return LlamaGenConfig(
            vocab_size=self.vocabulary.vocab_size,
            hidden_size=self.shape.hidden_size,
            intermediate_size=self.shape.intermediate_size,
            num_hidden_layers=self.shape.num_layers,
            num_attention_heads=self.shape.num_heads,
            max_position_embeddings=num_prompt_positions + rows * columns + 1,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=self.vocabulary.bos_id,
            eos_token_id=self.vocabulary.eoi_id,
            pad_token_id=self.vocabulary.pad_id,
            use_cache=False,
            grid_rows=rows,
            grid_columns=columns,
            num_prompt_positions=num_prompt_positions,
            num_classes=num_classes,
            text_encoder=self.encoder.model.config.to_dict() if self.encoder else None,
        )

    def finished(
        self, model: LlamaGenForCausalLM, config: LlamaGenConfig, class_names: Sequence[str] | None
    ) -> LlamaGenParts:
        layout = LlamaGenLayout(
            kind="llamagen",
            vocabulary=self.vocabulary,
            grid=self.grid,
            max_text_tokens=config.num_prompt_positions,
            num_classes=config.num_classes,
        )
        tokenizer = (
            self.encoder.tokenizer
            if self.encoder is not None
            else class_tokenizer(config.num_classes or 0, class_names)
        )
        return LlamaGenParts(model.requires_grad_(True), tokenizer, layout)


def _shape_of(path: Path, tensors: Mapping[str, torch.Tensor], num_heads: int | None) -> LlamaGenShape:
    embeddings = tensors.get("tok_embeddings.weight")
    num_layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    if embeddings is None or embeddings.ndim != 2 or not num_layers:
        raise BundleError(f"{path}: is no LlamaGen language model; give a file such as c2i_B_256.pt")
    hidden_size = embeddings.shape[1]
    published = {(s.hidden_size, s.num_layers): s.num_heads for s in LLAMAGEN_SHAPES.values()}
    heads = num_heads if num_heads is not None else published.get((hidden_size, num_layers))
    if heads is None:
        raise BundleError(
            f"{path}: has width {hidden_size} and {num_layers} layers, no published size: give its number of heads"
        )
    if heads < 1 or hidden_size % (4 * heads):
        raise BundleError(f"{path}: {heads} heads do not divide width {hidden_size} into multiples of 4 channels")
    return LlamaGenShape(hidden_size=hidden_size, num_layers=num_layers, num_heads=heads)


def _published_shapes(
    shape: LlamaGenShape, codebook_size: int, num_prompt_rows: int, text_width: int
) -> dict[str, tuple[int, ...]]:
    width, inner = shape.hidden_size, shape.intermediate_size
    layer = {
        "attention.wqkv": (3 * width, width),
        "attention.wo": (width, width),
        "feed_forward.w1": (inner, width),
        "feed_forward.w2": (width, inner),
        "feed_forward.w3": (inner, width),
        "attention_norm": (width,),
        "ffn_norm": (width,),
    }
    captions = {
        _CAPTION_IN: (width, text_width),
        _CAPTION_OUT: (width, width),
        _UNCONDITIONAL: (num_prompt_rows, text_width),
    }
    return {
        "tok_embeddings.weight": (codebook_size, width),
        "output.weight": (codebook_size, width),
        "norm.weight": (width,),
        **(captions if text_width else {_CLASS_TABLE: (num_prompt_rows, width)}),
        **{f"layers.{i}.{name}.weight": sizes for i in range(shape.num_layers) for name, sizes in layer.items()},
    }


def _converted(published: Mapping[str, torch.Tensor], shape: LlamaGenShape, vocab_size: int) -> dict[str, torch.Tensor]:
    """Published tensors under the names, and in the order of channels, of `LlamaGenForCausalLM`; float32."""
    tensors = {name: value.float() for name, value in published.items()}
    weights = {
        "model.embed_tokens.weight": _with_marks(tensors["tok_embeddings.weight"], vocab_size),
        "lm_head.weight": _with_marks(tensors["output.weight"], vocab_size),
        "model.norm.weight": tensors["norm.weight"],
    }
    if _CLASS_TABLE in tensors:
        weights["model.class_embedding.weight"] = tensors[_CLASS_TABLE]
    else:
        weights["model.caption_in.weight"] = tensors[_CAPTION_IN]
        weights["model.caption_out.weight"] = tensors[_CAPTION_OUT]
        weights["model.unconditional.weight"] = tensors[_UNCONDITIONAL]
    for index in range(shape.num_layers):
        theirs, ours = f"layers.{index}", f"model.layers.{index}"
        query, key, value = tensors[f"{theirs}.attention.wqkv.weight"].chunk(3)
        weights |= {
            f"{ours}.self_attn.q_proj.weight": _halves_from_pairs(query, shape.num_heads),
            f"{ours}.self_attn.k_proj.weight": _halves_from_pairs(key, shape.num_heads),
            f"{ours}.self_attn.v_proj.weight": value.clone(),
            f"{ours}.self_attn.o_proj.weight": tensors[f"{theirs}.attention.wo.weight"],
            f"{ours}.mlp.gate_proj.weight": tensors[f"{theirs}.feed_forward.w1.weight"],
            f"{ours}.mlp.down_proj.weight": tensors[f"{theirs}.feed_forward.w2.weight"],
            f"{ours}.mlp.up_proj.weight": tensors[f"{theirs}.feed_forward.w3.weight"],
            f"{ours}.input_layernorm.weight": tensors[f"{theirs}.attention_norm.weight"],
            f"{ours}.post_attention_layernorm.weight": tensors[f"{theirs}.ffn_norm.weight"],
        }
    return weights


def _with_marks(rows: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Adds rows for the marks at the mean of the others: in the head, they start as likely as an average code."""
    return torch.cat([rows, rows.mean(dim=0).expand(vocab_size - len(rows), -1)])


def _halves_from_pairs(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorders a head's channels: LlamaGen turns neighbours (2j, 2j + 1) together, `transformers` (j, j + half)."""
    pairs = weight.view(num_heads, -1, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape).contiguous()
