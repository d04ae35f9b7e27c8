"""Measures the engine of ingestion: memory over many records, the cost of known files, and how two workers scale.

    python benchmarks/engine.py memory --records 5000 25000 50000
    python benchmarks/engine.py rerun --files 5000
    python benchmarks/engine.py scaling --rounds 7

The images are made here. `memory` runs one ingestion a number, each in a process of its own, whose records all name one
PNG of 64 px: what grows is what is held for each record. `rerun` ingests distinct PNG files and ingests them again: as
they are, with `--verify`, and after ten files were added in the middle. `scaling` compares a pool of two workers with two
processes that know nothing of each other, in interleaved rounds after all have started; its ratio means something only
where two cores are idle.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from arra_med.corpus.decoding import DecodedView, DecodingPool, DecodingSettings, decode_record
from arra_med.corpus.ingest import ingest
from arra_med.imaging.view import CanonicalView
from arra_med.records.manifest import write_manifest
from arra_med.records.study import StudyRecord

_KEY_VARIABLE = "ARRA_MED_KEY_FILE"
_MIB = 2**20
_ADDED = 10


def write_images(folder: Path, num_files: int, side_px: int) -> list[Path]:
    """Writes PNG files of noise, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.png" for number in range(num_files)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (side_px, side_px), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
    return paths


def records_of(paths: list[Path]) -> list[StudyRecord]:
    """Makes a record for every path, two images a patient, with the sentence of an ordinary report."""
    return [
        StudyRecord(
            image_id=f"nih_cxr14/{number:06d}",
            patient_id=f"p{number // 2}",
            modality="cxr",
            view="PA",
            path=str(path),
            report="PA chest radiograph of an adult: no acute cardiopulmonary abnormality.",
            report_kind="from_labels",
            labels=("No Finding",),
            source="nih_cxr14",
            redistributable=True,
            patient_known=True,
        )
        for number, path in enumerate(paths)
    ]


def measure_memory(num_records: list[int]) -> None:
    """Prints the peak memory of the driver for each number of records."""
    print("| records | driver before reading, MiB | driver's peak, MiB | of it for each record, KiB | records/s |")
    print("| --- | --- | --- | --- | --- |")
    for number in num_records:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, __file__, "driver", "--records", str(number), "--folder", folder]
            environment = {**os.environ, _KEY_VARIABLE: f"{folder}/key"}
            told = json.loads(subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE).stdout)
        growth = (told["peak_mib"] - told["before_mib"]) * 1024 / number
        print(
            f"| {number:,} | {told['before_mib']:.0f} | {told['peak_mib']:.0f} | {growth:.2f} | "
            f"{number / told['seconds']:.0f} |",
            flush=True,
        )


def run_driver(folder: Path, num_records: int) -> None:
    """Ingests `num_records` records of one image with one worker; prints the memory of this process as JSON."""
    (path,) = write_images(folder / "images", 1, side_px=64)
    source = folder / "studies.csv"
    with multiprocessing.get_context("spawn").Pool(1) as apart:  # what the table takes to write is not the driver's
        apart.apply(_write_source, (source, str(path), num_records))
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB
    started = time.perf_counter()
    spec = CanonicalView(modality="cxr", size_px=64)
    report = ingest(source, folder / "out", spec, workers=1, duplicate_distance=None, progress=False)
    seconds = time.perf_counter() - started
    if report.written != num_records:
        raise SystemExit(f"{report.written} of {num_records} records were written")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MIB
    print(json.dumps({"before_mib": before_mib, "peak_mib": peak_mib, "seconds": seconds}))


def _write_source(source: Path, path: str, num_records: int) -> None:
    write_manifest(records_of([Path(path)] * num_records), source)


def measure_rerun(num_files: int) -> None:
    """Prints what a known file costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[_KEY_VARIABLE] = str(folder / "key")
        source, out = folder / "studies.csv", folder / "out"
        spec = CanonicalView(modality="cxr", size_px=64)
        records = records_of(write_images(folder / "images", num_files + _ADDED, side_px=64))
        middle = num_files // 2
        write_manifest(records[:middle] + records[middle + _ADDED :], source)

        def timed(what: str, **settings: bool) -> None:
            started = time.perf_counter()
            report = ingest(source, out, spec, workers=0, progress=False, **settings)
            seconds = time.perf_counter() - started
            read = report.total - report.kept
            print(
                f"{what}: {1e3 * seconds / report.total:.3f} ms a file ({report.total} files, {read} read)", flush=True
            )

        timed("first run, one process")
        for _ in range(3):
            timed("second run")
        for _ in range(3):
            timed("second run with --verify", verify=True)
        write_manifest(records, source)
        timed(f"after {_ADDED} files were added in the middle")


def measure_scaling(rounds: int, num_files: int, side_px: int) -> None:
    """Prints the throughput of a pool of two as a share of that of two independent processes."""
    settings = DecodingSettings(spec=CanonicalView(modality="cxr", size_px=256))
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(path) for path in write_images(Path(folder), num_files, side_px)]
        ratios = []
        with DecodingPool(settings, 2, b"key") as pool:
            list(pool.decode(paths[:4]))
            for number in range(rounds):
                apart = _two_apart(paths, settings)
                started = time.perf_counter()
                outcomes = [outcome for _, outcome in pool.decode(paths)]
                together = len(paths) / (time.perf_counter() - started)
                if not all(isinstance(outcome, DecodedView) for outcome in outcomes):
                    raise SystemExit("a file was refused")
                ratios.append(together / apart)
                print(f"round {number}: pool of two {together:.1f}/s, two apart {apart:.1f}/s, ratio {ratios[-1]:.3f}")
    print(f"median ratio {median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f} over {rounds} rounds")


def _two_apart(paths: list[str], settings: DecodingSettings) -> float:
    """Returns the files a second of two processes, each with its own half, from a common start to the later end."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_decode_half, args=(paths[i::2], settings, barrier, queue)) for i in range(2)]
    for process in processes:
        process.start()
    spans = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return len(paths) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _decode_half(
    paths: list[str], settings: DecodingSettings, barrier: Barrier, queue: "multiprocessing.Queue"
) -> None:  # type: ignore[type-arg]
    import torch

    torch.set_num_threads(1)
    decode_record(paths[0], settings, b"key")
    barrier.wait()
    start = time.monotonic()  # the same clock in both processes
    for path in paths:
        decode_record(path, settings, b"key")
    queue.put((start, time.monotonic()))


def main() -> None:
    """Runs one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory")
    memory.add_argument("--records", type=int, nargs="+", default=[5_000, 25_000, 50_000])
    driver = commands.add_parser("driver", help="one ingestion of `memory`")
    driver.add_argument("--records", type=int, required=True)
    driver.add_argument("--folder", type=Path, required=True)
    rerun = commands.add_parser("rerun")
    rerun.add_argument("--files", type=int, default=5_000)
    scaling = commands.add_parser("scaling")
    scaling.add_argument("--rounds", type=int, default=7)
    scaling.add_argument("--files", type=int, default=200)
    scaling.add_argument("--side", type=int, default=2048)
    options = parser.parse_args()
    if options.command == "memory":
        measure_memory(options.records)
    elif options.command == "driver":
        run_driver(options.folder, options.records)
    elif options.command == "rerun":
        measure_rerun(options.files)
    else:
        measure_scaling(options.rounds, options.files, options.side)


if __name__ == "__main__":
    main()
