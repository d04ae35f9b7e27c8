"""Decoding of files nobody has checked, in processes that may die: one bad file never ends an ingestion.

Image decoders are C code, and a file can crash, hang or exhaust them. Each file is therefore decoded in a worker
process with a time and a memory limit; a file whose worker dies is tried once more alone, and named if it dies again.
"""

import logging
import multiprocessing
import os
import resource
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from arra_med.corpus.study_set import encode_png, view_sha256
from arra_med.errors import ImageError, StudySetError
from arra_med.imaging.read import load_view
from arra_med.imaging.view import CanonicalView

FILE_LIMIT_S = 120
MEMORY_LIMIT_BYTES = 8 * 2**30
WORKER_CRASHED = "worker_crashed"


@dataclass(frozen=True)
class DecodedView:
    """A canonical view, encoded as PNG, and the hash of its pixels."""

    png: bytes
    sha256: str


@dataclass(frozen=True)
class RefusedFile:
    """Why a file gives no view; `reason` is a code of `arra_med.imaging.read`, or `worker_crashed`."""

    reason: str
    message: str


Outcome = DecodedView | RefusedFile
LoadView = Callable[[Path, CanonicalView], np.ndarray]


class DecodingPool:
    """Worker processes that turn files into canonical views.

    Args:
        spec: The view wanted.
        num_workers: Number of processes; 0 decodes in this process, which is for files made by the program itself.
        load: Turns a file into a view; a function that a worker process can import.

    Raises:
        StudySetError: On entering, if a worker process cannot start at all.
    """

    def __init__(self, spec: CanonicalView, num_workers: int, load: LoadView = load_view) -> None:
        self.spec = spec
        self.load = load
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.num_workers > 0:
            self._pool = _start_pool(self.num_workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def decode(self, paths: Sequence[str]) -> Iterator[tuple[int, Outcome]]:
        """Yields (index into `paths`, outcome) for every path, in no fixed order."""
        if self.num_workers == 0:
            yield from ((index, _decode_file(path, self.spec, self.load)) for index, path in enumerate(paths))
            return
        waiting = deque(range(len(paths)))
        in_flight: dict[Future[Outcome], int] = {}
        while waiting or in_flight:
            self._pool = pool = self._pool or _start_pool(self.num_workers)
            try:
                while waiting and len(in_flight) <= self.num_workers:
                    in_flight[pool.submit(_decode_within_limits, paths[waiting[0]], self.spec, self.load)] = waiting[0]
                    waiting.popleft()
                for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    yield in_flight.pop(future), outcome
            except BrokenProcessPool:
                pool.shutdown(wait=False)
                self._pool = None
                suspects = sorted(in_flight.values())
                in_flight.clear()
                yield from self._decode_one_by_one(suspects, paths)

    def _decode_one_by_one(self, suspects: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[int, Outcome]]:
        pool: ProcessPoolExecutor | None = None
        for index in suspects:
            pool = pool or _start_pool(1)
            try:
                yield index, pool.submit(_decode_within_limits, paths[index], self.spec, self.load).result()
            except BrokenProcessPool:
                pool.shutdown(wait=False)
                pool = None
                message = f"its decoder crashed, or took more than {FILE_LIMIT_S} s; the file is damaged or hostile"
                yield index, RefusedFile(WORKER_CRASHED, message)
        if pool is not None:
            pool.shutdown()


def default_num_workers() -> int:
    """Returns one worker for each processor this process may use, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 16)


def _start_pool(num_workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), initializer=_prepare_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise StudySetError(
            "a worker process for decoding cannot start; call the program from a file or as `arra-med`, not from an "
            "unguarded script (`if __name__ == '__main__':` is missing) or standard input"
        ) from None
    return pool


def _prepare_worker() -> None:
    """Limits a worker, and keeps decoders from printing header values: their warnings quote the file."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_LIMIT_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.close(silent)


def _decode_within_limits(path: str, spec: CanonicalView, load: LoadView) -> Outcome:
    signal.alarm(FILE_LIMIT_S)  # its default action ends the process, even inside C code
    try:
        return _decode_file(path, spec, load)
    finally:
        signal.alarm(0)


def _decode_file(path: str, spec: CanonicalView, load: LoadView) -> Outcome:
    try:
        view = load(Path(path), spec)
        return DecodedView(encode_png(view), view_sha256(view))
    except ImageError as error:
        return RefusedFile(error.reason, str(error))
    except MemoryError:
        return RefusedFile("too_large", f"needs more than {MEMORY_LIMIT_BYTES // 2**30} GiB to decode")
    except Exception as error:  # noqa: BLE001 - quarantine: whatever a decoder throws at us belongs to this one file
        return RefusedFile("decode_failed", f"its decoder failed ({type(error).__name__})")
