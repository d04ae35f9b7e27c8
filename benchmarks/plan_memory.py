"""The memory that `arra-med plan` estimates beside the peak of real training steps, each in a fresh process on the CPU.

    python benchmarks/plan_memory.py            # a few minutes on one core
    python benchmarks/plan_memory.py --quick    # the small shapes alone

A case builds a random model, and takes two `TrainingTask` steps with AdamW and clipping; the second has the optimiser's
moments from its start. Measured is the peak of the resident set less what the interpreter and the libraries take after
a step of a tiny model. glibc is told to give freed blocks back at once, so that the resident set is what is in use.
The last line is one JSON object.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from arra_med.models.presets import PRESETS
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.alignment import AlignmentConfig, TeacherShape
from arra_med.training.blocks import enable_gradient_checkpointing
from arra_med.training.plan_memory import ProjectorShape, StepShape, plan_memory
from arra_med.training.plan_shapes import model_shape
from arra_med.training.task import TrainingTask

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
_TEXT_TOKENS, _TEACHER_WIDTH, _TEXT_VOCABULARY = 24, 512, {"smollm2-135m": 49152}
_SMOLLM2 = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
_STEPS = 2
_QUICK = [
    # model, batch, bf16, checkpointing, ARRA, side of the token grid
    ("mini-12m", 1, True, False, False, 16),
    ("mini-12m", 8, True, False, True, 16),
    ("mini-12m", 8, True, True, True, 16),
    ("mini-12m", 8, False, False, False, 16),
    ("mini-12m", 4, True, False, False, 32),
    ("mini-25m", 4, True, False, True, 16),
    ("mini-25m", 8, False, True, False, 16),
]
_LARGE = [
    ("smollm2-135m", 1, True, False, False, 16),
    ("smollm2-135m", 4, True, False, True, 16),
    ("smollm2-135m", 4, True, True, True, 16),
    ("smollm2-135m", 2, False, False, False, 16),
]


def language_model(name: str, vocab_size: int) -> Any:
    """Returns a random model of a named shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if name == "smollm2-135m":
        shape: dict[str, Any] = {**_SMOLLM2, "intermediate_size": 1536}
    else:
        preset = PRESETS[name]  # type: ignore[index]
        shape = {
            "hidden_size": preset.hidden_size,
            "num_hidden_layers": preset.num_layers,
            "num_attention_heads": preset.num_heads,
            "num_key_value_heads": preset.num_heads,
            "intermediate_size": preset.intermediate_size,
        }
    return LlamaForCausalLM(LlamaConfig(**shape, vocab_size=vocab_size, tie_word_embeddings=True, use_cache=False))


def layout_of(name: str, side: int) -> SequenceLayout:
    """Returns the layout of 1,920 codes on a square grid beside the model's text vocabulary."""
    first = _TEXT_VOCABULARY.get(name, 1536) + 4
    vocabulary = ImageVocabulary(
        bos_id=0,
        pad_id=1,
        boi_id=2,
        eoi_id=3,
        first_image_id=first,
        codebook_size=1920,
        vocab_size=-(-(first + 1920) // 64) * 64,
    )
    return SequenceLayout(vocabulary=vocabulary, grid=(side, side), max_text_tokens=_TEXT_TOKENS)


def take_steps(name: str, batch_size: int, bf16: bool, checkpointing: bool, arra: bool, side: int) -> StepShape:
    """Trains a random model for a few steps; returns what was computed."""
    layout = layout_of(name, side)
    model = language_model(name, layout.vocabulary.vocab_size).train()
    if checkpointing:
        enable_gradient_checkpointing(model)
    alignments = [AlignmentConfig(teacher_features=Path("unused"), layer=1)] if arra else []
    teachers = [TeacherShape(_TEACHER_WIDTH)] * len(alignments)
    task = TrainingTask(model, layout, z_loss_weight=1e-5, alignments=alignments, teachers=teachers)
    optimizer = torch.optim.AdamW(task.parameters(), lr=2e-5, fused=True)
    ids, span = layout.training_ids([10] * _TEXT_TOKENS, list(range(layout.num_image_tokens)))
    inputs = {
        "input_ids": torch.tensor([ids] * batch_size),
        "image_start": torch.tensor([span.start] * batch_size),
        "teacher_features": [torch.randn(batch_size, _TEACHER_WIDTH)],
    }
    for _ in range(_STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = task(**inputs)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 4.0)
        optimizer.step()
        optimizer.zero_grad()
    projectors = tuple(
        ProjectorShape(
            hidden_size=model.config.hidden_size,
            width=alignment.projector_width,
            teacher_width=_TEACHER_WIDTH,
            num_positions=layout.num_image_tokens,
        )
        for alignment in alignments
    )
    return StepShape(
        model=model_shape(model),
        projectors=projectors,
        batch_size=batch_size,
        num_tokens=len(ids),
        num_predicted=layout.num_image_tokens + 1,
        precision="autocast" if bf16 else "fp32",
        checkpointing=checkpointing,
        on_cpu=True,
    )


def measure(case: tuple[str, int, bool, bool, bool, int]) -> dict[str, float]:
    """Runs one case in this process: peak and estimate in MiB."""
    take_steps("tiny", 1, *case[2:])
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    baseline = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    step = take_steps(*case)
    measured = (_status("VmHWM") - baseline) * 1024
    return {"measured_mib": measured / 2**20, "estimated_mib": plan_memory(step).total / 2**20}


def _status(name: str) -> int:
    """Returns a line of the kernel's account of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Prints one line for each case, the worst error, and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(tuple(json.loads(options.case)))))
        return
    rows = []
    print(f"{'model':14}{'batch':>6}{'tokens':>8}  {'precision':10}{'recompute':11}{'loss':10}", end="")
    print(f"{'measured':>10}{'estimate':>10}{'error':>8}")
    for case in _QUICK if options.quick else _QUICK + _LARGE:
        name, batch_size, bf16, checkpointing, arra, side = case
        command = [sys.executable, __file__, "--case", json.dumps(case)]
        done = subprocess.run(command, env=os.environ | _ALLOCATOR, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        error = found["estimated_mib"] / found["measured_mib"] - 1
        rows.append({"case": case, **found, "error": error})
        told = f"{name:14}{batch_size:>6}{side * side + _TEXT_TOKENS + 3:>8}  {'autocast' if bf16 else 'fp32':10}"
        told += f"{'blocks' if checkpointing else 'nothing':11}{'ARRA' if arra else 'fine-tune':10}"
        print(f"{told}{found['measured_mib']:>6.0f} MiB{found['estimated_mib']:>6.0f} MiB{error:>+8.1%}", flush=True)
    worst = max(abs(row["error"]) for row in rows)
    print(f"worst error {worst:.1%}")
    print(json.dumps({"worst_error": worst, "cases": rows}))


if __name__ == "__main__":
    main()
