"""Measures the quality checks: what they refuse among real images, and which made-up faults they find.

    ARRA_MED_DATA=... python benchmarks/quality.py            prints the tables of docs/quality.md
    ARRA_MED_DATA=... python benchmarks/quality.py --fit      prints the numbers of arra_med/imaging/chest_likeness.py

Real images are all those of the data collection. Faults are made of every third chest X-ray that the fit has not seen, and
of every tenth fundus photograph. Refused images are listed by their public data set names, to be looked at.
"""

import argparse
import csv
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from arra_med.imaging.chest_likeness import folded, thumbnail
from arra_med.imaging.perceptual_hash import perceptual_hash
from arra_med.imaging.quality import QualityThresholds, quality_scores
from arra_med.imaging.view import CanonicalView, Modality, canonical_view, to_uint8

DEFAULTS = QualityThresholds()
ADVISED = {"cxr": {"wrong_body_part": 0.2}, "fundus": {"wrong_body_part": 0.4}}
"""For archives of frontal images and of colour photographs; these checks are off by default."""

MODALITIES: tuple[Modality, ...] = ("cxr", "fundus")
CHECKS = ("blank", "clipped", "extreme_aspect", "inverted", "wrong_body_part", "burned_in_text")
EVERY = {"cxr": 3, "fundus": 10}
TEXT = "DOE^JANE  F  047Y\nID 00482913  1957-03-12\nST. ELSEWHERE HOSPITAL"
TEXT_SIZES_PX = (8, 10, 12, 16, 20, 24, 32)
RIDGE = 10.0
SHARPEST = 8.0  # contrast of the window that makes an image clipped


def main() -> None:
    """Prints the tables, or the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="print the arrays of chest_likeness.py instead")
    options = parser.parse_args()
    data = Path(os.environ["ARRA_MED_DATA"])
    if options.fit:
        fit(data)
        return
    print("| images | n | " + " | ".join(CHECKS) + " | collimation_border (flag) |")
    print("|" + " --- |" * (len(CHECKS) + 3))
    refused = [line for modality in MODALITIES for line in false_refusals(data, modality)]
    print("\n".join(["", *refused, "", "| fault | n | found by | share found |", "| --- | --- | --- | --- |"]))
    for modality in MODALITIES:
        detections(data, modality)
    print("\n| bits that may differ | pairs | of the same picture |\n| --- | --- | --- |")
    near_duplicates(data)
    print()
    speed(data)


def is_fitted(row: dict[str, str]) -> bool:
    """Whether an image is one of those which the numbers of chest_likeness.py come from."""
    return row["source"].startswith("nih_") and row["split"] == "train" and row["redistributable"] == "yes"


def images(data: Path, modality: Modality) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """Yields the rows of the table and the pixels, float32 in [0, 1]."""
    with (data / modality / "studies.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    for row in rows:
        with Image.open(data / modality / row["path"]) as image:
            yield row, unit(image.convert("L" if modality == "cxr" else "RGB"))


def unit(image: Image.Image) -> np.ndarray:
    """Pixels of an 8-bit image as float32 in [0, 1]."""
    return np.asarray(image, dtype=np.float32) / 255


def threshold_of(check: str, modality: Modality) -> float:
    """The default threshold, or the advised one where the check is off by default."""
    default = getattr(DEFAULTS, check)
    return ADVISED[modality][check] if default is None else default


def failed(scores: dict[str, float], check: str, modality: Modality) -> bool:
    """Whether a check would refuse (or flag) an image."""
    return check in scores and scores[check] > threshold_of(check, modality)


def false_refusals(data: Path, modality: Modality) -> list[str]:
    """Prints a row for each source; returns what was refused, by check."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    names: dict[str, list[str]] = defaultdict(list)
    for row, pixels in images(data, modality):
        scores, source = quality_scores(pixels, modality), row["source"]
        counts[source]["n"] += 1
        for check in (*CHECKS, "collimation_border"):
            if failed(scores, check, modality):
                counts[source][check] += 1
                if check in CHECKS:
                    names[check].append(f"{row['image_id']} ({scores[check]:.2f})")
    for source, count in sorted(counts.items()):
        print(
            f"| {source} | {count['n']} | " + " | ".join(str(count[c]) for c in (*CHECKS, "collimation_border")) + " |"
        )
    return [f"- {check}: {', '.join(sorted(found))}" for check, found in names.items()]


def detections(data: Path, modality: Modality) -> None:
    """Prints the share of made-up faults that the check meant for them, and any check, finds."""
    rng = np.random.default_rng(0)
    faults: dict[str, tuple[str, Modality, Callable[[np.ndarray], np.ndarray]]] = {
        f"{modality}: flat, with noise of 1%": ("blank", modality, lambda p: flat(p, rng)),
        f"{modality}: saturated ({SHARPEST:.0f} times the contrast)": ("clipped", modality, sharpened),
        f"{modality}: four side by side": ("extreme_aspect", modality, lambda p: np.concatenate([p] * 4, axis=1)),
    }
    if modality == "cxr":
        faults["cxr: negative"] = ("inverted", "cxr", lambda p: 1 - p)
        for turns in (1, 2, 3):
            faults[f"cxr: turned by {90 * turns} degrees"] = (
                "wrong_body_part",
                "cxr",
                lambda p, k=turns: np.rot90(p, k),
            )
        faults["cxr read as fundus"] = ("wrong_body_part", "fundus", lambda p: np.repeat(p[..., None], 3, axis=2))
        for size in TEXT_SIZES_PX:
            name = f"cxr: three lines of text, {size} px high of about 288, in a corner"
            faults[name] = ("burned_in_text", "cxr", lambda p, s=size: written(p, TEXT, s))
            name = f"cxr: three lines of text, {size} px high, at any height, over bright tissue too"
            faults[name] = ("burned_in_text", "cxr", lambda p, s=size: written(p, TEXT, s, rng.uniform(0, 0.7)))
        for size in TEXT_SIZES_PX[::3]:
            name = f"cxr: the marker PORTABLE L, {size} px (should not be found)"
            faults[name] = ("burned_in_text", "cxr", lambda p, s=size: written(p, "PORTABLE L", s))
    else:
        faults["fundus read as cxr"] = (
            "wrong_body_part",
            "cxr",
            lambda p: unit(Image.fromarray(to_uint8(p)).convert("L")),
        )
    found: dict[str, int] = defaultdict(int)
    num_images = 0
    unseen = (pixels for row, pixels in images(data, modality) if not is_fitted(row))
    for pixels in itertools.islice(unseen, 0, None, EVERY[modality]):
        num_images += 1
        for name, (check, read_as, make) in faults.items():
            found[name] += failed(quality_scores(np.ascontiguousarray(make(pixels)), read_as), check, read_as)
    for name, (check, read_as, _) in faults.items():
        print(f"| {name} | {num_images} | {check} > {threshold_of(check, read_as)} | {found[name] / num_images:.1%} |")


def flat(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mean grey with a little noise."""
    return np.clip(pixels.mean() + rng.normal(0, 0.01, pixels.shape), 0, 1).astype(np.float32)


def sharpened(pixels: np.ndarray) -> np.ndarray:
    """A window so narrow that little but black and white is left."""
    return np.clip((pixels - np.median(pixels)) * SHARPEST + 0.5, 0, 1).astype(np.float32)


def written(pixels: np.ndarray, text: str, size_px: int, height: float = 0.0) -> np.ndarray:
    """White text at the left side, at a height in fractions of the image from its top."""
    image = Image.fromarray(to_uint8(pixels))
    top = min(4 + round(height * image.height), max(4, image.height - 4 * size_px))
    ImageDraw.Draw(image).multiline_text((4, top), text, fill=255, font=ImageFont.load_default(size_px))
    return unit(image)


def near_duplicates(data: Path) -> None:
    """Prints how many pairs of chest X-rays are near each other, and how many of them show the same picture.

    The same picture: thumbnails of 32 x 32 that correlate by more than 0.99.
    """
    spec = CanonicalView(modality="cxr", size_px=128)
    hashes, thumbnails = [], []
    for _, pixels in images(data, "cxr"):
        view = to_uint8(canonical_view(pixels, spec))
        hashes.append(perceptual_hash(view))
        small = np.asarray(Image.fromarray(view[0]).resize((32, 32), Image.Resampling.BOX), dtype=np.float32).ravel()
        thumbnails.append((small - small.mean()) / max(float(np.linalg.norm(small - small.mean())), 1e-6))
    values, pictures = np.asarray(hashes, dtype=np.uint64), np.asarray(thumbnails)
    distances = np.bitwise_count(values[:, None] ^ values)
    first, second = np.nonzero(np.triu(distances <= 8, k=1))
    correlations = (pictures[first] * pictures[second]).sum(axis=1)
    for bits in range(9):
        near = distances[first, second] <= bits
        print(f"| {bits} | {near.sum()} | {(near & (correlations > 0.99)).sum()} |")


def speed(data: Path) -> None:
    """Prints the processor time of all scores of a 2,048 x 2,048 image, the fastest of 20 runs."""
    for modality in MODALITIES:
        _, small = next(images(data, modality))
        pixels = unit(Image.fromarray(to_uint8(small)).resize((2048, 2048), Image.Resampling.BICUBIC))
        seconds = []
        for _ in range(20):
            start = time.process_time()
            quality_scores(pixels, modality)
            seconds.append(time.process_time() - start)
        print(f"All scores of a 2,048 x 2,048 {modality} image: {min(seconds) * 1e3:.1f} ms of processor time.")


def fit(data: Path) -> None:
    """Prints the mean chest, the weights and the bias, from the training images of the NIH sources."""
    chests = np.array([thumbnail(pixels) for row, pixels in images(data, "cxr") if is_fitted(row)])
    mean = chests.mean(axis=0)
    mean = (mean + mean[:, ::-1]) / 2
    turned = [np.rot90(c, k, (1, 2)) for c in (chests, chests[:, :, ::-1]) for k in (1, 2, 3)]
    others = np.concatenate([*turned, -chests])
    inputs = np.concatenate([folded(chests).reshape(len(chests), -1), folded(others).reshape(len(others), -1)])
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    targets = np.concatenate([np.ones(len(chests)), -np.ones(len(others))])
    weighted = inputs * np.concatenate([np.ones(len(chests)), np.full(len(others), len(chests) / len(others))])[:, None]
    solution = np.linalg.solve(weighted.T @ inputs + RIDGE * np.eye(inputs.shape[1]), weighted.T @ targets)
    print(f"{len(chests)} images")
    print("MEAN_CHEST", np.round((mean / mean.std())[:, : mean.shape[1] // 2], 2).tolist())
    print("WEIGHTS", np.round(solution[:-1].reshape(mean.shape[0], -1), 3).tolist())
    print("BIAS", round(float(solution[-1]), 3))


if __name__ == "__main__":
    main()
