"""Measures decode + canonical view beside bare pydicom and MONAI, in interleaved rounds of one process and one thread.

    python benchmarks/ingest.py --rounds 7

The files are made here: chest-like gradients with noise, 2048 x 2048, 12 of 16 bits, with a window. Beside
`load_view` and `read_study_view` (which adds the checks of quality) stand (a) the bare decoder of pydicom and one
antialiased bicubic resize, without rescale, window or polarity (for JPEG 2000 also with the codec that the package
prefers to pydicom's first choice), and (b) MONAI's `LoadImaged` with its `PydicomReader`, the window and `Resized`.
Each ratio is that of one round, so that a busy machine slows both of its sides. JPEG lossless needs DCMTK's `dcmcjpeg`.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import PydicomReader
from monai.transforms import Compose, LoadImaged, Resized, ScaleIntensityRanged
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import pixel_array
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from arra_med.imaging.read import load_view, read_study_view
from arra_med.imaging.view import CanonicalView

SPEC = CanonicalView(modality="cxr")
_SIDE_PX, _BITS = 2048, 12
_CENTRE, _WIDTH = 2048, 3600
# The linear function of PS3.3 C.11.2.1.2 as a range: what lies below and above is black and white.
_LOW, _HIGH = _CENTRE - 0.5 - (_WIDTH - 1) / 2, _CENTRE - 0.5 + (_WIDTH - 1) / 2
_MAX_DIFFERENCE = 1.0  # grey levels of 255 by which (b) may differ and still count as the same work


def made_pixels(seed: int) -> np.ndarray:
    """Returns two dark lungs in a bright body with detector noise, uint16 (2048, 2048) of 12 bits."""
    y, x = np.mgrid[-1 : 1 : _SIDE_PX * 1j, -1 : 1 : _SIDE_PX * 1j]
    body = 3400 * np.exp(-(x**2 + 0.4 * y**2))
    lungs = sum(1500 * np.exp(-(((x - side) / 0.25) ** 2 + (y / 0.5) ** 2)) for side in (-0.4, 0.4))
    noise = np.random.default_rng(seed).normal(0, 12, (_SIDE_PX, _SIDE_PX))
    return np.clip(body - lungs + noise + 200, 0, 2**_BITS - 1).astype(np.uint16)


def made_files(folder: Path, num_files: int) -> dict[str, list[Path]]:
    """Writes the files of each class; returns their paths."""
    files: dict[str, list[Path]] = {"uncompressed": [], "JPEG lossless": [], "JPEG 2000": []}
    for seed in range(num_files):
        plain = folder / f"{seed}_plain.dcm"
        header = _header(made_pixels(seed))
        header.save_as(plain, enforce_file_format=True)
        files["uncompressed"].append(plain)
        if shutil.which("dcmcjpeg"):
            packed = folder / f"{seed}_lossless.dcm"
            subprocess.run(["dcmcjpeg", "-q", "+e1", str(plain), str(packed)], check=True)
            files["JPEG lossless"].append(packed)
        header.compress(JPEG2000Lossless, generate_instance_uid=False)
        packed = folder / f"{seed}_j2k.dcm"
        header.save_as(packed, enforce_file_format=True)
        files["JPEG 2000"].append(packed)
    return {name: paths for name, paths in files.items() if paths}


def _header(pixels: np.ndarray) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    header.Modality, header.PresentationIntentType = "DX", "FOR PRESENTATION"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, _BITS, _BITS - 1, 0
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, 0, "US"
    header.WindowCenter, header.WindowWidth = _CENTRE, _WIDTH
    header.PresentationLUTShape = "IDENTITY"
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    return header


def bare(path: Path, codec: str = "") -> np.ndarray:
    """Decodes with pydicom and resizes; what a window would do is left out. float32 (1, 1, S, S)."""
    pixels = torch.from_numpy(pixel_array(path, decoding_plugin=codec).astype(np.float32))[None, None]
    return np.asarray(F.interpolate(pixels, (SPEC.size_px, SPEC.size_px), mode="bicubic", antialias=True))


def monai_pipeline() -> Callable[[Path], np.ndarray]:
    """Returns MONAI's own way to the same view, float32 (1, S, S) in [0, 1]."""
    steps = Compose(
        [
            LoadImaged("image", reader=PydicomReader(swap_ij=False), image_only=True, ensure_channel_first=True),
            ScaleIntensityRanged("image", _LOW, _HIGH, 0.0, 1.0, clip=True),
            Resized("image", (SPEC.size_px, SPEC.size_px), mode="bicubic", anti_aliasing=True),
        ]
    )
    return lambda path: np.asarray(steps({"image": str(path)})["image"])


def _torch_resized() -> Callable[[Path], np.ndarray]:
    """MONAI's reader and window with the one-step antialiased resize of torch, which is faster than `Resized`."""
    load = Compose(
        [
            LoadImaged("image", reader=PydicomReader(swap_ij=False), image_only=True, ensure_channel_first=True),
            ScaleIntensityRanged("image", _LOW, _HIGH, 0.0, 1.0, clip=True),
        ]
    )

    def read(path: Path) -> np.ndarray:
        pixels = load({"image": str(path)})["image"].as_tensor()
        size = (SPEC.size_px, SPEC.size_px)
        return np.asarray(F.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1))

    return read


def measured(paths: list[Path], ways: dict[str, Callable[[Path], object]], rounds: int) -> dict[str, list[float]]:
    """Returns seconds of the processor for one file, by way and round; the order changes with each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(paths[0])
    names = list(ways)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.process_time()
            for path in paths:
                ways[name](path)
            seconds[name].append((time.process_time() - start) / len(paths))
    return seconds


def _ratios(slow: list[float], fast: list[float]) -> str:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Makes the files, measures, and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3, help="files of each class")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # MONAI says of every file that it has no place in the patient
    ways: dict[str, Callable[[Path], object]] = {
        "load_view": lambda path: load_view(path, SPEC),
        "read_study_view": lambda path: read_study_view(path, SPEC),
        "pydicom + one resize": bare,
        "pydicom with pylibjpeg + one resize": lambda path: bare(path, "pylibjpeg"),
        "MONAI, Resized": monai_pipeline(),
        "MONAI reader, torch's resize": _torch_resized(),
    }
    print("Rate: files per second of one core (median); times as fast: median of the rounds (least to most).\n")
    print("| files | way | files/s | load_view is times as fast | read_study_view is times as fast |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, paths in made_files(Path(folder), arguments.files).items():
            ours = load_view(paths[0], SPEC).astype(np.float64)
            theirs = np.asarray(ways["MONAI reader, torch's resize"](paths[0]))
            if (difference := np.abs(theirs * 255 - ours).max()) > _MAX_DIFFERENCE:
                raise SystemExit(f"{name}: MONAI's view is {difference:.2f} grey levels away; they do not do the same")
            able = {way: read for way, read in ways.items() if name == "JPEG 2000" or "pylibjpeg" not in way}
            seconds = measured(paths, able, arguments.rounds)
            for way, its in seconds.items():
                beside = (_ratios(its, seconds["load_view"]), _ratios(its, seconds["read_study_view"]))
                print(f"| {name} | {way} | {1 / median(its):.1f} | {beside[0]} | {beside[1]} |", flush=True)


if __name__ == "__main__":
    main()
