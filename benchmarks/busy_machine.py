"""Measures the CPU decoder beside other work: the number of threads that it chooses against fixed ones.

    python benchmarks/busy_machine.py                (about two minutes; the machine should be idle but for this)
    python benchmarks/busy_machine.py --rounds 2

Other work is 0, 1 or 2 processes that compute without end. In interleaved rounds a random Llama of 40M parameters
(bfloat16 weights, guidance 3) draws 128 tokens in three ways: with all threads, with one, and as the backend chooses;
each way has a backend of its own, which keeps what it has learned. A figure is the median over rounds with the smallest and the
largest. The first round of a way after the other work began counts. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generate import PROMPT_TOKENS, RULES, layout_of, random_model, seconds, shown, spread

from arra_med.generate.cpu_backend import CpuBackend
from arra_med.generate.cpu_threads import ThreadChoice
from arra_med.generate.decoding import decode_image_tokens

ALL, ONE, CHOSEN = "all threads", "one thread", "chosen"
_SPIN = "while True: pass"


class Fixed(ThreadChoice):
    """Always the same number."""

    def next_run(self) -> tuple[int, int]:
        """All tokens of a row at once, as if nothing had to be watched."""
        return self.best, 64

    def took(self, num_tokens: int, seconds: float) -> None:
        """Learns nothing."""


def work_of_others() -> float | None:
    """Processor seconds that anything but this process has used so far; none where the system does not tell."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system = (int(ticks) for ticks in path.read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - time.process_time()


def measure(ways: dict[str, Callable[[], object]], spinners: int, rounds: int, num_tokens: int) -> dict[str, Any]:
    """Milliseconds a token of each way beside so many processes."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    started = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(spinners)]
    before, began = work_of_others(), time.perf_counter()
    try:
        for _ in range(rounds if spinners else 3 * rounds):
            for way, work in ways.items():
                times[way].append(1e3 * seconds(work) / num_tokens)
        after, spent = work_of_others(), time.perf_counter() - began
    finally:
        for process in started:
            process.kill()
            process.wait()
    gains = [slow / fast for slow, fast in zip(times[ALL], times[CHOSEN], strict=True)]
    found = {**{way: spread(taken) for way, taken in times.items()}, "all over chosen": spread(gains)}
    print(
        f"{spinners} processes beside it:", *(f"{name} {shown(figures)}" for name, figures in found.items()), sep="  "
    )
    others = None if before is None or after is None else round((after - before) / spent, 2)
    print(f"   processors that others had meanwhile: {others}", flush=True)
    return {**found, "processors_of_others": others}


def main() -> None:
    """Prints a line for each number of processes, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="three times as many on the idle machine")
    parser.add_argument("--rows", type=int, default=8, help="of 16 tokens")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model, layout = random_model("40M").bfloat16().float(), layout_of(options.rows)
    prompt = layout.prompt_ids([*range(2, PROMPT_TOKENS)])
    ways: dict[str, Callable[[], object]] = {}
    for way in (ALL, CHOSEN, ONE):
        backend = CpuBackend(model, layout)
        if way != CHOSEN:
            backend.choices[2] = Fixed(backend.num_threads if way == ALL else 1)

        def decode(backend: CpuBackend = backend) -> None:
            decode_image_tokens(model, layout, [prompt], RULES, [0], backend=backend)

        ways[way] = decode
        decode()
    cases = {number: measure(ways, number, options.rounds, layout.num_image_tokens) for number in (0, 1, 2)}
    print(json.dumps({"threads": torch.get_num_threads(), "processes_beside_it": cases}))


if __name__ == "__main__":
    main()
