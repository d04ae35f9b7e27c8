r"""Measures the invisible watermark: false alarms on real images, detection and visibility on generated ones.

    python benchmarks/watermark.py --studies runs/mini_cxr/studies --studies runs/mini_fundus/studies \
        --bundle arra_med/bundles/mini-cxr --bundle arra_med/bundles/mini-fundus

Negatives are real images: each as it is, and in two worn crops with other brightness and contrast, half of them
mirrored, resized and compressed. Positives are generated with both marks, at the bundle's size and enlarged, then
compressed and resized in either order with four filters. Prints two tables, and as the last line the same as JSON.
"""

import argparse
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import stats

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.evaluate.proportions import Rate
from arra_med.generate.marks import draw_visible_mark
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.generate.watermark import MIN_DETECT_PX, THRESHOLD, embed_watermark, watermark_statistic
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import Modality
from arra_med.tokens.fidelity import multi_scale_ssim, psnr_db

SEED = 29
NUM_CROPS = 2
SIZES_PX = (256, 512, 1024)
FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
REPORTS: dict[Modality, tuple[str, ...]] = {
    "cxr": (
        "PA view. Pleural effusion.",
        "AP view. Cardiomegaly.",
        "PA view. Normal.",
        "Pneumothorax.",
        "Child. Pneumonia.",
    ),
    "fundus": ("Right eye. Glaucoma.", "Left eye. Diabetic retinopathy.", "Normal fundus.", "Cataract.", "Myopia."),
}


def main() -> None:
    """Prints the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, action="append", required=True)
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--num-generated", type=int, default=224, help="images of each bundle")
    parser.add_argument("--num-enlarged", type=int, default=16, help="of them enlarged to each size")
    options = parser.parse_args()
    negatives = {folder.parent.name: _negatives(StudySet.open(folder)) for folder in options.studies}
    print("| real images | looked at | mean | sd | highest | found | share, 95% interval |\n" + "| --- " * 7 + "|")
    told: dict[str, Any] = {"threshold": THRESHOLD, "negatives": {}, "positives": {}}
    for name, values in {**negatives, "all": np.concatenate(list(negatives.values()))}.items():
        told["negatives"][name] = row = _summary(values)
        low, high = row["interval"]
        print(
            f"| {name} | {row['total']:,} | {values.mean():.3f} | {values.std():.3f} | {values.max():.2f} | "
            f"{row['count']} | {low:.1e} to {high:.1e} |",
            flush=True,
        )
    print("| generated images | number | found | share, 95% interval | lowest | PSNR, dB (lowest) | MS-SSIM (lowest) |")
    print("| --- " * 7 + "|")
    for folder in options.bundle:
        generated = _generated(folder, options.num_generated)
        size_px = generated[0].shape[0]
        sets = {size_px: generated}
        sets |= {side: [_enlarged(p, side) for p in generated[: options.num_enlarged]] for side in SIZES_PX}
        for side, pictures in sets.items():
            told["positives"][f"{folder.name}, {side} px"] = row = _positives(pictures)
            low, high = row["interval"]
            print(
                f"| {folder.name}, {side} px | {row['total']} | {row['count']} | {low:.4f} to {high:.4f} | "
                f"{row['lowest']:.2f} | {row['psnr'][0]:.1f} ({row['psnr'][1]:.1f}) | "
                f"{row['ms_ssim'][0]:.4f} ({row['ms_ssim'][1]:.4f}) |",
                flush=True,
            )
    print(json.dumps(told))


def _negatives(studies: StudySet) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    found = []
    with progress_bar("real images", len(studies), True) as advance:
        for row in range(len(studies)):
            view = studies.view(row)
            picture = view[0] if len(view) == 1 else view.transpose(1, 2, 0)
            shown = [picture, *(_worn_crop(picture, rng) for _ in range(NUM_CROPS))]
            found += [watermark_statistic(one) for one in shown]
            advance(1)
    return np.array(found)


def _worn_crop(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = picture.shape[0]
    side = int(rng.integers(int(0.6 * size), size))
    top, left = rng.integers(0, size - side + 1, size=2)
    crop = picture[top : top + side, left : left + side]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    crop = np.clip(crop * rng.uniform(0.7, 1.3) + rng.uniform(-25, 25), 0, 255).astype(np.uint8)
    return _jpeg(
        _resized(crop, int(rng.integers(MIN_DETECT_PX, 2 * size)), FILTERS[rng.integers(len(FILTERS))]),
        int(rng.integers(60, 96)),
    )


def _generated(folder: Path, num_images: int) -> list[np.ndarray]:
    session = ReportToImage(ModelBundle.load(folder))
    modality = session.bundle.info.modality
    pictures: list[np.ndarray] = []
    with progress_bar(f"drawing with {folder.name}", num_images, True) as advance:
        while len(pictures) < num_images:
            report = REPORTS[modality][len(pictures) // 8 % len(REPORTS[modality])]
            request = GenerationRequest(report=report, modality=modality, num_images=8, seed=len(pictures))
            pictures += list(session.generate(request).images)
            advance(8)
    return pictures[:num_images]


def _positives(pictures: list[np.ndarray]) -> dict[str, Any]:
    """Looks for the mark in each picture worn in eight ways; a picture counts as found if all eight are."""
    lowest, psnr, ms_ssim = [], [], []
    for picture in pictures:
        drawn = draw_visible_mark(picture)
        marked = embed_watermark(drawn)
        if marked is None:
            lowest.append(-np.inf)
            continue
        lowest.append(min(watermark_statistic(worn) for worn in _worn(marked)))
        first, second = (_tensor(shown) for shown in (drawn, marked))
        psnr.append(float(psnr_db(first, second)))
        ms_ssim.append(float(multi_scale_ssim(first, second)))
    rate = Rate.of(np.array(lowest) >= THRESHOLD)
    return {
        **dataclasses.asdict(rate),
        "lowest": float(min(lowest)),
        "mean": float(np.mean(lowest)),
        "psnr": (float(np.mean(psnr)), min(psnr)),
        "ms_ssim": (float(np.mean(ms_ssim)), min(ms_ssim)),
    }


def _worn(picture: np.ndarray) -> Iterator[np.ndarray]:
    side = round(0.75 * picture.shape[0])
    for method in FILTERS:
        yield _jpeg(_resized(picture, side, method), 80)
        yield _resized(_jpeg(picture, 80), side, method)


def _summary(values: np.ndarray) -> dict[str, Any]:
    return {
        **dataclasses.asdict(Rate.of(values >= THRESHOLD)),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "highest": float(values.max()),
        "excess_kurtosis": float(stats.kurtosis(values)),
        "share_above": {str(level): float((values >= level).mean()) for level in (2, 3, 3.72)},
        "normal_tail": {str(level): float(stats.norm.sf(level)) for level in (2, 3, 3.72, THRESHOLD)},
    }


def _tensor(picture: np.ndarray) -> torch.Tensor:
    channels_last = picture[..., None] if picture.ndim == 2 else picture
    return torch.from_numpy(channels_last.transpose(2, 0, 1)[None] / np.float32(255))


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    return _resized(picture, side, Image.Resampling.BICUBIC)


def _resized(picture: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), method))


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return np.asarray(image)


if __name__ == "__main__":
    main()
