"""A soak of `arra-med generate --prompts`: thousands of prompts, killed with SIGKILL in the middle and gone on with.

    python benchmarks/soak.py                                 # 2,000 prompts, random weights
    python benchmarks/soak.py --bundle arra_med/bundles/mini-cxr --prompts 200
    python benchmarks/soak.py --quick                         # 120 prompts, random weights

The same table is drawn twice: once without interruption, and once killed at random moments and started again, with
another batch size each time. Every picture's pixels are compared, and what was finished at a kill must not have been
written again. The last line is one JSON object.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import arra_med  # noqa: F401 - before timm, so that a torchvision built for CUDA can be imported beside a CPU-only torch

_FINDINGS = ("effusion", "pneumothorax", "cardiomegaly", "edema", "atelectasis", "consolidation", "no finding")
_BATCHES = (8, 5, 3)


def make_bundle(folder: Path) -> Path:
    """Makes a bundle of random weights: chest images of 32 px from 4 x 4 codes."""
    import torch

    from arra_med.imaging.view import CanonicalView
    from arra_med.models.bundle import BundleInfo, ModelBundle
    from arra_med.models.start import RandomStart, build_start
    from arra_med.tokens.vq import VQConfig, VQTokenizer

    torch.manual_seed(0)
    shape = VQConfig(size_px=32, downsampling=8, width=32, max_width=32, levels=(4, 3, 3))
    start = build_start(
        RandomStart(preset="tiny", text_vocab_size=300),
        grid=(4, 4),
        codebook_size=36,
        max_text_tokens=64,
        sentences=[f"chest x-ray image, {finding}." for finding in _FINDINGS],
    )
    info = BundleInfo(
        name="random-cxr",
        variant="finetuned",
        layout=start.layout,
        canonical_view=CanonicalView(modality="cxr", size_px=32),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={},
        label_counts={},
        training={},
    )
    ModelBundle.save(
        folder,
        model=start.model,
        text_tokenizer=start.text_tokenizer,
        image_tokenizer=VQTokenizer(shape).eval(),
        info=info,
        card="# Random weights",
    )
    return folder


def write_prompts(path: Path, num_prompts: int, chance: random.Random) -> Path:
    """Writes a table of made reports of different lengths."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "report", "view"])
        for number in range(num_prompts):
            findings = chance.sample(_FINDINGS[:-1], chance.randint(1, 4))
            writer.writerow([f"case-{number}", f"{', '.join(findings).capitalize()}.", chance.choice(["PA", "AP", ""])])
    return path


def start(table: Path, bundle: Path, out: Path, batch: int) -> subprocess.Popen[bytes]:
    """Starts the command in a process of its own."""
    words = ["generate", "--prompts", str(table), "--bundle", str(bundle), "--out", str(out), "--batch", str(batch)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", "arra_med.cli", *words], stdout=quiet, stderr=quiet)


def finished(out: Path) -> dict[str, int]:
    """Returns when each file of the finished images was written; a record is written after its picture."""
    records = list(out.glob("arra-med_*.json"))
    return {path.name: path.stat().st_mtime_ns for record in records for path in (record, record.with_suffix(".png"))}


def finish(run: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Waits for a run's success; returns its seconds and its peak memory in MiB (0 where the system does not tell)."""
    began, peak_mib, status = time.monotonic(), 0.0, Path(f"/proc/{run.pid}/status")
    while run.poll() is None:
        if status.exists():
            told = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            peak_mib = max([peak_mib, *(int(kib) / 1024 for kib in told)])
        time.sleep(0.2)
    if run.returncode:
        sys.exit(f"a run failed with exit code {run.returncode}")
    return time.monotonic() - began, peak_mib


def pictures(out: Path) -> dict[str, np.ndarray]:
    """Returns the pixels of every image."""
    return {path.name: np.asarray(Image.open(path)) for path in out.glob("arra-med_*.png")}


def main() -> None:
    """Prints one line for each kill and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--bundle", type=Path, help="A bundle's folder; by default one of random weights.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="120 prompts, one kill.")
    options = parser.parse_args()
    num_prompts, kills = (120, 1) if options.quick else (options.prompts, options.kills)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        bundle = options.bundle or make_bundle(folder / "bundle")
        table, out = write_prompts(folder / "prompts.csv", num_prompts, chance), folder / "killed"
        seconds, peak_mib = finish(start(table, bundle, folder / "whole", _BATCHES[0]))
        before: dict[str, int] = {}
        rewritten = 0
        for kill in range(kills):
            run = start(table, bundle, out, _BATCHES[kill % len(_BATCHES)])
            stop_at = int(num_prompts * (kill + chance.random()) / (kills + 0.5)) + 1
            while run.poll() is None and len(finished(out)) < 2 * stop_at:
                time.sleep(0.01)
            if run.poll() is not None:
                sys.exit("a run ended before it could be killed")
            run.kill()
            run.wait()
            now = finished(out)
            rewritten += sum(now.get(file) != when for file, when in before.items())
            before = now
            print(f"kill {kill + 1}: {len(now) // 2} of {num_prompts} images finished", flush=True)
        finish(start(table, bundle, out, _BATCHES[kills % len(_BATCHES)]))
        now = finished(out)
        rewritten += sum(now.get(file) != when for file, when in before.items())
        whole, killed = pictures(folder / "whole"), pictures(out)
        other = sum(file not in killed or not np.array_equal(killed[file], image) for file, image in whole.items())
        listed = len((out / "images.jsonl").read_text().splitlines())
        result = {
            "prompts": num_prompts,
            "kills": kills,
            "images_finished_before_the_last_kill": len(before) // 2,
            "finished_files_written_again": rewritten,
            "images_listed": listed,
            "images_that_differ_from_the_uninterrupted_run": other,
            "half_written_files_left": len(list(out.glob(".*.partial"))),
            "images_per_second_start_included": round(num_prompts / seconds, 2),
            "peak_memory_mib": round(peak_mib),
        }
    print(json.dumps(result))
    left = result["half_written_files_left"]
    sys.exit(bool(rewritten or other or left or listed != num_prompts or len(killed) != num_prompts))


if __name__ == "__main__":
    main()
