"""One training by several processes: how they share a step, add up, wait for the writer, and end when one is lost."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from arra_med.errors import ConfigError, TrainingError

_PATIENCE = timedelta(hours=2)  # for what only one process does, such as writing a large checkpoint
_LOST_PEER_WORDS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "monitoredbarrier")


def num_processes() -> int:
    """Returns how many processes `torchrun` has started for this training; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return os.environ.get("RANK", "0") == "0"


def accumulation_for(batch_size: int, accumulation: int, global_batch: int | None, processes: int) -> int:
    """Returns how many batches each process adds up for one optimiser step.

    Args:
        batch_size: Sequences of one batch of one process.
        accumulation: The answer where `global_batch` is None.
        global_batch: Sequences of an optimiser step over all processes, or None.
        processes: How many there are.

    Raises:
        ConfigError: If the processes cannot share `global_batch` equally, or both it and `accumulation` are set.
    """
    if global_batch is None:
        return accumulation
    if accumulation != 1:
        raise ConfigError(
            f"global_batch is {global_batch} and accumulation {accumulation}; global_batch decides the accumulation: "
            "set one of the two"
        )
    if global_batch % (batch_size * processes):
        fitting = [n for n in range(1, global_batch + 1) if global_batch % (batch_size * n) == 0]
        raise ConfigError(
            f"global_batch is {global_batch}, which {processes} processes with batch_size {batch_size} cannot share "
            f"equally ({batch_size} x {processes} = {batch_size * processes} does not divide it): "
            + (
                f"start {', '.join(map(str, fitting))} processes, or change batch_size or global_batch"
                if fitting
                else "make global_batch a multiple of batch_size"
            )
        )
    return global_batch // (batch_size * processes)


def sums_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Returns each value's sum over all processes, in float64; every process has to call it."""
    if not _several():
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def leave() -> None:
    """Ends this process's membership, at the end of a command."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class Meeting:
    """A place where processes wait longer than `process_timeout_s` for the first one, while it writes.

    Its messages go over gloo between the machines' processors, so that the death of a process is noticed here at once.
    The first process itself, which comes last, waits no longer than `process_timeout_s` for one that hangs.

    Args:
        timeout_s: `process_timeout_s`. Every process has to make the meeting, at the same place.
    """

    def __init__(self, timeout_s: int) -> None:
        self._timeout = timedelta(seconds=timeout_s)
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if _several() else None

    def wait(self, patient: bool = False) -> None:
        """Returns once every process has come here.

        Args:
            patient: The first process waits as long as the others do.
        """
        if self._group is not None:
            limit = self._timeout if is_first_process() and not patient else _PATIENCE
            dist.monitored_barrier(self._group, timeout=limit)

    def agree(self, path: Path | None) -> Path | None:
        """Returns the first process's path, to all."""
        if self._group is None:
            return path
        chosen = [str(path) if path is not None else None]
        dist.broadcast_object_list(chosen, src=0, group=self._group)
        return Path(chosen[0]) if chosen[0] is not None else None


@contextmanager
def explained_loss_of_a_process(checkpoints: Path, timeout_s: int) -> Iterator[None]:
    """Watches the other processes, and says in a sentence when one is gone or silent.

    Most often a collective operation ends with an error then. Where it waits for ever instead (gloo's do for a process
    that is stopped, whatever their timeout), the watch ends this process.

    Args:
        checkpoints: Folder of the checkpoints, for the sentence.
        timeout_s: `process_timeout_s`.

    Raises:
        TrainingError: In place of such an error.
    """
    sentence = (
        "another process of this training has ended or no longer answers, so this one stops too; the last complete "
        f"checkpoint in {checkpoints} is kept: look for the first process's own error above, and start the same "
        "torchrun command again to go on from there"
    )
    watch = _Watch(timeout_s, sentence) if _several() else None
    try:
        yield
    except RuntimeError as error:
        if watch is None or not _is_lost_peer(error):
            raise
        raise TrainingError(sentence) from error
    finally:
        if watch is not None:
            watch.end()


class _Watch:
    """A thread that counts up in the processes' common store, and ends the program when another has stopped counting."""

    def __init__(self, timeout_s: int, sentence: str) -> None:
        self._timeout_s = timeout_s
        self._sentence = sentence
        common: Any = _get_default_store()
        self._store = common.clone()  # calls of one store object wait for each other
        self._store.set_timeout(timedelta(seconds=timeout_s))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="other processes", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Returns once this process no longer watches."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        others = [rank for rank in range(dist.get_world_size()) if rank != dist.get_rank()]
        counts: dict[int, int] = {}
        seen = {rank: time.monotonic() for rank in others}
        while not self._ended.wait(self._timeout_s / 4):
            try:
                self._store.add(f"arra_med/{dist.get_rank()}", 1)
                found = {rank: self._store.add(f"arra_med/{rank}", 0) for rank in others}
            except RuntimeError:  # the store's own process is the lost one
                found = counts
            now = time.monotonic()
            seen |= {rank: now for rank in others if found.get(rank) != counts.get(rank)}
            counts = found
            if now - min(seen.values()) > 2 * self._timeout_s and not self._ended.is_set():
                print(f"arra-med: {self._sentence}", file=sys.stderr, flush=True)
                os._exit(1)


def _is_lost_peer(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _LOST_PEER_WORDS)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
