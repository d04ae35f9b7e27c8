"""Settings beyond the paper against their absence: the same held-out prompts and seeds, judged by EfficientNet-Lite2.

    python benchmarks/beyond_paper.py --studies runs/mini_cxr/studies --out beyond.json \
        --variant plain runs/plain_0/bundle '{"guidance_scale": 3, "top_k": 400}' \
        --variant reAR runs/consistency_0/bundle '{"guidance_scale": 3, "top_k": 400}'

Each validation study's own words are the prompt of one image, once for each set of seeds. The distance is Frechet's on 32
principal components of the real training images' features, against the validation images; its floor is that of their own
reconstructions. The first variant is the one that the others are compared with, set of seeds by set of seeds.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.frechet import FeatureProjection, projected_frechet_distance
from arra_med.evaluate.intervals import reduction_interval
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.imaging.view import from_uint8, to_uint8
from arra_med.models.bundle import ModelBundle
from arra_med.records.wording import prompt_text
from arra_med.runs import versions, write_json

NUM_DIMS, BATCH, SEED_SET = 32, 32, 1_000_000
TRAINING_IMAGES = 800


def main() -> None:
    """Measures and prints one line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--variant", nargs=3, action="append", required=True, metavar=("NAME", "BUNDLE", "RULES"))
    parser.add_argument("--seed-sets", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=128, help="validation images; the first so many of a shuffled list"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    encoder, studies = load_encoder("efficientnet_lite2"), StudySet.open(options.studies)
    training, held_out = studies.select(split="train"), studies.select(split="validation")
    some = np.random.default_rng(0).permutation(len(training))[:TRAINING_IMAGES]
    projection = FeatureProjection.fit(
        judged_features(encoder, np.stack([training.view(int(row)) for row in tqdm(some, "reals")])), NUM_DIMS
    )
    chosen = np.random.default_rng(0).permutation(len(held_out))[: options.images].tolist()
    views = np.stack([held_out.view(row) for row in chosen])
    real = judged_features(encoder, views)
    records = held_out.records()
    texts = [prompt_text(records[row], random.Random(records[row].image_id)) for row in chosen]
    rows = []
    for name, folder, rules in options.variant:
        bundle, sampling = ModelBundle.load(Path(folder)), SamplingRules.model_validate(json.loads(rules))
        images = torch.from_numpy(from_uint8(views))
        decoded = torch.cat(
            [bundle.image_tokenizer.decode(bundle.image_tokenizer.encode(part)) for part in images.split(16)]
        )
        floor = projected_frechet_distance(projection, real, judged_features(encoder, to_uint8(decoded.numpy())))
        began, distances = time.monotonic(), []
        for seed_set in range(options.seed_sets):
            made = generated(bundle, sampling, texts, seed_set * SEED_SET, name)
            distances.append(projected_frechet_distance(projection, real, judged_features(encoder, np.stack(made))))
        seconds = (time.monotonic() - began) / options.seed_sets / len(texts)
        rows.append(
            {"name": name, "rules": json.loads(rules), "floor": floor, "distances": distances, "s_an_image": seconds}
        )
        print(line(rows), flush=True)
        settings = {"images": len(real), "dims": NUM_DIMS, "judge": "efficientnet_lite2", "versions": versions()}
        write_json(options.out, {**settings, "variants": rows})


def generated(bundle: ModelBundle, rules: SamplingRules, texts: list[str], seed: int, name: str) -> list[np.ndarray]:
    """Draws one image (C, S, S) uint8 for each text; image i has the seed `seed + i`."""
    layout, made = bundle.layout, []
    prompts = [layout.prompt_ids(layout.text_ids(bundle.text_tokenizer, text)) for text in texts]
    for first in tqdm(range(0, len(prompts), BATCH), name, leave=False):
        batch = prompts[first : first + BATCH]
        seeds = list(range(seed + first, seed + first + len(batch)))
        codes = decode_image_tokens(bundle.model, layout, batch, rules, seeds)
        made += list(to_uint8(bundle.image_tokenizer.decode(codes).numpy()))
    return made


def line(rows: list[dict]) -> str:
    """The last variant's distance, its spread over sets of seeds and its ratio to the first one's."""
    row, first = rows[-1], rows[0]
    found = np.array(row["distances"])
    told = f"{row['name']}: {found.mean():.3f} (sd {found.std(ddof=1):.3f} over {len(found)} sets, floor {row['floor']:.3f})"
    told += f", {row['s_an_image']:.2f} s an image"
    if row is not first:
        less = reduction_interval(first["distances"], row["distances"])
        told += f"; {1 - less.reduction:.3f} [{1 - less.high:.3f}, {1 - less.low:.3f}] of the first"
    return told


if __name__ == "__main__":
    main()
