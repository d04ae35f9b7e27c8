"""Decoding of files nobody has checked, in processes that may die: one bad file never ends an ingestion.

Image decoders are C code, and a file can crash, hang or exhaust them. Each file is therefore decoded in a worker
process with a time and a memory limit; a file whose worker dies is tried once more alone, and named if it dies again.
"""

import contextlib
import hashlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import xxhash
from pydantic import Field

from arra_med.config import StrictModel
from arra_med.corpus.study_rows import encode_png, view_sha256
from arra_med.errors import ImageError, StudySetError
from arra_med.imaging.perceptual_hash import perceptual_hash
from arra_med.imaging.read import MAX_FILE_BYTES, StudyView, read_study_view
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView

WORKER_CRASHED = "worker_crashed"
_IN_FLIGHT_PER_WORKER = 3  # what a worker does while the results of the others are written
_FILE_HASH_BYTES = 8
_CHUNK_BYTES = 1 << 20


class DecodingSettings(StrictModel):
    """What a file is read as, and what its decoder may take.

    Attributes:
        spec: The view wanted.
        rules: What the run allows.
        time_limit_s: Seconds for one file.
        memory_limit_gib: Memory of a worker process; the libraries themselves take about 1 GiB of it.
    """

    spec: CanonicalView
    rules: ReadingRules = ReadingRules()
    time_limit_s: Annotated[int, Field(ge=1)] = 120
    memory_limit_gib: Annotated[float, Field(ge=1)] = 8.0


@dataclass(frozen=True)
class DecodedView:
    """What a file shows.

    Attributes:
        png: The canonical view, encoded as PNG.
        sha256: Of the view's pixels.
        perceptual_hash: 64 bits; near for views that show the same picture.
        flags: What had to be decided or was noticed.
        scores: What the quality checks measured.
        file_hash: Of the file's content.
    """

    png: bytes
    sha256: str
    perceptual_hash: int
    flags: tuple[str, ...]
    scores: dict[str, float]
    file_hash: str


@dataclass(frozen=True)
class RefusedFile:
    """Why a file gives no view.

    Attributes:
        reason: A code of `arra_med.imaging.reasons`, or `worker_crashed`.
        message: What was found and what to do; no path and no header value.
        file_hash: Of the file's content; empty if it cannot be read.
    """

    reason: str
    message: str
    file_hash: str


Outcome = DecodedView | RefusedFile
ReadView = Callable[[Path, CanonicalView, ReadingRules], StudyView]


def decode_record(
    path: str, settings: DecodingSettings, file_key: bytes, read: ReadView = read_study_view
) -> DecodedView | RefusedFile:
    """Reads one file, whichever engine runs; whatever goes wrong is the file's refusal.

    Args:
        path: The file.
        settings: What it is read as.
        file_key: Keys the hash of its content.
        read: Turns the file into a view.
    """
    try:
        view, flags, scores = read(Path(path), settings.spec, settings.rules)
        told = (encode_png(view), view_sha256(view), perceptual_hash(view), tuple(flags), dict(scores))
        return DecodedView(*told, hash_file(path, file_key))
    except ImageError as error:
        reason, message = error.reason, str(error)
    except MemoryError:
        reason, message = "too_large", f"needs more than {settings.memory_limit_gib:g} GiB to decode"
    except Exception as error:  # noqa: BLE001 - quarantine: whatever a decoder throws at us belongs to this one file
        reason, message = "decode_failed", f"its decoder failed ({type(error).__name__})"
    return RefusedFile(reason, message, hash_file(path, file_key))


def hash_file(path: str, key: bytes) -> str:
    """Returns a keyed hash of a file's content: it tells a change, and nothing to those without the key.

    Args:
        path: The file.
        key: 1 to 64 bytes.

    Returns:
        16 hex digits; "" if the path is no regular file of readable size.
    """
    digest = xxhash.xxh3_128()
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > MAX_FILE_BYTES:
            return ""
        with open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except (OSError, ValueError):
        return ""
    return hashlib.blake2b(digest.digest(), key=key, digest_size=_FILE_HASH_BYTES).hexdigest()


class DecodingPool:
    """Worker processes that turn files into canonical views.

    Args:
        settings: What the files are read as, and the limits.
        num_workers: Number of processes; 0 decodes in this process, which is for files made by the program itself.
        file_key: Keys the hashes of contents.
        read: Turns a file into a view; a function that a worker process can import.

    Raises:
        StudySetError: On entering, if a worker process cannot start at all.
    """

    def __init__(
        self, settings: DecodingSettings, num_workers: int, file_key: bytes, read: ReadView = read_study_view
    ) -> None:
        self.settings = settings
        self.num_workers = num_workers
        self.file_key = file_key
        self.read = read
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.num_workers > 0:
            self._pool = self._start(self.num_workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def decode(self, paths: Iterable[str]) -> Iterator[tuple[int, Outcome]]:
        """Yields (position in `paths`, outcome) for every path, in no fixed order.

        Few files are in flight at a time, and a path is taken only when a worker is about to need it: a slow consumer
        holds the workers back, and memory does not grow.
        """
        if self.num_workers == 0:
            for position, path in enumerate(paths):
                yield position, decode_record(path, self.settings, self.file_key, self.read)
            return
        waiting = enumerate(paths)
        in_flight: dict[Future[Outcome], tuple[int, str]] = {}
        while True:
            self._pool = pool = self._pool or self._start(self.num_workers)
            suspects: list[tuple[int, str]] = []
            try:
                while len(in_flight) < _IN_FLIGHT_PER_WORKER * self.num_workers and (task := next(waiting, None)):
                    suspects = [task]  # until it is in flight
                    in_flight[self._submit(pool, task[1])] = task
                    suspects = []
                if not in_flight:
                    return
                for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    yield in_flight.pop(future)[0], outcome
            except BrokenProcessPool:
                pool.shutdown(wait=False)
                self._pool = None
                suspects += [task for future, task in in_flight.items() if not _has_result(future)]
                yield from [(task[0], future.result()) for future, task in in_flight.items() if _has_result(future)]
                in_flight.clear()
                yield from self._decode_one_by_one(sorted(suspects))

    def _decode_one_by_one(self, tasks: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Outcome]]:
        pool: ProcessPoolExecutor | None = None
        for position, path in tasks:
            pool = pool or self._start(1)
            try:
                yield position, self._submit(pool, path).result()
            except BrokenProcessPool:
                pool.shutdown(wait=False)
                pool = None
                limit = f"{self.settings.time_limit_s} s or {self.settings.memory_limit_gib:g} GiB"
                message = f"its decoder crashed, or took more than {limit}; the file is damaged or hostile"
                yield position, RefusedFile(WORKER_CRASHED, message, hash_file(path, self.file_key))
        if pool is not None:
            pool.shutdown()

    def _submit(self, pool: ProcessPoolExecutor, path: str) -> Future[Outcome]:
        return pool.submit(_decode_within_limits, path, self.settings, self.file_key, self.read)

    def _start(self, num_workers: int) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            num_workers,
            multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(round(self.settings.memory_limit_gib * 2**30),),
        )
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise StudySetError(
                "a worker process for decoding cannot start; call the program from a file or as `arra-med`, not from "
                "an unguarded script (`if __name__ == '__main__':` is missing) or standard input"
            ) from None
        return pool


def default_num_workers() -> int:
    """Returns one worker for each processor this process may use, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 16)


def _has_result(future: Future[Outcome]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _prepare_worker(memory_limit_bytes: int) -> None:
    """Limits a worker, and keeps decoders from printing header values: their warnings quote the file."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_limit_bytes if hard == resource.RLIM_INFINITY else min(memory_limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.close(silent)


def _end_with_parent() -> None:
    """Ends this worker when its parent is gone: one that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _decode_within_limits(path: str, settings: DecodingSettings, file_key: bytes, read: ReadView) -> Outcome:
    signal.alarm(settings.time_limit_s)  # its default action ends the process, even inside C code
    try:
        return decode_record(path, settings, file_key, read)
    finally:
        signal.alarm(0)
