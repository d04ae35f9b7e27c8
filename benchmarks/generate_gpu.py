"""Measures decoding on a GPU: the captured step against transformers' `generate` and the paper's authors' way.

    python benchmarks/generate_gpu.py                       (an H100: some hours; 135M and 7B, batches 1 to 256)
    python benchmarks/generate_gpu.py --quick               (batches 1 and 32, 256 tokens)
    python benchmarks/generate_gpu.py --device cpu --tiny   (a smoke run, seconds; its figures mean nothing)

Random Llamas in bfloat16, of SmolLM2's and of Chameleon's shape (135M with 1,920 codes, 7B with 8,192), decode 1,024 image
tokens with guidance 3. The authors' code reads the model twice for each token and draws one image after the other: it is
run for one image, and its tokens a second hold for every batch. Everything is interleaved in one process; a figure is the
median over rounds with its smallest and largest, a ratio the median of the rounds' ratios. The bandwidth bound of a step
is the bytes that it must read (layers, the head's image rows, and the keys and values of the tokens so far, half the
image on average, of both guidance rows) over the copy bandwidth (bytes read and written) measured in the same round. A
batch that does not fit the memory is halved. The last line is one JSON object.

Not yet measured on any GPU.
"""

import argparse
import gc
import json
from collections.abc import Callable, Sequence

import torch
import transformers
from generate import (
    PROMPT_TOKENS,
    RULES,
    copy_bandwidth,
    layout_of,
    random_model,
    seconds,
    shown,
    spread,
    transformers_generate,
    weight_bytes,
)

from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import filtered_logits, guided_logits
from arra_med.tokens.layout import SequenceLayout

CODES_OF = {"135M": 1920, "7B": 8192, "tiny": 64}
COLUMNS = 32
CAPTURED, GENERATE, AUTHORS = "cuda-graph backend", "transformers generate", "two passes a token"


@torch.no_grad()
def two_passes(model: transformers.LlamaForCausalLM, layout: SequenceLayout) -> None:
    """One image as the paper's authors draw it: conditional and unconditional pass one after the other, whole head."""
    reads = [layout.prompt_ids([*range(2, PROMPT_TOKENS)]), layout.unconditional_ids]
    ids = [torch.tensor([read], device=model.device) for read in reads]
    caches = [transformers.DynamicCache(config=model.config) for _ in reads]
    for _ in range(layout.num_image_tokens):
        conditional, unconditional = (
            model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
            for part, cache in zip(ids, caches, strict=True)
        )
        logits = guided_logits(conditional, unconditional, RULES.guidance_scale)[:, layout.vocabulary.image_rows]
        code = torch.multinomial(filtered_logits(logits, RULES).softmax(dim=-1), 1)
        ids = [layout.vocabulary.image_ids(code)] * 2


def cache_bytes(model: transformers.LlamaForCausalLM, layout: SequenceLayout, batch: int) -> float:
    """Keys and values that an average step of a guided batch must read."""
    config = model.config
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    prompts = len(layout.prompt_ids([*range(2, PROMPT_TOKENS)])) + len(layout.unconditional_ids)
    return batch * token * (prompts + layout.num_image_tokens)  # two rows, each with half the image


def measure(
    model: transformers.LlamaForCausalLM, layout: SequenceLayout, batch: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Interleaved rounds of one batch size; tokens a second, ratios of them, shares of the bound."""
    backend = CudaGraphBackend(model, layout)
    prompts = [layout.prompt_ids([*range(2, PROMPT_TOKENS)])] * batch
    ways: dict[str, tuple[Callable[[], object], int]] = {
        CAPTURED: (lambda: decode_image_tokens(model, layout, prompts, RULES, range(batch), backend=backend), batch),
        GENERATE: (lambda: transformers_generate(model, layout, batch), batch),
        AUTHORS: (lambda: two_passes(model, layout), 1),
    }
    for work, _ in ways.values():  # captures, allocates
        work()
    codes = layout.vocabulary.codebook_size
    weights = weight_bytes(model, model.dtype.itemsize, codes)
    needed = {images: weights + cache_bytes(model, layout, images) for images in (1, batch)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        bandwidth = copy_bandwidth(str(model.device))
        for name, (work, images) in ways.items():
            step = seconds(work) / layout.num_image_tokens
            speeds[name].append(images / step)
            shares[name].append(needed[images] / bandwidth / step)
    return {
        name: {
            "tokens_per_s": spread(taken),
            "speedup_over_generate": spread([a / b for a, b in zip(taken, speeds[GENERATE], strict=True)]),
            "speedup_over_authors": spread([a / b for a, b in zip(taken, speeds[AUTHORS], strict=True)]),
            "fraction_of_bandwidth_bound": spread(shares[name]),
        }
        for name, taken in speeds.items()
    }


def measure_batches(shape: str, batches: Sequence[int], rows: int, rounds: int, device: str) -> dict[str, object]:
    """All batch sizes of one shape, ascending; the first that does not fit is halved until it does, and ends it."""
    codes = CODES_OF[shape]
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    model, layout = random_model(shape, codes, device, dtype), layout_of(rows, COLUMNS, codes)
    cases: dict[str, object] = {}
    for wanted in batches:
        batch = wanted
        while batch and f"batch {batch}" not in cases:
            try:
                found = measure(model, layout, batch, rounds)
            except torch.OutOfMemoryError:
                print(f"{shape}: batch {batch} does not fit the memory, it is halved")
                batch //= 2
            else:
                cases[f"batch {batch}"] = found
                _print_case(f"{shape}, batch {batch}, {layout.num_image_tokens} tokens, {rounds} rounds", found)
            gc.collect()  # what the failed try still holds
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
        if batch < wanted:
            break
    return cases


def _print_case(title: str, found: dict[str, dict[str, dict[str, float]]]) -> None:
    print(f"\n{title}")
    for name, figures in found.items():
        print(f"  {name:22}" + "".join(f"  {key} {shown(value)}" for key, value in figures.items()), flush=True)


def main() -> None:
    """Runs the cases and prints the tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches 1 and 32, 256 tokens, two rounds")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of 135M and 7B, few tokens")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[2**power for power in range(9)])
    parser.add_argument("--shapes", nargs="+", default=["135M", "7B"], choices=list(CODES_OF))
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no GPU of CUDA is here: give --device cpu --tiny for a smoke run")
    batches, rows, rounds, shapes = sorted(arguments.batches), 1024 // COLUMNS, arguments.rounds, arguments.shapes
    if arguments.quick:
        batches, rows, rounds = [1, 32], 256 // COLUMNS, 2
    if arguments.tiny:
        batches, rows, rounds, shapes = [1, 2], 2, 2, ["tiny"]
    on_gpu = arguments.device.startswith("cuda")
    device_name = torch.cuda.get_device_name(arguments.device) if on_gpu else "cpu"
    print(f"{device_name}, torch {torch.__version__}, transformers {transformers.__version__}")
    cases = {shape: measure_batches(shape, batches, rows, rounds, arguments.device) for shape in shapes}
    versions = {"device": device_name, "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**versions, "cases": cases}))


if __name__ == "__main__":
    main()
