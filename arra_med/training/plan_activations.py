"""The bytes that autograd keeps between the forward and the backward pass, counted tensor by tensor.

Three ways of computing differ in what they keep:

- `fp32`: everything is float32.
- `autocast`: float32 weights; the residual stream and the norms stay float32, and every matrix casts its own bfloat16
  copy of its input and of its weights. CPU and GPU behave alike, except that a CPU keeps `layer_norm` (Chameleon's head
  norms) in bfloat16 where a GPU makes it float32.
- `fsdp`: FSDP2 gathers bfloat16 weights, so the residual stream is bfloat16, and inputs need no copies.

Attention is `scaled_dot_product_attention` without a mask in its flash form, which keeps queries, keys, values, its
output and one float32 number a head and token, never the matrix of scores. The counts are checked against
`torch.autograd.graph.saved_tensors_hooks`.
"""

from typing import Literal

from arra_med.training.plan_shapes import BlockShape, ModelShape

Precision = Literal["fp32", "autocast", "fsdp"]
_FLOAT32, _INT64 = 4, 8


def stream_bytes(precision: Precision) -> int:
    """Bytes of one number of the residual stream."""
    return 2 if precision == "fsdp" else 4


def matrix_bytes(precision: Precision) -> int:
    """Bytes of one number that goes into a matrix product."""
    return 4 if precision == "fp32" else 2


def saved_by_block(block: BlockShape, precision: Precision, on_cpu: bool = False) -> int:
    """Bytes a token that one decoder block keeps, its input in the residual stream included."""
    matrix, width = matrix_bytes(precision), block.hidden_size
    copies = 5 if precision == "autocast" else 2  # inputs of q, k, v and of gate, up: one each, or one for all
    heads = 2 * block.query_width + 2 * block.key_width  # queries, attention's output, keys, values
    return (
        2 * _saved_by_norm(width, precision)
        + matrix * (copies * width + heads + 4 * block.intermediate_size)
        + _FLOAT32 * block.num_heads  # attention's log-sum-exp
        + _saved_by_head_norms(block, precision, on_cpu)
    )


def kept_for_recomputation(block: BlockShape, precision: Precision) -> int:
    """Bytes a token that a block keeps under gradient checkpointing: its input."""
    return stream_bytes(precision) * block.hidden_size


def saved_by_head(model: ModelShape, precision: Precision, batch_size: int, num_tokens: int, num_predicted: int) -> int:
    """Bytes that last norm and losses keep for a batch: no logits, but the gradients that were taken with them.

    Args:
        model: The model.
        precision: Way of computing.
        batch_size: Sequences.
        num_tokens: Tokens of a sequence.
        num_predicted: Positions of a sequence that have logits.
    """
    width = model.block.hidden_size
    tokens, predicted = batch_size * num_tokens, batch_size * num_predicted
    last_norm = _saved_by_norm(width, precision) + stream_bytes(precision) * width  # and its output, to be gathered
    per_predicted = matrix_bytes(precision) * width + _INT64  # the hidden states' gradient, and their positions
    rotary = 2 * stream_bytes(precision) * model.block.head_dim * num_tokens  # cosines and sines, for all blocks
    return tokens * (last_norm + _INT64) + predicted * per_predicted + rotary + head_gradient(model)


def head_gradient(model: ModelShape) -> int:
    """Bytes of the gradient of the head's matrix, which the losses take in the forward pass; float32."""
    return _FLOAT32 * model.head_parameters


def saved_by_projector(
    hidden_size: int, projector_width: int, teacher_width: int, precision: Precision, positions: int, depth: int = 2
) -> int:
    """Bytes that one of ARRA's projectors and the cosine keep for a batch with `positions` aligned positions."""
    matrix = matrix_bytes(precision)
    projected = 2 * _FLOAT32 * teacher_width  # the features twice: for the product and for their norm
    return positions * (matrix * (hidden_size + 2 * projector_width * (depth - 1)) + projected + _INT64)


def _saved_by_norm(width: int, precision: Precision) -> int:
    """An RMS norm over the residual stream: its float32 input, the normed input, and the reciprocal root."""
    return (_FLOAT32 + stream_bytes(precision)) * width + _FLOAT32


def _saved_by_head_norms(block: BlockShape, precision: Precision, on_cpu: bool) -> int:
    width = block.query_width + block.key_width
    num_norms = width // block.head_dim
    match block.head_norm:
        case "none":
            return 0
        case "rms":  # its float32 input, the normed input in the matrices' type, and the reciprocal root
            return (_FLOAT32 + matrix_bytes(precision)) * width + _FLOAT32 * num_norms
        case "layer":  # its input and output, mean and reciprocal deviation
            number = matrix_bytes(precision) if on_cpu else _FLOAT32
            return 2 * number * width + 2 * _FLOAT32 * num_norms
