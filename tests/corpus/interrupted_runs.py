"""Real runs of the command that a test kills in the middle."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from arra_med.corpus.ingest import IngestReport, ingest
from arra_med.corpus.ingest_report import REPORT_FILE
from arra_med.corpus.study_set import StudySet
from arra_med.records.manifest import write_manifest
from tests.corpus.tiny_studies import SPEC, record

_PATIENCE_S = 900


def write_many(folder: Path, num_records: int) -> Path:
    """Writes one image of 64 px and a manifest that names it for every record; returns the manifest."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    changes = {"path": str(folder / "one.png"), "split": "train"}
    records = [record(0, image_id=f"kermany_pneumonia/many{number}", **changes) for number in range(num_records)]
    write_manifest(records, folder / "studies.csv")
    return folder / "studies.csv"


def start_ingest(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Starts `arra-med ingest` in a process of its own."""
    words = [sys.executable, "-m", "arra_med.cli", "ingest", str(source), "--out", str(out)]
    words += ["--size", str(SPEC.size_px), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_shards(out: Path, at_least: int, run: subprocess.Popen[str]) -> None:
    """Waits until a run has written some shards; it must not end before."""
    deadline = time.monotonic() + _PATIENCE_S
    while len(list(out.glob("shard-*"))) < at_least:
        assert run.poll() is None, "the run ended before it could be interrupted"
        assert time.monotonic() < deadline, "the run writes no shard"
        time.sleep(0.005)


def kill(run: subprocess.Popen[str]) -> None:
    """Kills a run's driver, as `kill -9` does."""
    run.send_signal(signal.SIGKILL)
    run.wait()


def finish(run: subprocess.Popen[str]) -> str:
    """Waits for a run's success; returns what it said."""
    told, _ = run.communicate(timeout=_PATIENCE_S)
    assert run.returncode == 0, told
    return told


def children(pid: int) -> list[int]:
    """Returns a process's worker processes."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def num_rows(out: Path) -> int:
    """Returns the images whose rows stand in the shards of an unfinished set."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in out.glob("shard-*"))


def ingest_here(source: Path, out: Path) -> IngestReport:
    """Ingests without any other process: what every other run must come to."""
    return ingest(source, out, SPEC, workers=0, progress=False)


def assert_same_set(out: Path, whole: Path, num_records: int) -> None:
    """Every image stands in the set once, in the order of the input, and every file is the same byte for byte."""
    names = StudySet.open(out).image_ids
    assert names == [f"kermany_pneumonia/many{number}" for number in range(num_records)]
    files = sorted(path.name for path in whole.iterdir() if path.is_file())
    for name in files:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert {path.name for path in out.iterdir() if path.is_file()} - {REPORT_FILE} == set(files)
