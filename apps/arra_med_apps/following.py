"""Work that reports its progress, followed by a generator, so that the page shows it and Stop ends it."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
_EVERY_S = 0.4


class _StoppedError(Exception):
    """The page no longer waits."""


def follow(
    work: Callable[[Callable[[float], None]], T], every_s: float = _EVERY_S
) -> Generator[tuple[float, float | None], None, T]:
    """Runs work in a thread; closing the generator stops it at its next report.

    Args:
        work: Given a function to report the share done, 0 to 1.
        every_s: Time between updates, in seconds.

    Yields:
        The share done, and an estimate of the seconds left, none while unknown.

    Returns:
        What `work` returns; what it raises is raised.
    """
    share, began, stop = 0.0, time.monotonic(), threading.Event()

    def report(done: float) -> None:
        nonlocal share
        if stop.is_set():
            raise _StoppedError
        share = done

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work, report)
        try:
            while not future.done():
                wait([future], every_s)
                spent = time.monotonic() - began
                yield share, spent * (1 - share) / share if share > 0 else None
            return future.result()
        finally:
            stop.set()
