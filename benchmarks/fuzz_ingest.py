"""Feeds thousands of damaged files to the decoding processes of ingestion, and counts what became of them.

    python benchmarks/fuzz_ingest.py --cases 20000 --seed 0                    # pydicom's own test files, PNG, JPEG
    python benchmarks/fuzz_ingest.py --data DATA/dicom --minutes 30

Every case is a real file with a few seeded injuries: flipped bits, a lost end, pieces of other files, lying length
fields, swapped or extreme header values, repeated elements. Each file also takes part relabelled as a secondary
capture, so that its codec is reached. Ends with 1 if the program itself raised, waited past the limit or outgrew its
memory; a worker process that dies is the design, and is only counted.
"""

import argparse
import faulthandler
import io
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

from arra_med.corpus.decoding import WORKER_CRASHED, DecodedView, DecodingPool, DecodingSettings
from arra_med.imaging.read import StudyView, read_study_view
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView, Modality

_MODALITIES: tuple[Modality, ...] = ("cxr", "fundus")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LARGEST_BASE_BYTES = 300_000
_HEADER_BYTES = 3000
_GRACE_S = 5.0  # the alarm of a busy machine
_MAX_PARENT_GROWTH_MIB = 512
_KIB_PER_MIB = 1024
# An element of explicit little endian with a short length (PS3.5 7.1.2), a chunk of PNG, a segment of JPEG.
_ELEMENT = re.compile(rb"[\x02\x08\x10\x18\x20\x28]\x00..(?:AE|AS|CS|DA|DS|IS|LO|PN|SH|TM|UI|US)(..)", re.DOTALL)
_LONG_ELEMENT = re.compile(rb"(?:O[BW]|SQ|UN)\x00\x00(....)", re.DOTALL)
_CHUNK = re.compile(rb"(....)(?:IHDR|IDAT|IEND)|\xff[\xc0-\xdb](..)", re.DOTALL)
_SHORTS = re.compile(rb"\x28\x00..US\x02\x00(..)", re.DOTALL)
_LIES = (0, 1, 0x7F, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass
class Tally:
    """What was seen; sizes in MiB."""

    outcomes: Counter[str] = field(default_factory=Counter)
    num_deaths: int = 0
    fatal_cases: list[int] = field(default_factory=list)
    num_time_outs: int = 0
    slowest_s: float = 0.0
    slowest_case: str = "none"
    worker_peak_mib: float = 0.0


def timed_read(path: Path, spec: CanonicalView, rules: ReadingRules) -> StudyView:
    """Reads a file as ingestion does and notes beside it when it began, and then how long it took in what memory."""
    mark = path.with_suffix(".mark")
    mark.write_text(repr(time.time()))
    start = time.perf_counter()
    try:
        return read_study_view(path, spec, rules)
    finally:
        mark.write_text(f"{time.perf_counter() - start} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")


def base_files(data: Path | None) -> list[bytes]:
    """Returns the undamaged files, in a fixed order, each DICOM file also as a secondary capture."""
    paths = sorted(Path(pydicom.__file__).parent.glob("data/test_files/*.dcm"))
    paths += sorted(data.rglob("*.dcm")) if data else []
    bases = [path.read_bytes() for path in paths if path.is_file() and path.stat().st_size <= _LARGEST_BASE_BYTES]
    bases += [copy for copy in map(_relabelled, bases) if copy]
    rng = np.random.default_rng(0)
    gray, deep = rng.integers(0, 256, (64, 48), dtype=np.uint8), rng.integers(0, 65536, (64, 48), dtype=np.uint16)
    colour = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for pixels, kind in ((gray, "PNG"), (deep, "PNG"), (colour, "PNG"), (gray, "JPEG"), (colour, "JPEG")):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        bases += [stream.getvalue()] * 4
    return bases


def _relabelled(data: bytes) -> bytes | None:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(io.BytesIO(data), force=True)
            header.SOPClassUID, header.Modality = _SECONDARY_CAPTURE, "OT"
            header.save_as(stream)
        except (ValueError, AttributeError, TypeError, EOFError, pydicom.errors.InvalidDicomError):
            return None
    return stream.getvalue() if "PixelData" in header else None


def flip_bits(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Flips 1 to 20 bits, mostly of the header."""
    for _ in range(rng.choice((1, 2, 5, 20))):
        reach = min(len(data), _HEADER_BYTES) if rng.random() < 0.7 else len(data)
        data[rng.randrange(reach)] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Loses the end."""
    del data[rng.randrange(1, len(data) + 1) :]


def splice(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Puts a piece of another file into or over this one."""
    start, at = rng.randrange(len(other)), rng.randrange(len(data))
    piece = other[start : start + rng.choice((4, 64, 1000, 20_000))]
    data[at : at + (len(piece) if rng.random() < 0.5 else 0)] = piece


def lie_about_length(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Changes a length field of an element, chunk or segment."""
    pattern = rng.choice((_ELEMENT, _LONG_ELEMENT, _CHUNK))
    found = [match.span(match.lastindex or 0) for match in pattern.finditer(data)]
    for start, end in rng.sample(found, min(len(found), rng.choice((1, 1, 3)))):
        width = end - start
        data[start:end] = (rng.choice((*_LIES, rng.getrandbits(32))) % 256**width).to_bytes(width, "little")


def swap_values(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Gives a field of the image's description (Rows, BitsStored, ...) the value of another, or an extreme one."""
    found = [match.span(1) for match in _SHORTS.finditer(data)]
    for start, end in rng.sample(found, min(len(found), rng.choice((1, 2)))):
        a, b = rng.choice(found)
        data[start:end] = data[a:b] if rng.random() < 0.5 else rng.choice(_LIES[:5]).to_bytes(2, "little")


def repeat_element(data: bytearray, other: bytes, rng: random.Random) -> None:
    """Copies an element to the place of another, once or often."""
    found = list(_ELEMENT.finditer(data))
    if found:
        chosen, place = rng.choice(found), rng.choice(found).start()
        element = data[chosen.start() : chosen.end() + int.from_bytes(chosen[1], "little")]
        data[place:place] = element * rng.choice((1, 1, 50))


MUTATIONS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    flip_bits,
    truncate,
    splice,
    lie_about_length,
    swap_values,
    repeat_element,
)


def fuzz(
    cases: range, modality: Modality, bases: list[bytes], arguments: argparse.Namespace, tally: Tally, end: float
) -> None:
    """Decodes the numbered cases until `end` (of `time.monotonic`); files live only while they are in flight."""
    limits = {"time_limit_s": arguments.time_limit_s, "memory_limit_gib": arguments.memory_limit_gib}
    settings = DecodingSettings(spec=CanonicalView(modality=modality), **limits)
    patience_s = 3 * arguments.workers * (arguments.time_limit_s + 60)
    with (
        tempfile.TemporaryDirectory() as folder,
        DecodingPool(settings, arguments.workers, b"fuzz", timed_read) as pool,
    ):

        def paths() -> Iterator[str]:
            for case in cases:
                if time.monotonic() > end:
                    return
                rng = random.Random(f"{arguments.seed} {case}")
                data = bytearray(rng.choice(bases))
                for mutate in rng.sample(MUTATIONS, rng.choice((1, 1, 2, 3))):
                    mutate(data, rng.choice(bases), rng)
                path = Path(folder, f"{case}.bin")
                path.write_bytes(data)
                yield str(path)

        for position, outcome in pool.decode(paths()):
            faulthandler.dump_traceback_later(patience_s, exit=True)  # a hang of this process: ends it with 1
            path = Path(folder, f"{cases[position]}.bin")
            mark = path.with_suffix(".mark")
            reason = "a view" if isinstance(outcome, DecodedView) else outcome.reason
            tally.outcomes[reason] += 1
            words = mark.read_text().split()
            took_s = float(words[0]) if len(words) == 2 else time.time() - float(words[0])
            if len(words) == 2:
                tally.worker_peak_mib = max(tally.worker_peak_mib, float(words[1]) / _KIB_PER_MIB)
            if took_s > tally.slowest_s:
                tally.slowest_s, tally.slowest_case = took_s, f"{cases[position]} ({modality}, {reason})"
            if reason == WORKER_CRASHED:
                tally.num_time_outs += took_s >= arguments.time_limit_s
                tally.num_deaths += took_s < arguments.time_limit_s
                tally.fatal_cases.append(cases[position])
            path.unlink()
            mark.unlink()
        faulthandler.cancel_dump_traceback_later()


def main() -> int:
    """Runs the cases and prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder with more DICOM files")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long, and say how far")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--time-limit-s", type=int, default=20)
    parser.add_argument("--memory-limit-gib", type=float, default=4.0)
    arguments = parser.parse_args()
    bases, tally = base_files(arguments.data), Tally()
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB
    start, raised = time.monotonic(), False
    for part, modality in enumerate(_MODALITIES):
        cases = range(part, arguments.cases, len(_MODALITIES))
        end = start + 60 * arguments.minutes * (part + 1) / len(_MODALITIES)
        try:
            fuzz(cases, modality, bases, arguments, tally, end)
        except Exception:  # noqa: BLE001 - exactly what must not happen, and is reported
            raised = True
            traceback.print_exc()
    took_s = time.monotonic() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MIB
    print(f"{tally.outcomes.total():,} of {arguments.cases:,} cases, seed {arguments.seed}, from {len(bases)} files")
    print(f"{took_s:.0f} s, {arguments.workers} worker(s)\n\n| outcome | cases |\n| --- | --- |")
    for reason, count in tally.outcomes.most_common():
        print(f"| {reason} | {count:,} |")
    print(
        f"\nworkers that died: {tally.num_deaths}; ended at the limit of time: {tally.num_time_outs}; cases {tally.fatal_cases}"
    )
    print(f"slowest case: {tally.slowest_case}, {tally.slowest_s:.1f} s of {arguments.time_limit_s} s")
    print(f"peak memory of a worker: {tally.worker_peak_mib:,.0f} MiB of {arguments.memory_limit_gib * 1024:,.0f} MiB")
    print(f"peak memory of the program: {peak_mib:,.0f} MiB, {before_mib:,.0f} MiB before the first case")
    failures = {
        "the program raised": raised,
        "a case ran past the limit": tally.slowest_s > arguments.time_limit_s + _GRACE_S,
        "a worker outgrew its memory": tally.worker_peak_mib > arguments.memory_limit_gib * 1024,
        "the program grew": peak_mib - before_mib > _MAX_PARENT_GROWTH_MIB,
    }
    print(
        "FAILED: " + "; ".join(name for name, failed in failures.items() if failed) if any(failures.values()) else "ok"
    )
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
