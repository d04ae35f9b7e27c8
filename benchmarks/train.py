"""What a training step costs: ARRA against fine-tuning, and fine-tuning against a plain `Trainer`.

    python benchmarks/train.py                       # SmolLM2-135M's shape, random weights, 8 sequences a step
    python benchmarks/train.py --quick               # 6 of its 30 blocks, 3 sequences a step: under 50 s on two cores
    python benchmarks/train.py --device cuda --batch-size 64 --rounds 9 --peak-tflops 989

Every case is a training in a fresh process. The processes take turns, a step at a time, so that a slow moment of the
machine meets all of them, and times are compared within a round (two steps of fine-tuning and ARRA each, one of the plain one). The plain `Trainer` gets the same model and the same sequences,
takes the loss from all logits as `transformers` does, and keeps every hidden state, as the first implementation of ARRA did.
Peak memory is the whole process's (resident set, on Linux) or the GPU's. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import arra_med  # noqa: F401 - before transformers: torchvision may be built for CUDA where torch is not

CASES = ("finetune", "arra", "plain_trainer")
TURNS = ("finetune", "arra", "arra", "finetune", "plain_trainer")  # mirrored, so that a drift cancels
RATIOS = {"arra_over_finetune": ("arra", "finetune"), "finetune_over_plain_trainer": ("finetune", "plain_trainer")}
NUM_BLOCKS, QUICK_BLOCKS = 30, 6
TEXT_ROWS, CODEBOOK_SIZE, GRID, TEXT_TOKENS = 49152, 8192, (16, 16), 32
HIDDEN_SIZE, TEACHER_WIDTH = 576, 512  # the projector is as wide as the model
STEP, FLOPS = "step", "flops"


class Sequences:
    """As many sequences as asked for, of random text and codes; `examples` is what the trainer counts epochs by."""

    def __init__(self, number: int, layout: Any, with_teacher: bool, labels: bool) -> None:
        self.examples = range(number)
        self.layout, self.with_teacher, self.labels = layout, with_teacher, labels

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        import torch

        from arra_med.corpus.collator import IGNORED_LABEL
        from arra_med.corpus.dataset import Example

        generator = torch.Generator().manual_seed(index)
        text = torch.randint(10, TEXT_ROWS, (TEXT_TOKENS,), generator=generator).tolist()
        codes = torch.randint(0, CODEBOOK_SIZE, (self.layout.num_image_tokens,), generator=generator).tolist()
        ids, span = self.layout.training_ids(text, codes)
        if self.labels:
            return {"input_ids": ids, "labels": [IGNORED_LABEL] * span.start + ids[span.start :]}
        feature = (torch.randn(TEACHER_WIDTH, generator=generator),) if self.with_teacher else ()
        return Example(input_ids=ids, context_ids=ids, image_span=span, key=str(index), teacher_features=feature)


def language_model(num_blocks: int) -> tuple[Any, Any]:
    """SmolLM2-135M's shape with random weights and an image vocabulary, and the layout of its sequences."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from arra_med.tokens.layout import SequenceLayout
    from arra_med.tokens.vocabulary import ImageVocabulary

    rows = TEXT_ROWS + CODEBOOK_SIZE
    vocabulary = ImageVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=TEXT_ROWS, codebook_size=CODEBOOK_SIZE, vocab_size=rows
    )
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=1536,
        num_hidden_layers=num_blocks,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        use_cache=False,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config), SequenceLayout(vocabulary=vocabulary, grid=GRID, max_text_tokens=TEXT_TOKENS)


def work(case: str, settings: argparse.Namespace) -> None:
    """One process: trains a step for each line `step` of its input, and answers each with one JSON line."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

    from arra_med.corpus.collator import Collator
    from arra_med.training.alignment import AlignmentConfig, TeacherShape
    from arra_med.training.allocator import keep_freed_memory
    from arra_med.training.processes import Meeting
    from arra_med.training.task import TrainingTask
    from arra_med.training.trainer import TaskTrainer

    answers, sys.stdout = sys.stdout, sys.stderr
    model, layout = language_model(settings.blocks)
    on_gpu = settings.device == "cuda"
    if not on_gpu and case != "plain_trainer":
        keep_freed_memory()  # as `arra-med train` does
    batch_size, steps = settings.batch_size, TURNS.count(case) * (settings.rounds + settings.warm_up)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            max_grad_norm=4.0 if case == "plain_trainer" else 0.0,
            learning_rate=2e-5,
            bf16=True,
            use_cpu=not on_gpu,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=10**6,
            remove_unused_columns=False,
            dataloader_pin_memory=on_gpu,
        )
        data = Sequences(steps * batch_size, layout, case == "arra", case == "plain_trainer")
        if case == "plain_trainer":
            model.config.output_hidden_states = True
            trained, collate = model, default_data_collator
            trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate)
        else:
            alignments = [AlignmentConfig(teacher_features="none", layer=1, projector_width=HIDDEN_SIZE)]
            trained, collate = (
                TrainingTask(
                    model,
                    layout,
                    z_loss_weight=1e-5,
                    alignments=alignments if case == "arra" else [],
                    teachers=[TeacherShape(TEACHER_WIDTH)] if case == "arra" else [],
                ),
                Collator(layout),
            )
            trainer = TaskTrainer(
                max_norm=4.0,
                meeting=Meeting(60),
                model=trained,
                args=arguments,
                train_dataset=data,
                data_collator=collate,
            )

        class Turns(TrainerCallback):
            """Waits for the turn before a step, and tells what the step took after it."""

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                assert sys.stdin.readline().strip() == STEP
                self.began = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                if on_gpu:
                    torch.cuda.synchronize()
                peak = (
                    torch.cuda.max_memory_allocated()
                    if on_gpu
                    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                )
                print(json.dumps({"seconds": time.perf_counter() - self.began, "peak": peak}), file=answers, flush=True)

        trainer.add_callback(Turns())
        print(json.dumps({"ready": case}), file=answers, flush=True)
        trainer.train()
        assert sys.stdin.readline().strip() == FLOPS
        print(json.dumps({"flops": count_flops(trainer, trained, collate([data[0]]))}), file=answers, flush=True)


def count_flops(trainer: Any, trained: Any, batch: dict[str, Any]) -> float:
    """Operations of the matrix products of one sequence's forward and backward pass, as torch counts them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    names = ("input_ids", "labels", "image_start", "teacher_features", "context_ids")
    inputs = trainer._prepare_inputs({name: value for name, value in batch.items() if name in names})
    if "image_start" in inputs:
        inputs.pop("labels")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the fused kernels are not counted
        trained(**inputs)["loss"].backward()
    return float(counter.get_total_flops())


class Case(NamedTuple):
    """A running process and what it has told."""

    process: subprocess.Popen[str]
    seconds: list[float]
    told: dict[str, Any]

    def ask(self, what: str) -> dict[str, Any]:
        """Sends a line and returns the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if what:
            self.process.stdin.write(what + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a case ended early; its error stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(settings: argparse.Namespace) -> dict[str, Case]:
    """Runs all cases in turn."""
    passed = [
        f"--{name}={getattr(settings, name.replace('-', '_'))}" for name in ("device", "blocks", "batch-size", "rounds")
    ]
    cases = {}
    for name in CASES:
        command = [sys.executable, __file__, "--case", name, *passed]
        quiet = {**os.environ, "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
        cases[name] = Case(process, [], {})
    for case in cases.values():
        case.ask("")
    for number in range(settings.warm_up + settings.rounds):
        taken: dict[str, list[float]] = {name: [] for name in CASES}
        for name in TURNS:
            answer = cases[name].ask(STEP)
            cases[name].told["peak"] = answer["peak"]
            taken[name].append(answer["seconds"])
        if number >= settings.warm_up:
            for name, seconds in taken.items():
                cases[name].seconds.append(statistics.mean(seconds))
    for case in cases.values():
        case.told.update(case.ask(FLOPS))
        case.process.communicate()
    return cases


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer blocks and sequences, under 50 s on two cores")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--blocks", type=int, default=NUM_BLOCKS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in bfloat16, for the share that is reached")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.quick:
        settings.blocks, settings.batch_size, settings.rounds = QUICK_BLOCKS, 3, 5
    if settings.case:
        return work(settings.case, settings)

    import torch

    began, cases = time.perf_counter(), measure(settings)
    tokens = settings.batch_size * (TEXT_TOKENS + 2 + GRID[0] * GRID[1] + 1)
    print(
        f"{settings.blocks} of SmolLM2-135M's {NUM_BLOCKS} blocks, {settings.batch_size} sequences of {tokens // settings.batch_size} tokens a step, bf16 "
        f"autocast, {settings.device} ({platform.machine()}, {torch.get_num_threads()} threads), torch {torch.__version__}"
    )
    result: dict[str, Any] = {"blocks": settings.blocks, "batch_size": settings.batch_size, "rounds": settings.rounds}
    for name, case in cases.items():
        median, flops = statistics.median(case.seconds), case.told["flops"] * settings.batch_size
        print(
            f"{name:14} {median:7.3f} s a step (from {min(case.seconds):.3f} to {max(case.seconds):.3f}), peak "
            f"{case.told['peak'] / 2**20:6.0f} MiB, {flops / 1e12:.3f} Tflop, {tokens / median:.0f} tokens/s"
        )
        result[name] = {"seconds": case.seconds, "peak_bytes": case.told["peak"], "flops": flops}
        if settings.peak_tflops:
            result[name]["mfu"] = flops / median / settings.peak_tflops / 1e12
    for ratio, (one, other) in RATIOS.items():
        times = sorted(a / b for a, b in zip(cases[one].seconds, cases[other].seconds, strict=True))
        memory, flops = (cases[one].told[what] / cases[other].told[what] for what in ("peak", "flops"))
        print(
            f"{ratio}: time {statistics.median(times):.3f} ({times[0]:.3f} to {times[-1]:.3f} over {len(times)} rounds), "
            f"memory {memory:.3f}, operations {flops:.3f}"
        )
        result |= {
            f"{ratio}_time": statistics.median(times),
            f"{ratio}_time_range": [times[0], times[-1]],
            f"{ratio}_memory": memory,
            f"{ratio}_flops": flops,
        }
    result["wall_seconds"] = time.perf_counter() - began
    print(json.dumps(result))
    return None


if __name__ == "__main__":
    main()
