"""What a plan must know of a language model: its counts of parameters and the widths inside one decoder block."""

from typing import Any, Literal

from arra_med.config import StrictModel
from arra_med.errors import ConfigError
from arra_med.training.alignment import decoder_blocks


class BlockShape(StrictModel):
    """Widths inside one decoder block with a gated perceptron (the Llama, Qwen, SmolLM, Mistral and Chameleon kinds).

    Attributes:
        hidden_size: Of the residual stream.
        query_width: Of all query heads together.
        key_width: Of all key heads together; the values are as wide.
        num_heads: Query heads.
        intermediate_size: Of the perceptron.
        head_norm: Norm of queries and keys in each head: none, `rms` (Qwen3) or `layer` (Chameleon).
    """

    hidden_size: int
    query_width: int
    key_width: int
    num_heads: int
    intermediate_size: int
    head_norm: Literal["none", "rms", "layer"] = "none"

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.query_width // self.num_heads


class ModelShape(StrictModel):
    """Counts of a language model.

    Attributes:
        block: Widths inside a block; all blocks are alike.
        num_blocks: Decoder blocks.
        vocab_size: Rows of the embedding.
        parameters: All of them, a tied matrix once.
        frozen_parameters: Of these, those that are not trained: a text encoder's, or all of them under LoRA.
        block_parameters: Of one block.
        block_matrix_parameters: Of one block's matrices alone, which multiply every token.
        tied: Whether the head is the embedding.
    """

    block: BlockShape
    num_blocks: int
    vocab_size: int
    parameters: int
    block_parameters: int
    block_matrix_parameters: int
    tied: bool
    frozen_parameters: int = 0

    @property
    def head_parameters(self) -> int:
        """Of the matrix that makes logits."""
        return self.vocab_size * self.block.hidden_size

    @property
    def root_parameters(self) -> int:
        """Of all that is no block: embedding, last norm, and the head where it is a matrix of its own."""
        return self.parameters - self.num_blocks * self.block_parameters

    @property
    def multiplying_parameters(self) -> int:
        """Of the matrices that autocast makes a bf16 copy of: those of the blocks, and the head."""
        return self.num_blocks * self.block_matrix_parameters + self.head_parameters


def model_shape(language_model: Any) -> ModelShape:
    """Measures a `transformers` causal LM; the meta device is enough.

    Raises:
        ConfigError: If its blocks are of another kind than `BlockShape` describes.
    """
    blocks = decoder_blocks(language_model)
    config, first = language_model.config, blocks[0]
    matrices = dict(first.named_modules())
    wanted = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    if missing := [name for name in wanted if name not in matrices]:
        raise ConfigError(
            f"{type(language_model).__name__} has no {missing[0]} in its blocks: a plan knows the blocks of Llama, Qwen, "
            "SmolLM, Mistral and Chameleon; train a few steps of this one and read the peak memory"
        )
    attention: Any = first.self_attn
    head_norm: Literal["none", "rms", "layer"] = "none"
    if hasattr(attention, "q_norm"):
        head_norm = "layer" if getattr(attention.q_norm, "bias", None) is not None else "rms"
    sizes = [sum(p.numel() for p in block.parameters()) for block in blocks]
    return ModelShape(
        block=BlockShape(
            hidden_size=config.hidden_size,
            query_width=attention.q_proj.out_features,
            key_width=attention.k_proj.out_features,
            num_heads=config.num_attention_heads,
            intermediate_size=matrices["mlp.down_proj"].in_features,
            head_norm=head_norm,
        ),
        num_blocks=len(blocks),
        vocab_size=language_model.get_input_embeddings().weight.shape[0],
        parameters=sum(p.numel() for p in language_model.parameters()),
        block_parameters=max(sizes),
        block_matrix_parameters=sum(matrices[name].weight.numel() for name in wanted),
        frozen_parameters=sum(p.numel() for p in language_model.parameters() if not p.requires_grad),
        tied=language_model.get_output_embeddings().weight is language_model.get_input_embeddings().weight,
    )
