"""Measures speculative Jacobi decoding (`transformers` backend, one image): passes, equal tokens, and what is won.

    python benchmarks/jacobi.py                                 (about four minutes; the machine should be idle)
    python benchmarks/jacobi.py --images 4 --windows 1 8

Fixed prompts are drawn by a bundled model with the page's settings (guidance 3), one image at a time, with windows of several
sizes in interleaved rounds: each image once with every window. A window of 1 is one pass a token. Printed are passes an image
(mean, 95% t interval over images), codes that differ from those of window 1, and the time of window 1 over that of the
window (median over images, smallest and largest), prompts and noise included. The compiled `cpu` backend is measured
beside them. The last line is one JSON object.
"""

import argparse
import json
import os
import time

import torch
from generate import shown, spread
from quality_gate import fixed_requests

from arra_med.evaluate.intervals import t_interval
from arra_med.generate.cpu_backend import CpuBackend
from arra_med.generate.sampling import SamplingRules, UniformStreams, gumbel_noise
from arra_med.generate.session import ReportToImage
from arra_med.generate.transformers_backend import TransformersBackend
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import find_bundle

RULES = SamplingRules(guidance_scale=3.0)


def main() -> None:
    """Prints a line for each window, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", choices=("cxr", "fundus"), default="cxr")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    bundle = ModelBundle.load(find_bundle("mini", options.modality))
    session = ReportToImage(bundle, backend="transformers")
    layout = bundle.layout
    backends = {f"window {window}": TransformersBackend(bundle.model, layout, window) for window in options.windows}
    backends["compiled"] = CpuBackend(bundle.model, layout)
    passes: dict[str, list[int]] = {name: [] for name in backends}
    ratios: dict[str, list[float]] = {name: [] for name in backends}
    differ = dict.fromkeys(backends, 0)
    for number, request in enumerate(fixed_requests(options.modality, options.images + 1)):
        prompt, taken, codes = session.reader.token_ids(session.prompt(request)), {}, {}
        for name, backend in backends.items():
            began = time.perf_counter()
            noise = gumbel_noise(
                UniformStreams([number], layout.vocabulary.codebook_size).next_steps(layout.num_image_tokens)
            )
            rows = backend.start([prompt], RULES)
            codes[name] = torch.cat([rows.next_row(part) for part in noise.split(layout.grid[1])])
            taken[name] = time.perf_counter() - began
            if number:  # the first warms up
                passes[name].append(getattr(rows, "passes", layout.num_image_tokens))
        for name in backends if number else ():
            ratios[name].append(taken["window 1"] / taken[name])
            differ[name] += int((codes[name] != codes["window 1"]).sum())
    told = {}
    for name in backends:
        mean = t_interval(passes[name])
        told[name] = {
            "passes": {"mean": mean.estimate, "low": mean.low, "high": mean.high},
            "speedup_over_window_1": spread(ratios[name]),
            "codes_that_differ": differ[name],
        }
        print(
            f"{name:10} passes {mean.estimate:6.1f} [{mean.low:.1f}, {mean.high:.1f}]  time of window 1 over it "
            f"{shown(told[name]['speedup_over_window_1'])}  {differ[name]} of {options.images * layout.num_image_tokens:,} "
            "codes differ",
            flush=True,
        )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
