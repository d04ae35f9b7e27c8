"""A plan in words, with every assumption beside the figure that rests on it."""

from arra_med.training.gpus import GPUS
from arra_med.training.plan import Plan
from arra_med.training.plan_memory import MemoryPlan

_GIB = 2**30
_WAYS = {
    "fp32": "float32",
    "autocast": "float32 weights, autocast to bfloat16",
    "fsdp": "FSDP2: float32 master weights, gathered in bfloat16",
}


def plan_lines(plan: Plan) -> list[str]:
    """Returns a plan as lines of text."""
    gpu = GPUS[plan.gpu]
    epochs = f", {plan.epochs:.1f} epochs" if plan.epochs else ""
    repeated = plan.recomputed_flops_per_sequence
    again = f", {repeated / 1e12:.3g} Tflop of them computed again" if repeated else ""
    flops = plan.flops_per_sequence + repeated
    return [
        f"{plan.name} on {plan.num_gpus} x {gpu.title}",
        f"parameters  {_count(plan.model.parameters)}, projector {_count(plan.projector_parameters)}, "
        f"trained {_count(plan.trained_parameters)}",
        f"tokens      {plan.tokens_per_sequence:,} a sequence at most, {plan.image_tokens:,} of the image; "
        f"{plan.sequences:,} sequences{epochs}, {_count(plan.tokens)} tokens",
        f"operations  {flops / 1e12:.3g} Tflop a sequence{again}; {flops * plan.sequences / 1e18:.3g} Eflop in all",
        f"time        {_time(plan.hours)} ({_time(plan.hours * plan.num_gpus)} of one), assuming that {plan.mfu:.0%} of "
        f"{gpu.peak_tflops:g} Tflop/s are reached over all operations",
        f"            (peak: {gpu.source}; waiting for data, evaluation and checkpoints come on top)",
        f"memory      a process, {_WAYS[plan.precision]}, in GiB:",
        *_memory_lines(plan),
        *_verdict(plan),
    ]


def _memory_lines(plan: Plan) -> list[str]:
    keep, again = plan.memory_without_checkpointing, plan.memory_with_checkpointing
    head = f"  {'':34}{'keeping all':>12}{'computing again':>17}"
    rows = [f"  {label:34}{_gib(keep, name):>12}{_gib(again, name):>17}" for name, label in _PARTS.items()]
    chosen = "computing again" if plan.checkpointing else "keeping all"
    return [head, *rows, f"  the peak is of one moment, so less than the sum; the configuration asks for {chosen}"]


_PARTS = {
    "weights": "float32 weights",
    "gradients": "float32 gradients",
    "optimizer": "AdamW's moments",
    "weight_copies": "bf16 copies or gathered blocks",
    "largest_gathered_block": "  of them one gathered block",
    "activations": "activations of the blocks",
    "head": "last norm, logits, losses",
    "temporaries": "largest temporaries",
    "runtime": "CUDA context (assumed)",
    "total": "peak",
}


def _verdict(plan: Plan) -> list[str]:
    limit, needed = plan.gpu_memory_gib, plan.memory.total / _GIB
    if limit is None:
        return [f"needs       {needed:.3g} GiB beside the interpreter and its libraries (about 0.7 GiB)"]
    if needed <= limit:
        return [f"fits        {needed:.3g} of {limit:g} GiB; up to {plan.largest_batch} sequences a process would"]
    remedies = [] if plan.checkpointing else ["gradient_checkpointing=true"]
    if plan.largest_batch:
        remedies.append(f"batch_size={plan.largest_batch} with more accumulation")
    remedies.append("more GPUs" if plan.num_gpus > 1 else "--gpus 2 or more, which shard the model")
    return [f"does not fit: {needed:.3g} of {limit:g} GiB; try {', '.join(remedies)}"]


def _gib(memory: MemoryPlan, name: str) -> str:
    value = getattr(memory, name) / _GIB
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _count(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.2g} min"
    return f"{hours:.3g} h" if hours < 100 else f"{hours:,.0f} h"
