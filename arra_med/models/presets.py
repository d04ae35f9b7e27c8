"""Language models to start from at random, by name, and the compact text tokenizer that goes with them."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from arra_med.config import StrictModel
from arra_med.published_weights import TRANSFORMERS_LOADING

PresetName = Literal[
    "tiny", "mini-12m", "mini-25m", "llamagen-b", "llamagen-l", "llamagen-xl", "llamagen-xxl", "llamagen-3b"
]


class LlamaShape(StrictModel):
    """Shape of a Llama-style decoder.

    Attributes:
        hidden_size: Of the residual stream.
        num_layers: Decoder blocks.
        num_heads: Of queries; keys have as many.
        intermediate_size: Of the gated perceptron.
        tied: Whether the head is the embedding.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    tied: bool = True


PRESETS: Mapping[PresetName, LlamaShape] = {
    "tiny": LlamaShape(hidden_size=64, num_layers=2, num_heads=2, intermediate_size=128),
    "mini-12m": LlamaShape(hidden_size=384, num_layers=6, num_heads=6, intermediate_size=1024),
    "mini-25m": LlamaShape(hidden_size=512, num_layers=8, num_heads=8, intermediate_size=1408),
    "llamagen-b": LlamaShape(hidden_size=768, num_layers=12, num_heads=12, intermediate_size=2048, tied=False),
    "llamagen-l": LlamaShape(hidden_size=1024, num_layers=24, num_heads=16, intermediate_size=2816, tied=False),
    "llamagen-xl": LlamaShape(hidden_size=1280, num_layers=36, num_heads=20, intermediate_size=3584, tied=False),
    "llamagen-xxl": LlamaShape(hidden_size=1536, num_layers=48, num_heads=24, intermediate_size=4096, tied=False),
    "llamagen-3b": LlamaShape(hidden_size=3200, num_layers=24, num_heads=32, intermediate_size=8704, tied=False),
}


def random_llama(shape: LlamaShape, vocab_size: int, max_tokens: int, seed: int) -> Any:
    """Returns a randomly initialised `LlamaForCausalLM` (float32)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    with torch.random.fork_rng(), TRANSFORMERS_LOADING:
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train_text_tokenizer(sentences: Iterable[str], vocab_size: int) -> Any:
    """Trains a byte-level BPE that ignores case: any text can be encoded, report wording takes few tokens.

    Args:
        sentences: Text to learn from.
        vocab_size: Number of tokens, marks excluded.

    Returns:
        A `PreTrainedTokenizerFast`.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(sorted(set(sentences)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)
