"""How many of a model's images the quality gate rejects, how many real ones, and how many planted failures.

    python benchmarks/quality_gate.py --studies runs/mini_cxr/studies --out runs/quality_gate

Draws 64 fixed prompts with seeds 0 to 7 (kept in --out, so that a stopped run goes on), and judges them with the
bundle's reference, beside the study set's test split. The prompts are wordings of the
bank that no training text held, every finding in turn: rare findings weigh more than in any archive. The last line is
the same as JSON. Rates over prompts carry Wilson's interval at the effective number of answers. --copies plants copies
of training images as the bundle's tokenizer shows them, and looks for near copies among them, among held-out images of
patients that the threshold was not read off, and among the drawn ones.
"""

import argparse
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.evaluate.calibration import held_out_rows
from arra_med.evaluate.check_reference import CHECK_FILE
from arra_med.evaluate.copies import FALSE_ALARM_RATE, num_calibration_images
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.held_out import held_out_studies, order_by_hash, real_images, trained_on
from arra_med.evaluate.novelty import passing_threshold
from arra_med.evaluate.planted import PLANTINGS
from arra_med.evaluate.proportions import Rate, share_interval
from arra_med.evaluate.quality_gate import open_quality_gate
from arra_med.generate.checking import ImageVerdict
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import ReportToImage
from arra_med.imaging.view import as_picture
from arra_med.models.bundle import ModelBundle, read_bundle_info
from arra_med.models.bundled import find_bundle
from arra_med.records.study import Modality
from arra_med.records.wording import NORMAL, held_out_paraphrases, wording_bank
from arra_med.runs import atomic_file

NUM_PROMPTS, NUM_SEEDS = 64, 8
PROMPTS_AT_ONCE = 4
GOAL = 0.05


def fixed_requests(modality: Modality, num_prompts: int = NUM_PROMPTS) -> list[GenerationRequest]:
    """The first wordings of every finding, then the second ones, and so on, with view or eye in turn."""
    findings = [NORMAL, *wording_bank(modality).findings]
    rounds = itertools.zip_longest(*(held_out_paraphrases(finding, modality) for finding in findings))
    reports = [report for one in rounds for report in one if report is not None][:num_prompts]
    sides: list[dict[str, Any]] = (
        [{"view": "PA"}, {"view": "AP"}] if modality == "cxr" else [{"laterality": "L"}, {"laterality": "R"}]
    )
    return [
        GenerationRequest(report=report, modality=modality, num_images=NUM_SEEDS, **sides[number % 2])
        for number, report in enumerate(reports)
    ]


def drawn(requests: list[GenerationRequest], bundle: Path, out: Path) -> Iterator[np.ndarray]:
    """Yields the images of each request, several requests in one batch; those that were drawn before are read."""
    paths = [out / f"{number:02d}.npy" for number in range(len(requests))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    session = ReportToImage(ModelBundle.load(bundle)) if missing else None
    with progress_bar("drawing", len(requests), True) as advance:
        advance(len(requests) - len(missing))
        for start in range(0, len(missing), PROMPTS_AT_ONCE):
            chosen = missing[start : start + PROMPTS_AT_ONCE]
            assert session is not None
            codes = session.draw_codes([one for number in chosen for one in _one_by_one(requests[number])])
            for number, its_codes in zip(chosen, codes.split(NUM_SEEDS), strict=True):
                with atomic_file(paths[number]) as partial, partial.open("wb") as stream:
                    np.save(stream, session.finish(requests[number], its_codes).images)
            advance(len(chosen))
    for path in paths:
        yield np.load(path, allow_pickle=False)


def _one_by_one(request: GenerationRequest) -> list[GenerationRequest]:
    """A request for each image."""
    return [request.model_copy(update={"num_images": 1, "seed": request.seed + one}) for one in range(NUM_SEEDS)]


def planted_failures(views: np.ndarray, foreign: np.ndarray | None) -> dict[str, np.ndarray]:
    """Pictures that must not pass, made of real views uint8 (n, C, S, S)."""
    rng = np.random.default_rng(0)
    half, shape = views.shape[-1] // 2, views.shape
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), (0, 0, shape[-1] / 20, shape[-1] / 20))
    levels = np.linspace(0, 255, len(views)).astype(np.uint8)[:, None, None, None]
    grey_below = views.copy()
    grey_below[:, :, half:] = 128
    glued = views.copy()
    glued[:, :, half:] = np.roll(views, 1, axis=0)[:, :, half:]
    quarter = slice(half // 2, half // 2 + half)
    made = {
        "uniform": np.broadcast_to(levels, shape).copy(),
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "smooth noise": (smooth / smooth.std() * 50 + 128).clip(0, 255).astype(np.uint8),
        "upside down": views[:, :, ::-1],
        "turned by 90 degrees": np.rot90(views, axes=(2, 3)),
        "negative": 255 - views,
        "upper and lower half exchanged": np.roll(views, half, axis=2),
        "left and right half exchanged": np.roll(views, half, axis=3),
        "16 tiles shuffled": np.stack([_shuffled(view, rng) for view in views]),
        "lower half grey": grey_below,
        "central quarter enlarged": views[:, :, quarter, quarter].repeat(2, axis=2).repeat(2, axis=3),
        "lower half of another patient": glued,
    }
    return made if foreign is None else {"another modality": foreign, **made}


def near_copies(
    studies: StudySet, bundle: Path, reference: Path, drawings: list[np.ndarray], num_planted: int
) -> dict[str, dict[str, Any]]:
    """Which images the gate takes for near copies of training images, by what they are."""
    opened = ModelBundle.load(bundle)
    gate = open_quality_gate(reference, opened.info, training=studies.folder, progress=True)
    trained, rng = trained_on(opened.info), np.random.default_rng(0)
    rows = held_out_rows(studies.records(), trained, studies.duplicates, num_calibration_images(FALSE_ALARM_RATE))
    chosen = rng.choice(rows.train, size=num_planted, replace=False)
    views = {"held-out images of other patients": [studies.view(row) for row in rows.reported]}
    for kind, plant in PLANTINGS.items():
        views[f"planted: {kind}"] = list(
            reconstruct_images(opened, np.stack([plant(studies.view(int(row)), rng) for row in chosen]))
        )
    pictures = {name: [as_picture(view) for view in some] for name, some in views.items()}
    pictures["generated"] = [image for images in drawings for image in images]
    told = {}
    for name, some in pictures.items():
        with progress_bar(f"near copies, {name}", len(some), True) as advance:
            verdicts = []
            for picture in some:
                verdicts += gate.judge(picture[None])
                advance(1)
        found = np.array(["near_copy" in verdict.reasons for verdict in verdicts])
        likeness = np.quantile([verdict.scores["near_copy"] for verdict in verdicts], [0, 0.5, 1])
        told[name] = {**dataclasses.asdict(Rate.of(found)), "lowest_median_highest": likeness.round(4).tolist()}
    return told


def main() -> None:
    """Prints the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--bundle", default="mini", help="a folder, or the name of a bundled model")
    parser.add_argument("--modality", default="cxr", choices=["cxr", "fundus"])
    parser.add_argument("--reference", type=Path, help="by default the bundle's own")
    parser.add_argument("--out", type=Path, required=True, help="keeps the drawn images")
    parser.add_argument("--prompts", type=int, default=NUM_PROMPTS)
    parser.add_argument("--planted", type=int, default=60, help="images of each planted failure")
    parser.add_argument("--copies", type=int, default=0, help="planted copies of each kind; 0: nobody looks for copies")
    parser.add_argument("--other-modality", type=Path, help="a study set whose test images must not pass")
    options = parser.parse_args()
    bundle = find_bundle(options.bundle, options.modality)
    info = read_bundle_info(bundle)
    gate = open_quality_gate(options.reference or bundle / CHECK_FILE, info)
    studies = StudySet.open(options.studies)
    held_out = held_out_studies(studies, "test")
    options.out.mkdir(parents=True, exist_ok=True)

    def judged(views: np.ndarray, what: str) -> list[ImageVerdict]:
        found = []
        with progress_bar(what, len(views), True) as advance:
            for view in views:
                found += gate.judge(as_picture(view)[None])
                advance(1)
        return found

    requests = fixed_requests(info.modality, options.prompts)
    drawings = list(drawn(requests, bundle, options.out))
    by_prompt = [gate.judge(images, request) for images, request in zip(drawings, requests, strict=True)]
    rejected = [sum(not verdict.passed for verdict in verdicts) for verdicts in by_prompt]
    share = share_interval(rejected, [len(verdicts) for verdicts in by_prompt])
    generated = [verdict for verdicts in by_prompt for verdict in verdicts]
    real = judged(held_out.views, "real test images")
    other = (
        None if options.other_modality is None else _foreign(options.other_modality, held_out.views, options.planted)
    )
    faults = planted_failures(held_out.views[: options.planted], other)
    found = {name: judged(views, name) for name, views in faults.items()}
    limit = passing_threshold(np.array([verdict.scores["novelty"] for verdict in real]), gate.reference.info.pass_rate)
    at_limit = [sum(verdict.scores["novelty"] > limit for verdict in verdicts) for verdicts in by_prompt]
    exact = share_interval(at_limit, [len(verdicts) for verdicts in by_prompt])
    rows = {
        "real images, test split": _row(real),
        "generated": {**_row(generated), "interval": (share.low, share.high), "method": share.method},
        **{f"planted: {name}": _row(verdicts) for name, verdicts in found.items()},
    }
    print("| images | n | rejected | 95% interval | why |\n| --- | --- | --- | --- | --- |")
    for name, row in rows.items():
        low, high = row["interval"]
        why = ", ".join(f"{count} {reason}" for reason, count in row["reasons"].items())
        print(f"| {name} | {row['total']} | {row['rate']:.1%} | {low:.1%} to {high:.1%} | {why} |")
    seen = "also" if "test" in gate.reference.info.held_out_splits else "not"
    print(
        f"The reference's thresholds were {seen} read off the test split. At novelty {limit:.3f}, which "
        f"{gate.reference.info.pass_rate:.0%} of the test images pass, {exact.estimate:.1%} ({exact.low:.1%} to "
        f"{exact.high:.1%}) of the generated ones are rejected as novel."
    )
    copies = {}
    if options.copies:
        copies = near_copies(studies, bundle, options.reference or bundle / CHECK_FILE, drawings, options.copies)
        print("| images | n | near copies | 95% interval |\n| --- | --- | --- | --- |")
        for name, one in copies.items():
            low, high = one["interval"]
            print(f"| {name} | {one['total']} | {one['rate']:.1%} | {low:.1%} to {high:.1%} |")
    print(
        json.dumps(
            {
                "bundle": info.name,
                "gate": gate.identity,
                "near_copies": copies,
                "rejection_rate_generated": share.estimate,
                "novel_at_test_threshold": dataclasses.asdict(exact) | {"threshold": limit},
                "goal": GOAL,
                "goal_met": share.estimate <= GOAL,
                "rows": rows,
            }
        )
    )


def _row(verdicts: list[ImageVerdict]) -> dict[str, Any]:
    rate = dataclasses.asdict(Rate.of(np.array([not verdict.passed for verdict in verdicts])))
    return {**rate, "reasons": dict(Counter(reason for verdict in verdicts for reason in verdict.reasons))}


def _shuffled(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = view.shape[-1] // 4
    tiles = [
        view[:, row : row + side, at : at + side] for row in range(0, 4 * side, side) for at in range(0, 4 * side, side)
    ]
    order = rng.permutation(16)
    rows = [np.concatenate([tiles[order[4 * row + column]] for column in range(4)], axis=2) for row in range(4)]
    return np.concatenate(rows, axis=1)


def _foreign(folder: Path, views: np.ndarray, num: int) -> np.ndarray:
    """Test images of another study set, with as many channels as `views`."""
    others = StudySet.open(folder).select(split="test")
    images = real_images(others, order_by_hash(others.image_ids)[:num]).views
    if images.shape[-1] != views.shape[-1]:
        raise SystemExit(f"{folder}: its images have {images.shape[-1]} px, the others {views.shape[-1]}")
    if images.shape[1] == views.shape[1]:
        return images
    return images.mean(axis=1, keepdims=True).astype(np.uint8) if views.shape[1] == 1 else images.repeat(3, axis=1)


if __name__ == "__main__":
    main()
