"""Resume after `kill -9` at a random moment: the losses of the uninterrupted run, bit for bit, on one process.

    python benchmarks/kill_resume.py --kills 20

A tiny corpus of generated pictures is made, and a tiny model trained with ARRA to the end once. Then the same training is
started again and again in a process of its own, and killed with SIGKILL a random time after its first step, until it has
been killed as often as asked; then it is left to end. Every logged loss and the weights of the bundle are compared. The
last line is one JSON object.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import arra_med  # noqa: F401 - before timm, so that a torchvision built for CUDA can be imported beside a CPU-only torch

_STEPS_FOR_EACH_KILL = 30
_IMAGES, _SIZE_PX = 24, 32


def make_data(folder: Path) -> Path:
    """Makes study set, tokenizer (untrained), corpus and random teacher features; returns the training's configuration."""
    import timm
    import torch
    import yaml
    from timm.models import save_for_hf

    from arra_med.corpus.features import extract_features
    from arra_med.corpus.ingest import ingest
    from arra_med.corpus.tokenize import tokenize
    from arra_med.imaging.view import CanonicalView
    from arra_med.records.manifest import write_manifest
    from arra_med.records.study import StudyRecord
    from arra_med.tokens.vq import VQConfig, VQTokenizer

    records = []
    for number in range(_IMAGES):
        path = folder / f"image{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (_SIZE_PX, _SIZE_PX), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(
            StudyRecord(
                image_id=f"tiny/{number}",
                patient_id=f"patient-{number}",
                modality="cxr",
                view="PA",
                age_group="adult",
                path=str(path),
                report="PA chest radiograph.",
                report_kind="from_labels",
                labels=("Effusion",) if number % 2 else ("No Finding",),
                source="nih_cxr14",
                licence="open",
                redistributable=True,
                patient_known=True,
                attribution="generated noise",
                split="train" if number < _IMAGES * 2 // 3 else "validation",
            )
        )
    write_manifest(records, folder / "studies.csv")
    view = CanonicalView(modality="cxr", size_px=_SIZE_PX)
    ingest(folder / "studies.csv", folder / "studies", view, workers=0, progress=False)
    torch.manual_seed(0)
    shape = VQConfig(size_px=_SIZE_PX, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 4))
    VQTokenizer(shape).save_pretrained(folder / "tokenizer")
    tokenize(folder / "studies", folder / "tokenizer", folder / "corpus", views=2, progress=False)
    save_for_hf(
        timm.create_model("test_vit", pretrained=False, num_classes=0), str(folder / "teacher"), safe_serialization=True
    )
    features, teacher = folder / "features.parquet", f"timm:{folder / 'teacher'}"
    extract_features(folder / "studies", teacher, features, views=2, kinds=("cls",), progress=False)
    settings = {
        "name": "tiny",
        "corpus": str(folder / "corpus"),
        "image_tokenizer": str(folder / "tokenizer"),
        "start": {"kind": "random", "preset": "tiny", "text_vocab_size": 300},
        "alignment": {"teacher_features": str(features), "layer": 2, "projector_width": 16},
        "max_text_tokens": 100,
        "token_noise": 0.1,
        "batch_size": 2,
        "accumulation": 2,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "log_every": 1,
        "evaluate_every": 10,
        "checkpoint_every": 3,
        "device": "cpu",
        "bf16": False,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "train.yaml"


def start(config: Path, steps: int, out: Path) -> subprocess.Popen[bytes]:
    """Starts the training in a process of its own."""
    words = ["train", "--config", str(config), "--set", f"steps={steps}", "--out", str(out)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", "arra_med.cli", *words], stdout=quiet, stderr=quiet)


def last_checkpoint(out: Path) -> int:
    """Returns the step of the newest checkpoint, complete or not; 0 without any."""
    return max((int(path.name.rpartition("-")[2]) for path in (out / "checkpoints").glob("checkpoint-*")), default=0)


def kill_somewhere(run: subprocess.Popen[bytes], out: Path, chance: random.Random) -> bool:
    """Kills a run once it has gone on from where it was, after a random time; returns False if it ended before."""
    before = last_checkpoint(out)
    while run.poll() is None and last_checkpoint(out) <= before:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.6))
    if run.poll() is not None:
        return False
    run.send_signal(signal.SIGKILL)
    run.wait()
    return True


def losses(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns every logged loss with its step."""
    rows = json.loads((out / "log.json").read_text())
    names = {name for row in rows for name in row if name.endswith("loss") and name != "train_loss"}
    return {name: [(row["step"], row[name]) for row in rows if name in row] for name in sorted(names)}


def main() -> None:
    """Prints one line for each kill and the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, steps = random.Random(options.seed), options.kills * _STEPS_FOR_EACH_KILL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ARRA_MED_KEY_FILE"] = str(folder / "key")
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        config = make_data(folder)
        if start(config, steps, folder / "whole").wait():
            sys.exit("the uninterrupted run failed")
        kills = unfinished = 0
        while kills < options.kills:
            if not kill_somewhere(start(config, steps, folder / "killed"), folder / "killed", chance):
                break
            kills += 1
            newest = last_checkpoint(folder / "killed")
            half = not (folder / f"killed/checkpoints/checkpoint-{newest}/complete.json").is_file()
            unfinished += half
            print(f"kill {kills}: newest checkpoint {newest} of {steps}{', unfinished' if half else ''}", flush=True)
        if start(config, steps, folder / "killed").wait():
            sys.exit("the last run failed")
        whole, killed = losses(folder / "whole"), losses(folder / "killed")
        weights = [(folder / out / "bundle/model.safetensors").read_bytes() for out in ("whole", "killed")]
        result = {
            "kills": kills,
            "kills_while_a_checkpoint_was_written": unfinished,
            "steps": steps,
            "losses_compared": sum(map(len, whole.values())),
            "losses_bit_identical": whole == killed,
            "weights_bit_identical": weights[0] == weights[1],
        }
    print(json.dumps(result))
    sys.exit(not (result["losses_bit_identical"] and result["weights_bit_identical"]))


if __name__ == "__main__":
    main()
