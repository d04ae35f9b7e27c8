"""Held-out image-token loss of bundles on the same images and wordings, and the paired difference to the first one.

    python benchmarks/held_out_loss.py --corpus runs/mini_cxr/corpus \
        arra_med/bundles/mini-cxr-finetuned arra_med/bundles/mini-cxr

The interval is over images; it says nothing about other training seeds.
"""

import argparse
from pathlib import Path

import numpy as np

from arra_med.corpus.dataset import Corpus, TrainingDataset
from arra_med.evaluate.intervals import t_interval
from arra_med.evaluate.likelihood import image_losses
from arra_med.models.bundle import ModelBundle


def validation_losses(folder: Path, corpus: Corpus) -> np.ndarray:
    """Mean image-token loss in nats of each validation image (n,), with the wording of epoch 0."""
    bundle = ModelBundle.load(folder)
    dataset = TrainingDataset(corpus, "validation", bundle.layout, bundle.text_tokenizer, evaluation=True)
    return image_losses(bundle, dataset)


def main() -> None:
    """Prints one line for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--corpus", type=Path, required=True)
    options = parser.parse_args()
    corpus = Corpus.open(options.corpus)
    losses = {str(folder): validation_losses(folder, corpus) for folder in options.bundles}
    first = next(iter(losses.values()))
    for name, values in losses.items():
        difference = values - first
        line = f"{name}: {values.mean():.4f} nats over {len(values)} images"
        if difference.any():
            found = t_interval(difference)
            line += f"; difference to the first {found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        print(line)


if __name__ == "__main__":
    main()
