"""Measures decoding: this package's backends against transformers' `generate` and a plain OpenVINO conversion.

    python benchmarks/generate.py             (about ten minutes on two cores)
    python benchmarks/generate.py --quick     (under 50 s: fewer tokens and rounds, the main case alone)

Random Llamas of two shapes (40M and 135M parameters, the second SmolLM2's) decode image tokens from one prompt with
guidance 3. Everything is run in interleaved rounds in one process; a figure is the median over rounds, a ratio the median
of the rounds' ratios with its smallest and largest. The bandwidth bound of a step is the bytes of the weights that it
must read (layers and the head's image rows, in the dtype used), over the copy bandwidth (bytes read and written) measured
in the same round. OpenVINO is measured where `openvino` is installed. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
import transformers

import arra_med
from arra_med.generate.decoding import decode_image_tokens, open_backend
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary

SHAPES = {
    "40M": {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "7B": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
TEXT_VOCABULARY, CODES, PROMPT_TOKENS = 1331, 1920, 24
RULES = SamplingRules(guidance_scale=3.0, top_k=400)


class ImageTokensOnly(transformers.LogitsProcessor):
    """What slicing the head does, in the terms of `generate()`."""

    def __init__(self, vocabulary: ImageVocabulary) -> None:
        self._legal = slice(vocabulary.first_image_id, vocabulary.end_image_id)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keeps the scores of image tokens."""
        legal = torch.full_like(scores, -torch.inf)
        legal[:, self._legal] = scores[:, self._legal]
        return legal


def random_model(
    shape: str,
    codes: int = CODES,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    positions: int = 1400,
) -> transformers.LlamaForCausalLM:
    """A Llama with random weights, for at most so many positions."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=TEXT_VOCABULARY + codes + 13,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        **SHAPES[shape],
    )
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def layout_of(rows: int, columns: int = 16, codes: int = CODES) -> SequenceLayout:
    """A layout of that many rows of image tokens."""
    vocabulary = ImageVocabulary(
        bos_id=1327, pad_id=1330, boi_id=1328, eoi_id=1329, first_image_id=TEXT_VOCABULARY, codebook_size=codes,
        vocab_size=TEXT_VOCABULARY + codes + 13,
    )  # fmt: skip
    return SequenceLayout(vocabulary=vocabulary, grid=(rows, columns), max_text_tokens=64)


def transformers_generate(model: transformers.LlamaForCausalLM, layout: SequenceLayout, batch: int) -> None:
    """`generate` with guidance: both branches one after the other, as transformers does it."""
    prompt = torch.tensor([layout.prompt_ids([*range(2, PROMPT_TOKENS)])] * batch, device=model.device)
    negative = torch.tensor([layout.unconditional_ids] * batch, device=model.device)
    model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        negative_prompt_ids=negative,
        negative_prompt_attention_mask=torch.ones_like(negative),
        guidance_scale=RULES.guidance_scale,
        do_sample=True,
        top_k=RULES.top_k,
        max_new_tokens=layout.num_image_tokens,
        logits_processor=transformers.LogitsProcessorList([ImageTokensOnly(layout.vocabulary)]),
        eos_token_id=None,
        pad_token_id=layout.vocabulary.pad_id,
    )


def copy_bandwidth(device: str = "cpu") -> float:
    """Bytes a second, read and written, of copying 256 MiB; the best of five."""
    source, target = torch.ones(2**26, device=device), torch.empty(2**26, device=device)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes, a GPU's work included."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def weight_bytes(model: transformers.LlamaForCausalLM, bytes_per_weight: float, codes: int = CODES) -> float:
    """What a step must read: the layers, and the head's image rows."""
    layers = sum(parameter.numel() for parameter in model.model.layers.parameters())
    return (layers + codes * model.config.hidden_size) * bytes_per_weight


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": median(values), "smallest": min(values), "largest": max(values)}


def measure(shape: str, batch: int, rows: int, rounds: int, with_openvino: bool) -> dict[str, object]:
    """Interleaved rounds of one case; milliseconds a token, ratios to transformers, shares of the bound."""
    model, layout = random_model(shape), layout_of(rows)
    rounded = random_model(shape).bfloat16().float()
    prompts = [layout.prompt_ids([*range(2, PROMPT_TOKENS)])] * batch
    ways: dict[str, tuple[Callable[[], object], float]] = {
        "transformers generate": (lambda: transformers_generate(model, layout, batch), 4)
    }
    for name, weights, backend_name, size in (
        ("transformers backend", model, "transformers", 4),
        ("cpu, float32", model, "cpu", 4),
        ("cpu, bfloat16 as stored", rounded, "cpu", 2),
        ("cpu-int8", model, "cpu-int8", 1),
    ):
        backend = open_backend(backend_name, weights, layout)

        def decode(weights: transformers.LlamaForCausalLM = weights, backend: object = backend) -> None:
            decode_image_tokens(weights, layout, prompts, RULES, range(batch), backend=backend)  # type: ignore[arg-type]

        ways[name] = decode, size
    if with_openvino and batch == 1:
        from openvino_step import OpenVinoStep

        for dtype in ("f32", "bf16"):
            step = OpenVinoStep(model, layout, prompts[0], dtype)
            ways[f"OpenVINO, {dtype}"] = (lambda step=step: step.decode(layout.num_image_tokens)), 4
    for work, _ in ways.values():  # compiles, allocates
        work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        bandwidth = copy_bandwidth()
        for name, (work, size) in ways.items():
            token = seconds(work) / layout.num_image_tokens
            times[name].append(token * 1e3)
            shares[name].append(weight_bytes(model, size) / bandwidth / token)
    reference = times["transformers generate"]
    found = {
        name: {
            "ms_per_token": spread(taken),
            "speedup": spread([slow / fast for slow, fast in zip(reference, taken, strict=True)]),
            "fraction_of_bandwidth_bound": spread(shares[name]),
        }
        for name, taken in times.items()
    }
    print(f"\n{shape}, batch {batch}, {layout.num_image_tokens} tokens, {rounds} rounds")
    for name, figures in found.items():
        print(f"  {name:26}" + "".join(f"  {key} {shown(value)}" for key, value in figures.items()))
    return found


def cold_start(rounds: int) -> dict[str, object]:
    """Seconds from the start of a process to the first image of the bundled model, compiled code on disk."""
    bundle = Path(arra_med.__file__).parent / "bundles" / "mini-cxr"
    program = (
        "import sys; from pathlib import Path; from arra_med.generate.session import *; "
        "from arra_med.models.bundle import ModelBundle; "
        "ReportToImage(ModelBundle.load(Path(sys.argv[1])), backend=sys.argv[2]).generate("
        "GenerationRequest(report='PA view. Pleural effusion.', modality='cxr'))"
    )
    times: dict[str, list[float]] = {"transformers": [], "cpu": []}
    for number in range(rounds + 1):  # the first reads files that the others find in memory
        for name, taken in times.items():
            command = [sys.executable, "-c", program, str(bundle), name]
            spent = seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True))
            taken += [spent] if number else []
    print("\ncold start, seconds:", {name: shown(spread(taken)) for name, taken in times.items()})
    return {name: spread(taken) for name, taken in times.items()}


def shown(figures: dict[str, float]) -> str:
    """Median and range of a spread."""
    return f"{figures['median']:.3g} [{figures['smallest']:.3g}, {figures['largest']:.3g}]"


def main() -> None:
    """Runs the cases and prints the table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the main case with 64 tokens and three rounds")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows, rounds = (4, 3) if arguments.quick else (16, arguments.rounds)
    try:
        import openvino

        with_openvino = bool(openvino.__version__)
    except ImportError:
        with_openvino = False
        print("openvino is not installed: left out")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads"
    )
    cases = {"40M batch 1": measure("40M", 1, rows, rounds, with_openvino)}
    if not arguments.quick:
        cases["40M batch 8"] = measure("40M", 8, rows, rounds, False)
        cases["135M batch 1"] = measure("135M", 1, rows, rounds, False)
        cases["cold start"] = cold_start(rounds)
    main_case = cases["40M batch 1"]["cpu, float32"]
    summary = {
        "speedup_over_hf_guidance_batch1": main_case["speedup"]["median"],
        "fraction_of_bandwidth_bound": main_case["fraction_of_bandwidth_bound"]["median"],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cases": cases,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
