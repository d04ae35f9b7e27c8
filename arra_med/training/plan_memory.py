"""Peak memory of one training process: what stays for the whole run, and the largest of the moments of a step.

    always            float32 master weights (4 bytes), AdamW's two moments (8)
    end of forward    activations, bf16 copies of the weights, the head's gradient, a chunk of logits
    start of backward activations, the head's gradient
    first block back  activations, the head's gradient, one block's temporaries
    last block back   all gradients (4), one block's activations, the embedding's gradient

FSDP2 shards weights, moments and gradients over the GPUs, and holds gathered bf16 blocks beside them.
"""

from itertools import pairwise

from arra_med.config import StrictModel
from arra_med.training.losses import LOGITS_AT_ONCE
from arra_med.training.plan_activations import (
    Precision,
    head_gradient,
    kept_for_recomputation,
    matrix_bytes,
    saved_by_block,
    saved_by_head,
    saved_by_projector,
)
from arra_med.training.plan_shapes import ModelShape

_FLOAT32, _BFLOAT16 = 4, 2
_MOMENTS = 8
_GATHERED_BLOCKS = 2  # the block that computes, and the next one on its way
_CHUNK_BYTES = 8  # a logit: itself, and the exponential of its log-sum-exp or its gradient in the matrices' type
_CUDA_RUNTIME = 2**30


class ProjectorShape(StrictModel):
    """Widths of ARRA's projector, which is trained along and dropped afterwards.

    Attributes:
        hidden_size: Of the language model.
        width: Between its two layers.
        teacher_width: Of the teacher's feature.
        num_positions: Aligned positions of a sequence.
        depth: Linear layers.
    """

    hidden_size: int
    width: int
    teacher_width: int
    num_positions: int
    depth: int = 2

    @property
    def parameters(self) -> int:
        """Matrices and biases."""
        widths = [self.hidden_size, *[self.width] * (self.depth - 1), self.teacher_width]
        return sum((before + 1) * after for before, after in pairwise(widths))


class StepShape(StrictModel):
    """What one process computes in one step, and how.

    Attributes:
        model: The language model.
        projectors: ARRA's, one for each teacher and aligned layer.
        adapter_parameters: Of LoRA, which are trained in place of the model's frozen ones.
        batch_size: Sequences of a batch.
        num_tokens: Tokens of the longest sequence, which the others are padded to.
        num_predicted: Positions of a sequence that have logits.
        accumulation: Batches of an optimiser step; from 2 on gradients outlive a batch.
        precision: Way of computing.
        checkpointing: Whether blocks are computed again in the backward pass.
        num_gpus: Processes that shard weights, moments and gradients; 1 shards nothing.
        on_cpu: Whether a CPU computes.
    """

    model: ModelShape
    projectors: tuple[ProjectorShape, ...] = ()
    adapter_parameters: int = 0
    batch_size: int
    num_tokens: int
    num_predicted: int
    accumulation: int = 1
    precision: Precision
    checkpointing: bool = False
    num_gpus: int = 1
    on_cpu: bool = False

    @property
    def parameters(self) -> int:
        """Trained ones, of language model and projector."""
        return (
            self.model.parameters
            - self.model.frozen_parameters
            + self.adapter_parameters
            + sum(projector.parameters for projector in self.projectors)
        )


class MemoryPlan(StrictModel):
    """Bytes of one process; `total` is the peak, the parts beside it need not be there at the same moment.

    Attributes:
        weights: Float32 master weights, this process's share.
        gradients: Float32, its share.
        optimizer: AdamW's moments, its share.
        weight_copies: bf16 copies that autocast makes, or blocks and root that FSDP2 gathers and their gradients.
        largest_gathered_block: Of these, one gathered block.
        activations: What the blocks keep for the backward pass.
        head: What last norm, logits and losses keep, and the projector.
        temporaries: The largest ones: of the logits, or of one block.
        runtime: CUDA's context and workspaces.
        total: The peak.
    """

    weights: int
    gradients: int
    optimizer: int
    weight_copies: int
    largest_gathered_block: int
    activations: int
    head: int
    temporaries: int
    runtime: int
    total: int


def plan_memory(step: StepShape) -> MemoryPlan:
    """Estimates the peak memory of a process; without a GPU the interpreter and its libraries come on top."""
    model, precision = step.model, step.precision
    tokens = step.batch_size * step.num_tokens
    share = step.parameters / step.num_gpus
    frozen = _FLOAT32 * model.frozen_parameters / step.num_gpus
    weights, gradients, optimizer = int(_FLOAT32 * share + frozen), int(_FLOAT32 * share), int(_MOMENTS * share)
    block = saved_by_block(model.block, precision, step.on_cpu) * tokens
    kept = kept_for_recomputation(model.block, precision) * tokens if step.checkpointing else block
    activations = model.num_blocks * kept
    head = _head_bytes(step)
    copies, copies_in_backward, gathered_block = _weight_copies(step)
    logits = model.vocab_size * step.batch_size * step.num_predicted
    head_work = _CHUNK_BYTES * min(logits, max(model.vocab_size, LOGITS_AT_ONCE))
    if precision != "fp32":  # the part that a chunk adds to the head's gradient, and its bf16 matrix where it is a copy
        head_work += _BFLOAT16 * model.head_parameters * (2 if precision == "autocast" else 1)
    recomputed = block if step.checkpointing else 0
    block_work = recomputed + tokens * (
        2 * matrix_bytes(precision) * model.block.intermediate_size + 2 * _FLOAT32 * model.block.hidden_size
    )
    root_gradient = (
        head_gradient(model) * matrix_bytes(precision) // _FLOAT32 if precision == "fsdp" else head_gradient(model)
    )
    held = gradients if step.accumulation > 1 else 0
    moments = {
        "forward ends": held + activations + head + copies + head_work,
        "backward starts": held + activations + head + copies_in_backward,
        "first block back": held + root_gradient + activations + copies_in_backward + block_work,
        "last block back": gradients + kept + max(block_work, root_gradient) + gathered_block,
    }
    runtime = 0 if step.on_cpu else _CUDA_RUNTIME
    return MemoryPlan(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        weight_copies=copies,
        largest_gathered_block=gathered_block,
        activations=activations,
        head=head,
        temporaries=max(head_work, block_work),
        runtime=runtime,
        total=weights + optimizer + max(moments.values()) + runtime,
    )


def _head_bytes(step: StepShape) -> int:
    head = saved_by_head(step.model, step.precision, step.batch_size, step.num_tokens, step.num_predicted)
    return head + sum(
        saved_by_projector(
            projector.hidden_size,
            projector.width,
            projector.teacher_width,
            step.precision,
            step.batch_size * projector.num_positions,
            projector.depth,
        )
        for projector in step.projectors
    )


def _weight_copies(step: StepShape) -> tuple[int, int, int]:
    """Returns bytes of copied or gathered weights at the end of the forward pass and during the backward one, and one gathered block."""
    model, number = step.model, matrix_bytes(step.precision)
    block = number * model.block_parameters
    if step.num_gpus > 1:  # the root stays gathered; a block's gradient is there whole before it is reduced and sharded
        gathered = number * model.root_parameters + _GATHERED_BLOCKS * block
        return gathered, gathered + 2 * block, block
    if step.precision == "fp32":
        return 0, 0, 0
    every = number * model.num_blocks * model.block_matrix_parameters  # until the forward pass ends; the graph longer
    return every, (block if step.checkpointing else every), 0
