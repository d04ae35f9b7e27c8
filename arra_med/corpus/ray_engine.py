"""Shards on the machines of a Ray cluster: Ray Data maps them over actors, each of which is one worker.

Ray restarts an actor whose process or machine dies and gives its shard to another. The driver may die too: a shard is
written whole or not at all, so the next run does what is missing. Ray keeps its own logs on each machine; nothing of ours
goes into them, and a shard travels as bytes that no message shows.
"""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.data

from arra_med import errors
from arra_med.config import Device
from arra_med.corpus.engine import ShardWorker, Task
from arra_med.errors import ArraMedError, EngineError

_ANSWER_S = 10


def run_on_cluster(
    worker: ShardWorker,
    tasks: Sequence[Task],
    sizes: Sequence[int],
    advance: Callable[[int], None],
    address: str,
    max_actors: int | None,
    device: Device,
) -> Iterator[dict[str, Any]]:
    """Works on shards on a cluster; see `arra_med.corpus.engine.run_shards`.

    Raises:
        EngineError: If there is no cluster at `address`, or it has no GPU where one is asked for.
        UserError: What a worker raised.
    """
    with connected(address):
        num_cpus, num_gpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
        on_gpu = device == "cuda" or (device == "auto" and num_gpus > 0)
        available = num_gpus if on_gpu else num_cpus
        if on_gpu and not num_gpus:
            raise EngineError("the cluster has no GPU; add a machine that has one, or give --device cpu")
        num_actors = max(1, min(max_actors or available, available, len(tasks)))
        shards = ray.data.from_items(
            [{"number": number, "task": task} for number, task in enumerate(tasks)], override_num_blocks=len(tasks)
        )
        done = shards.map(
            _Actor,  # type: ignore[arg-type] # Ray makes an actor of the class
            fn_constructor_args=(worker,),
            # One shard at a time each, and a pool that may shrink: what a lost machine leaves finds a place elsewhere.
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=num_actors, initial_size=num_actors, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else None,
        )
        for row in done.iter_rows():
            told = json.loads(row["told"])
            if "error" in told:
                raise _error_of(**told["error"])
            advance(sizes[row["number"]])
            yield told["outcome"]


class _Actor:
    """One worker, in a process of a cluster; what it raises travels as words, since Ray keeps an error's text alone."""

    def __init__(self, worker: ShardWorker) -> None:
        logging.disable(logging.CRITICAL)
        self._worker = worker
        self._entered: ShardWorker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            self._entered = self._entered or self._worker.__enter__()
            (outcome,) = self._entered.work([row["task"]], lambda _: None)
            told = {"outcome": outcome}
        except ArraMedError as error:
            told = {"error": {"kind": type(error).__name__, "words": str(error)}}
        except OSError as error:
            told = {"error": {"kind": "OSError", "words": error.strerror or "", "number": error.errno}}
        return {"number": row["number"], "told": json.dumps(told)}


def _error_of(kind: str, words: str, number: int | None = None) -> Exception:
    if kind == "OSError":
        return OSError(number, words)
    error: Exception = getattr(errors, kind)(words)
    return error


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Ray, connected to a cluster (`local` starts one here) unless it is already; disconnected at the end.

    Raises:
        EngineError: If there is none at `address`.
    """
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        _silence_progress()
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a hospital's cluster reports to nobody
    starts: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _require_answer(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **starts)
    except (OSError, ValueError, RuntimeError):
        raise EngineError(
            f"there is no Ray cluster at {address!r}; start one (ray start --head), or give --address host:port of a "
            "running one, or --address local"
        ) from None
    try:
        _silence_progress()
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raises OSError if nothing listens at `host:port`; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in address:
        socket.create_connection((host, int(port)), _ANSWER_S).close()


def _silence_progress() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
