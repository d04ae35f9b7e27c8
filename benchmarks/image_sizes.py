"""Measures what a token costs in large images, and how that grows from the first to the last row.

    python benchmarks/image_sizes.py                      (about two minutes; the machine should be idle)
    python benchmarks/image_sizes.py --tokens 1024 --rounds 5
    python benchmarks/image_sizes.py --shape 135M --tokens 1024 --rounds 3

A random Llama of 40M parameters (or of SmolLM2-135M's shape) decodes 256 to 2,048 image tokens with guidance 3 on the CPU: with float32 weights, with bfloat16
ones as bundles store them, and with int8 ones, in interleaved rounds. The cost of a row is its time over the tokens that
were read in it (one less in the first row, since the prompt gives its first code). Ratios are of the means of the last and the
first 32 tokens of one image; a figure is the median over rounds with the smallest and the largest. The last line is one
JSON object.
"""

import argparse
import json
import os
import time
from typing import Any

import torch
from generate import PROMPT_TOKENS, RULES, layout_of, random_model, shown, spread

from arra_med.generate.decoding import DecodingBackend, open_backend
from arra_med.tokens.layout import SequenceLayout

COLUMNS, COMPARED_TOKENS = 16, 32
GOAL = 1.3


def decoded_rows(backend: DecodingBackend, layout: SequenceLayout, noise: torch.Tensor) -> list[float]:
    """Seconds a token of each row of one image, without its prompt and without drawing noise."""
    started = backend.start([layout.prompt_ids([*range(2, PROMPT_TOKENS)])], RULES)
    found = []
    for row in range(layout.grid[0]):
        began = time.perf_counter()
        started.next_row(noise)
        found.append((time.perf_counter() - began) / (COLUMNS - (row == 0)))
    return found


def main() -> None:
    """Prints a line for each size and format, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=("40M", "135M"), default="40M")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    positions = max(options.tokens) + 2 * PROMPT_TOKENS
    model = random_model(options.shape, positions=positions)
    rounded = random_model(options.shape, positions=positions).bfloat16().float()
    ways = {"float32": (model, "cpu"), "bfloat16 as stored": (rounded, "cpu"), "int8": (model, "cpu-int8")}
    cases: dict[str, Any] = {}
    for num_tokens in options.tokens:
        layout = layout_of(num_tokens // COLUMNS)
        torch.manual_seed(0)
        noise = -torch.empty(COLUMNS, 1, layout.vocabulary.codebook_size).exponential_().log()
        backends = {way: open_backend(name, weights, layout) for way, (weights, name) in ways.items()}
        figures: dict[str, dict[str, list[float]]] = {way: {"mean": [], "first": [], "last": []} for way in ways}
        compared = COMPARED_TOKENS // COLUMNS
        for number in range(options.rounds + 1):  # the first warms up
            for way, backend in backends.items():
                rows = [1e3 * seconds for seconds in decoded_rows(backend, layout, noise)]
                if number:
                    figures[way]["mean"].append(sum(rows) / len(rows))
                    figures[way]["first"].append(sum(rows[:compared]) / compared)
                    figures[way]["last"].append(sum(rows[-compared:]) / compared)
        for way, found in figures.items():
            ratios = [last / first for last, first in zip(found["last"], found["first"], strict=True)]
            case = {**{name: spread(values) for name, values in found.items()}, "last over first": spread(ratios)}
            cases[f"{num_tokens} tokens, {way}"] = case
            print(
                f"{num_tokens:5} tokens, {way:18}",
                *(f"{name} {shown(value)}" for name, value in case.items()),
                sep="  ",
                flush=True,
            )
    print(
        json.dumps(
            {
                "shape": options.shape,
                "threads": torch.get_num_threads(),
                "ms_a_token": cases,
                "goal_last_over_first": GOAL,
            }
        )
    )


if __name__ == "__main__":
    main()
