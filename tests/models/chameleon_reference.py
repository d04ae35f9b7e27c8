"""Toy folders of Chameleon's family as `transformers` writes them, random weights in the published layout."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import ChameleonConfig, ChameleonForConditionalGeneration, PreTrainedTokenizerFast

from tests.tokens.chameleon_reference import CONFIG, NUM_CODES

WORDS = ("a", "red", "bird", "effusion", "normal", "chest", ".", ",", ":", "Generate", "image", "x")


def names() -> dict[str, int]:
    """A small `vocabulary_map`; its image ids run against the codes, so that nothing may take them for granted."""
    digits = str.maketrans("0123456789", "ABCDEFGHIJ")
    found = ["<s>", "<pad>", "</s>", "<unk>"]
    found += [f"IMGIMG{str(code).translate(digits)}Z" for code in reversed(range(NUM_CODES))]
    found += ["<eoss>", "<racm3:break>", "<reserved08706>", "<image>", "<reserved08708>", "<reserved08799>"]
    found += ["<reserved08802>", *WORDS]
    return {name: token for token, name in enumerate(found)}


def config(**changes: Any) -> ChameleonConfig:
    values = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "vq_config": CONFIG.to_dict(),
        "vocabulary_map": names(),
    }
    return ChameleonConfig(**{**values, **changes})


def write_folder(folder: Path, *, vision: bool = True, **changes: Any) -> ChameleonForConditionalGeneration:
    """Writes config, tokenizer and sharded weights, with or without `model.vqmodel`; returns the model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ChameleonForConditionalGeneration(config(**changes)).eval()
        for name, value in model.named_parameters():
            if "_norm." in name:  # they start at one and zero
                torch.nn.init.normal_(value, mean=1.0, std=0.2)
    state = {name: value for name, value in model.state_dict().items() if vision or ".vqmodel." not in name}
    model.save_pretrained(folder, state_dict=state, max_shard_size="20KB")
    words = Tokenizer(WordLevel(names(), unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes values of `config.json`; `None` removes one."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
