"""Peak memory of one training process: what stays for the whole run, and the largest of the moments of a step.

    always            float32 master weights (4 bytes), AdamW's two moments (8)
    end of forward    activations, bf16 copies of the weights, the logits' temporaries
    start of backward activations, the larger temporaries of the logits' gradient
    first block back  activations, the head's gradient, one block's temporaries
    last block back   all gradients (4), one block's activations, the embedding's gradient

FSDP2 shards weights, moments and gradients over the GPUs, and holds gathered bf16 blocks beside them.
"""

from arra_med.config import StrictModel
from arra_med.training.plan_activations import (
    Precision,
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
_FORWARD_LOGITS, _BACKWARD_LOGITS = 4, 12  # bytes a logit: exp(x - max); x - lse, its exp, and their product
_CUDA_RUNTIME = 2**30


class ProjectorShape(StrictModel):
    """Widths of ARRA's projector, which is trained along and dropped afterwards.

    Attributes:
        hidden_size: Of the language model.
        width: Between its two layers.
        teacher_width: Of the teacher's feature.
        num_positions: Aligned positions of a sequence.
    """

    hidden_size: int
    width: int
    teacher_width: int
    num_positions: int

    @property
    def parameters(self) -> int:
        """Two matrices and two biases."""
        return self.width * (self.hidden_size + 1) + self.teacher_width * (self.width + 1)


class StepShape(StrictModel):
    """What one process computes in one step, and how.

    Attributes:
        model: The language model.
        projector: ARRA's projector, or none.
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
    projector: ProjectorShape | None = None
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
            self.model.parameters - self.model.frozen_parameters + (self.projector.parameters if self.projector else 0)
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
    forward_logits = logits * (_FORWARD_LOGITS + (0 if precision == "fp32" else _BFLOAT16))
    backward_logits = logits * _BACKWARD_LOGITS
    recomputed = block if step.checkpointing else 0
    block_work = recomputed + tokens * (
        2 * matrix_bytes(precision) * model.block.intermediate_size + 2 * _FLOAT32 * model.block.hidden_size
    )
    root_gradient = int(_FLOAT32 * model.head_parameters / step.num_gpus)
    held = gradients if step.accumulation > 1 else 0
    moments = {
        "forward ends": held + activations + head + copies + forward_logits,
        "backward starts": held + activations + head + copies_in_backward + backward_logits,
        "first block back": max(held, root_gradient) + activations + copies_in_backward + block_work,
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
        temporaries=max(backward_logits, block_work),
        runtime=runtime,
        total=weights + optimizer + max(moments.values()) + runtime,
    )


def _head_bytes(step: StepShape) -> int:
    head = saved_by_head(step.model, step.precision, step.batch_size, step.num_tokens, step.num_predicted)
    if (projector := step.projector) is None:
        return head
    positions = step.batch_size * projector.num_positions
    return head + saved_by_projector(
        projector.hidden_size, projector.width, projector.teacher_width, step.precision, positions
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
    every = number * model.multiplying_parameters  # autocast keeps them until the forward pass ends, the graph longer
    return every, (number * model.head_parameters + block if step.checkpointing else every), 0
