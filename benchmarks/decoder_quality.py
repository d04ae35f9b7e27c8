"""What rounded weights cost: int8 and bfloat16 against float32, token by token and as pictures.

    python benchmarks/decoder_quality.py --studies runs/mini_cxr/studies --out runs/decoder_quality
    python benchmarks/decoder_quality.py --modality fundus --studies runs/mini_fundus/studies --out runs/decoder_quality_fundus

Tokens: 64 fixed prompts, the codes that float32 draws for each with seed 0, and at each of them the Kullback-Leibler
divergence, in nats, from what float32 would draw from to what the other would, given the same codes before; without
guidance and with guidance 3. The mean's 95% interval is Student's over prompts, whose positions are not independent.

Pictures: the projected Fréchet distance (64 principal components of real training images, EfficientNet-Lite2, which is no
teacher of a bundled model) between n float32 images and n of the other with other seeds, beside the floor: float32 with
those other seeds. The difference of both has the 95% interval of a jackknife over prompts.

`cpu` keeps a bundle's weights as they are stored, in bfloat16, and computes in float32; `bfloat16 arithmetic` is the
transformers backend with the model in bfloat16. Drawn images stay in --out, so that a stopped run goes on. The last
line is one JSON object.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_gate import fixed_requests

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.frechet import FeatureProjection, projected_frechet_distance
from arra_med.evaluate.held_out import order_by_hash, real_images
from arra_med.evaluate.intervals import t_interval
from arra_med.evaluate.resampling import jackknife_interval
from arra_med.generate.cpu_backend import CpuBackend
from arra_med.generate.request import GenerationRequest
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import ReportToImage
from arra_med.generate.transformers_backend import ImageHead
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import find_bundle
from arra_med.runs import atomic_file

BATCH, TRAINING_IMAGES = 8, 1000
SCALES = (1.0, 3.0)
CPU, INT8, BFLOAT16 = "cpu", "cpu-int8", "bfloat16 arithmetic"


class Model:
    """A bundle, opened for one way of decoding."""

    def __init__(self, folder: Path, way: str) -> None:
        self.bundle = ModelBundle.load(folder)
        if way == BFLOAT16:
            self.bundle.model.bfloat16()
        self.session = ReportToImage(self.bundle, backend="transformers" if way == BFLOAT16 else way)

    def prompt_ids(self, request: GenerationRequest) -> list[int]:
        """What the model reads."""
        return self.session.reader.token_ids(self.session.prompt(request))

    def codes(self, requests: list[GenerationRequest]) -> torch.Tensor:
        """Drawn with each request's seed, int64 (n, h, w)."""
        parts = [requests[first : first + BATCH] for first in range(0, len(requests), BATCH)]
        found = []
        with progress_bar("drawing", len(requests), True) as advance:
            for part in parts:
                found.append(self.session.draw_codes(part))
                advance(len(part))
        return torch.cat(found)

    def forced_logits(self, prompt: list[int], codes: torch.Tensor) -> torch.Tensor:
        """Logits float32 (2, N, V) at each code of an image, with the prompt and without one."""
        layout, backend = self.bundle.layout, self.session.backend
        if not isinstance(backend, CpuBackend):
            return torch.stack(
                [forward_logits(self.bundle, ids, codes) for ids in (prompt, list(layout.unconditional_ids))]
            )
        rows, found = backend.start([prompt], SamplingRules(guidance_scale=3.0)), []
        nothing = torch.zeros(1, 1, layout.vocabulary.codebook_size)
        for code in codes.flatten():
            rows.next_row(nothing, code.view(1, 1))
            found.append(torch.from_numpy(rows._state.logits.copy()))
        return torch.stack(found, dim=1)[:, :, : layout.vocabulary.codebook_size]


@torch.no_grad()
def forward_logits(bundle: ModelBundle, prompt: list[int], codes: torch.Tensor) -> torch.Tensor:
    """Logits float32 (N, V) at each code, by one forward pass of the model's own code."""
    layout = bundle.layout
    ids = [*prompt, *layout.vocabulary.image_ids(codes).flatten().tolist()[:-1]]
    hidden = bundle.model.base_model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    return ImageHead(bundle.model, layout)(hidden[len(prompt) - 1 :]).float()


def divergences(reference: torch.Tensor, other: torch.Tensor, scale: float) -> np.ndarray:
    """Kullback-Leibler divergence float64 (N,) of the guided distributions, logits (2, N, V)."""
    p, q = ((plain + scale * (told - plain)).double().log_softmax(-1) for told, plain in (reference, other))
    return (p.exp() * (p - q)).sum(-1).numpy()


def token_figures(folder: Path, requests: list[GenerationRequest]) -> dict[str, Any]:
    """Divergences of each way from float32, by guidance."""
    reference = ModelBundle.load(folder)
    ways = {way: Model(folder, way) for way in (CPU, INT8, BFLOAT16)}
    codes = ways[CPU].codes(requests)
    found: dict[str, dict[float, list[np.ndarray]]] = {way: {scale: [] for scale in SCALES} for way in ways}
    entropies: dict[float, list[float]] = {scale: [] for scale in SCALES}
    with progress_bar("reading the same codes", len(requests), True) as advance:
        for request, its_codes in zip(requests, codes, strict=True):
            prompt = ways[CPU].prompt_ids(request)
            exact = torch.stack(
                [
                    forward_logits(reference, ids, its_codes)
                    for ids in (prompt, list(reference.layout.unconditional_ids))
                ]
            )
            for scale in SCALES:
                drawn_from = (exact[1] + scale * (exact[0] - exact[1])).double().log_softmax(-1)
                entropies[scale].append(float(-(drawn_from.exp() * drawn_from).sum(-1).mean()))
            for way, model in ways.items():
                logits = model.forced_logits(prompt, its_codes)
                for scale in SCALES:
                    found[way][scale].append(divergences(exact, logits, scale))
            advance(1)
    told: dict[str, Any] = {"entropy": {scale: float(np.mean(values)) for scale, values in entropies.items()}}
    for way, by_scale in found.items():
        for scale, values in by_scale.items():
            mean = t_interval(np.array([one.mean() for one in values]))
            told[f"{way}, guidance {scale:g}"] = {
                **{name: getattr(mean, name) for name in ("estimate", "low", "high")},
                "largest_of_1_percent": float(np.quantile(np.concatenate(values), 0.99)),
            }
    return told


def drawn(folder: Path, way: str, requests: list[GenerationRequest], path: Path) -> np.ndarray:
    """Images uint8 (n, C, S, S) of the requests; kept in a file."""
    if not path.exists():
        model = Model(folder, way)
        codes = model.codes(requests)
        images = [
            model.session.finish(request, one[None]).images[0] for request, one in zip(requests, codes, strict=True)
        ]
        with atomic_file(path) as partial, partial.open("wb") as stream:
            np.save(stream, np.stack(images))
    images = np.load(path, allow_pickle=False)
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def picture_figures(
    folder: Path, requests: list[GenerationRequest], num_seeds: int, studies: Path, out: Path
) -> dict[str, Any]:
    """Fréchet distances of each way from float32, the floor, and how far a way lies above it."""

    def seeded(first: int) -> list[GenerationRequest]:
        return [
            request.model_copy(update={"num_images": 1, "seed": first + number})
            for request in requests
            for number in range(num_seeds)
        ]

    out.mkdir(parents=True, exist_ok=True)
    sets = {"reference": drawn(folder, CPU, seeded(0), out / "reference.npy")}
    for way in (CPU, INT8, BFLOAT16):
        sets[way] = drawn(folder, way, seeded(1000), out / f"{way.replace(' ', '_')}.npy")
    judge = load_encoder("efficientnet_lite2")
    training = StudySet.open(studies).select(split="train")
    real = real_images(training, order_by_hash(training.image_ids)[:TRAINING_IMAGES]).views
    projection = FeatureProjection.fit(judged_features(judge, real, name="describing real images"))
    flat = {name: judged_features(judge, images, name=f"describing {name}") for name, images in sets.items()}
    prompts = [str(number) for number in range(len(requests)) for _ in range(num_seeds)]

    def distance(way: str, rows: np.ndarray) -> float:
        return projected_frechet_distance(projection, flat["reference"][rows], flat[way][rows])

    everything = np.arange(len(prompts))
    told: dict[str, Any] = {
        "images_a_side": len(prompts),
        "dimensions": projection.num_dims,
        "floor": distance(CPU, everything),
    }
    for way in (INT8, BFLOAT16):
        above = jackknife_interval(lambda rows, way=way: distance(way, rows) - distance(CPU, rows), prompts)
        told[way] = {"distance": distance(way, everything), "above_floor": dataclasses.asdict(above)}
        told[way]["images_equal_to_float32"] = int((sets[way] == sets[CPU]).all(axis=(1, 2, 3)).sum())
    told["real images"] = projected_frechet_distance(
        projection, judged_features(judge, real[: len(prompts)]), flat["reference"][: len(real)]
    )
    return told


def main() -> None:
    """Prints the figures and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--bundle", default="mini", help="a folder, or the bundled model")
    parser.add_argument("--modality", default="cxr", choices=["cxr", "fundus"])
    parser.add_argument("--out", type=Path, required=True, help="keeps the drawn images")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=4, help="images of each prompt")
    options = parser.parse_args()
    folder = find_bundle(options.bundle, options.modality)
    requests = [
        request.model_copy(update={"num_images": 1}) for request in fixed_requests(options.modality, options.prompts)
    ]
    tokens = token_figures(folder, requests)
    for name, figures in tokens.items():
        print(name, figures)
    pictures = picture_figures(folder, requests, options.seeds, options.studies, options.out)
    for name, figures in pictures.items():
        print(name, figures)
    print(json.dumps({"bundle": folder.name, "prompts": len(requests), "tokens": tokens, "pictures": pictures}))


if __name__ == "__main__":
    main()
