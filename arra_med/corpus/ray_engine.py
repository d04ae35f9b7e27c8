"""Shards on the machines of a Ray cluster: Ray Data maps them over actors, each of which is one worker.

Ray restarts an actor whose process or machine dies and gives its shard to another. The driver may die too: a shard is
written whole or not at all, so the next run does what is missing. Ray keeps its own logs on each machine; nothing of ours
goes into them, and a shard travels as bytes that no message shows.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.data

from arra_med.config import Device
from arra_med.corpus.engine import ShardWorker, Task
from arra_med.errors import ArraMedError, EngineError


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
    with _connected(address):
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
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else None,
        )
        try:
            for row in done.iter_rows():
                advance(sizes[row["number"]])
                yield dict(row["outcome"])
        except Exception as error:  # noqa: BLE001 - Ray wraps what a worker raises in errors of many kinds
            raise _cause(error) from None


class _Actor:
    """One worker, in a process of a cluster."""

    def __init__(self, worker: ShardWorker) -> None:
        logging.disable(logging.CRITICAL)
        self._worker = worker.__enter__()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        (outcome,) = self._worker.work([row["task"]], lambda _: None)
        return {"number": row["number"], "outcome": outcome}


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        _silence_progress()
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a hospital's cluster reports to nobody
    starts: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **starts)
    except (ConnectionError, ValueError, RuntimeError):
        raise EngineError(
            f"there is no Ray cluster at {address!r}; start one (ray start --head), or give --address host:port of a "
            "running one, or --address local"
        ) from None
    try:
        _silence_progress()
        yield
    finally:
        ray.shutdown()


def _silence_progress() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _cause(error: BaseException) -> BaseException:
    """Returns the error of ours, or of the disk, that a chain of Ray's errors wraps, else the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        wrapped = getattr(seen, "cause", None)
        for candidate in (wrapped, seen):
            if isinstance(candidate, (ArraMedError, OSError)) and not isinstance(candidate, ray.exceptions.RayError):
                return candidate
        seen = seen.__cause__ or seen.__context__ or (wrapped if isinstance(wrapped, BaseException) else None)
    return error
