"""Sizes of tiny random language models, and prompts and rules to decode with, shared by the tests of decoding."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout

SHORT, LONG = [5, 6], [7, 8, 9, 10, 11, 12, 13]
RULES = [
    SamplingRules(temperature=0.0, guidance_scale=1.0),
    SamplingRules(temperature=0.0, guidance_scale=2.5),
    SamplingRules(guidance_scale=1.0),
    SamplingRules(top_k=8),
    SamplingRules(guidance_scale=1.7, temperature=0.9, top_p=0.9),
    SamplingRules(top_k=12, top_p=0.6, temperature=1.3),
    SamplingRules(top_p=0.0),
]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 64, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 3}


def random_model(config: PretrainedConfig, layout: SequenceLayout, seed: int = 0) -> PreTrainedModel:
    """Always the same weights, in evaluation mode."""
    torch.manual_seed(seed)
    config.vocab_size, config.pad_token_id = layout.vocabulary.vocab_size, layout.vocabulary.pad_id
    return AutoModelForCausalLM.from_config(config).eval()
