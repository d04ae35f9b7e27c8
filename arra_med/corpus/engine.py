"""Where shards are worked on: in this process and its workers, or on the machines of a Ray cluster.

The same worker does the same work on the same shards under both engines, and writes each shard itself, whole or not at
all; an engine only decides where. So the files are the same byte for byte, and a run that was stopped under one engine
can be finished under the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from arra_med.config import Device, StrictModel
from arra_med.corpus.parquet import is_finished
from arra_med.errors import EngineError

Task = bytes | int


class ShardWorker(Protocol):
    """Works on shards; what it needs (processes, a model) is made on entering, so that it can be sent to a machine."""

    def __enter__(self) -> Self:
        """Makes ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cleans up."""

    def work(self, tasks: Iterable[Any], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Writes the shards of `tasks`; yields what is to be known of each, as JSON values, and tells of progress."""


class EngineChoice(StrictModel):
    """Which engine works on the shards.

    Attributes:
        kind: `local` is this machine; `ray` is a cluster, whose machines must all see the files under the same paths.
        address: Of the cluster: `auto` is the one this machine is part of, `local` starts one here, else `host:port`.
    """

    kind: Literal["local", "ray"] = "local"
    address: str = "auto"


LOCAL = EngineChoice()


def run_shards(
    worker: ShardWorker,
    tasks: Sequence[Task],
    sizes: Sequence[int],
    advance: Callable[[int], None],
    engine: EngineChoice = LOCAL,
    *,
    max_actors: int | None = None,
    device: Device = "cpu",
) -> Iterator[dict[str, Any]]:
    """Works on shards under the engine chosen.

    Args:
        worker: What to do.
        tasks: The shards.
        sizes: How many items each shard has, for progress.
        advance: Is told of items done.
        engine: Where.
        max_actors: Workers of a cluster at a time; by default as many as it has processors (or GPUs, if they are used).
        device: What a worker of a cluster computes on; `auto` is a GPU each where the cluster has any.

    Yields:
        What the worker yields, in no fixed order.

    Raises:
        UserError: Whatever the worker raises; also if there is no such cluster.
    """
    if engine.kind == "ray":
        from arra_med.corpus.ray_engine import run_on_cluster

        yield from run_on_cluster(worker, tasks, sizes, advance, engine.address, max_actors, device)
        return
    with worker as ready:
        yield from ready.work(tasks, advance)


def require_visible(file: Path, fingerprint: str) -> None:
    """Makes sure that a shard which a worker has written is to be seen here.

    Raises:
        EngineError: If it is not: the machines of the cluster do not share the folder.
    """
    if not is_finished(file, fingerprint):
        raise unseen(file.parent, file.name)


def unseen(folder: Path, what: str) -> EngineError:
    """Returns what to tell when something that a machine of the cluster wrote into a folder is not to be seen here."""
    return EngineError(
        f"{folder}: a machine of the cluster wrote {what}, which is not to be seen from here; choose an --out on storage "
        "that all machines share under the same path"
    )
