"""Counts image tokens and images that differ between batch 1 and batch 8, and between the ways of decoding.

    python benchmarks/batch_independence.py --out runs/batch_independence      (about ten minutes on an idle core)
    python benchmarks/batch_independence.py --out runs/batch_independence --prompts 16

Fixed prompts, image i with seed i, guidance 3. Every way (as in decoder_quality.py) draws all images one at a time and
eight at a time; its batches of eight are compared with its single images, and its single images with those of
transformers in float32. At batch 1 transformers reads drafts of several tokens in a pass (docs/performance.md), so that
there both the batch and the number of tokens in a pass differ.

Everything behind the first token that differs follows another image, so that the share of differing tokens says little
about rounding. Therefore the places of first differences are told as well, and the share of tokens that differ given the
same ones before: first differences over the tokens up to and with them. Shares have a 95% interval over images (Wilson's,
for tokens at the effective number of them). Drawn codes stay in --out, so that a stopped run goes on. The last line is
one JSON object.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from decoder_quality import BATCH, BFLOAT16, CPU, INT8, Model
from quality_gate import fixed_requests

from arra_med.corpus.parquet import progress_bar
from arra_med.evaluate.proportions import share_interval
from arra_med.generate.request import GenerationRequest
from arra_med.models.bundled import find_bundle
from arra_med.runs import atomic_file

REFERENCE = "transformers"
TITLES = {
    REFERENCE: "`transformers`, float32",
    BFLOAT16: "`transformers`, bfloat16 arithmetic",
    CPU: "`cpu` (bfloat16 as stored, float32 arithmetic)",
    INT8: "`cpu-int8`",
}


def drawn(model: Model, requests: list[GenerationRequest], batch: int, path: Path) -> np.ndarray:
    """Codes int64 (n, h, w), so many images at a time; kept in a file."""
    if not path.exists():
        parts = [requests[first : first + batch] for first in range(0, len(requests), batch)]
        codes = torch.cat([model.session.draw_codes(part) for part in parts])
        with atomic_file(path) as partial, partial.open("wb") as stream:
            np.save(stream, codes.numpy())
    return np.load(path, allow_pickle=False)


def drawn_in_both_ways(
    folder: Path, requests: list[GenerationRequest], out: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Codes (n, h, w) of every way: one image at a time, and eight at a time."""
    out.mkdir(parents=True, exist_ok=True)
    models = {way: Model(folder, way) for way in TITLES}
    found: dict[tuple[str, int], list[np.ndarray]] = {(way, batch): [] for way in TITLES for batch in (1, BATCH)}
    with progress_bar("drawing", len(requests) * len(found), True) as advance:
        for first in range(0, len(requests), BATCH):
            group = requests[first : first + BATCH]
            for (way, batch), parts in found.items():
                name = f"{way.replace(' ', '_')}_batch_{batch}_images_{first}_to_{first + len(group) - 1}.npy"
                parts.append(drawn(models[way], group, batch, out / name))
                advance(len(group))
    alone, batched = ({way: np.concatenate(found[way, batch]) for way in TITLES} for batch in (1, BATCH))
    return alone, batched


def compared(codes: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Shares that differ with their intervals, and where; codes int64 (n, h, w)."""
    differs = (codes != other).reshape(len(codes), -1)
    num_images, num_tokens = differs.shape
    any_differs = differs.any(axis=1).astype(int).tolist()
    first = [int(image.argmax()) + 1 if image.any() else None for image in differs]
    return {
        "tokens": share(differs.sum(axis=1).tolist(), [num_tokens] * num_images),
        "images": share(any_differs, [1] * num_images),
        "given_the_same_before": share(any_differs, [place or num_tokens for place in first]),
        "first_differences": [place for place in first if place is not None],
    }


def share(found: Sequence[int], looked_at: Sequence[int]) -> dict[str, Any]:
    """Counts over all images, and the interval of their ratio."""
    return {"count": sum(found), "of": sum(looked_at), **dataclasses.asdict(share_interval(found, looked_at))}


def shown(figures: dict[str, Any]) -> str:
    """As in `3 of 64: 4.7% [1.6, 13]`."""
    percent = [round(100 * figures[name], 6) for name in ("estimate", "low", "high")]
    estimate, low, high = (f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in percent)
    return f"{figures['count']:,} of {figures['of']:,}: {estimate}% [{low}, {high}]"


def table_row(figures: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    places = figures["first_differences"]
    where = f"{median(places):.0f} [{min(places)}, {max(places)}]" if places else "none"
    shares = [shown(figures[name]) for name in ("images", "tokens", "given_the_same_before")]
    return f"| {' | '.join([figures['codes_of'], figures['against'], *shares, where])} |"


def main() -> None:
    """Prints the table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="mini", help="a folder, or the bundled model")
    parser.add_argument("--modality", default="cxr", choices=["cxr", "fundus"])
    parser.add_argument("--prompts", type=int, default=64, help="one image of each")
    parser.add_argument("--out", type=Path, required=True, help="keeps the drawn codes")
    options = parser.parse_args()
    folder = find_bundle(options.bundle, options.modality)
    requests = [
        request.model_copy(update={"num_images": 1, "seed": seed})
        for seed, request in enumerate(fixed_requests(options.modality, options.prompts))
    ]
    alone, batched = drawn_in_both_ways(folder, requests, options.out)
    told = [
        {"codes_of": f"{title}, batch {BATCH}", "against": "batch 1", **compared(batched[way], alone[way])}
        for way, title in TITLES.items()
    ]
    told += [
        {"codes_of": f"{title}, batch 1", "against": TITLES[REFERENCE], **compared(alone[way], alone[REFERENCE])}
        for way, title in TITLES.items()
        if way != REFERENCE
    ]
    print("| codes of | against | images that differ | tokens | tokens, given the same before | first difference at |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for figures in told:
        print(table_row(figures))
    print(json.dumps({"bundle": folder.name, "torch": torch.__version__, "comparisons": told}))


if __name__ == "__main__":
    main()
