"""Parquet shards: written whole or not at all, kept when nothing changed, read back through `datasets`."""

import contextlib
import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from arra_med.errors import UserError
from arra_med.runs import atomic_file

if TYPE_CHECKING:
    from datasets import Dataset

_METADATA_KEY = b"arra_med"
_BATCH_ROWS = 256
_CACHE_FOLDER = ".cache"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_temporary_caches: dict[Path, tempfile.TemporaryDirectory[str]] = {}


def shard_path(folder: Path, index: int) -> Path:
    """Returns the path of the `index`-th shard (from 0) of a folder."""
    return folder / f"shard-{index:05d}.parquet"


def shard_paths(folder: Path) -> list[Path]:
    """Returns the shards that lie in a folder, in order."""
    return sorted(folder.glob("shard-*.parquet"))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, metadata: Mapping[str, Any]) -> None:
    """Writes rows as one Parquet file, atomically.

    Args:
        path: The file.
        rows: Values by column name.
        schema: Columns and types; a value that does not fit is an error.
        metadata: JSON values kept in the file's footer; `read_metadata` returns them.
    """
    described = schema.with_metadata(footer(metadata))
    with atomic_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=described), partial, compression="zstd")


def footer(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Returns JSON values in the form that a Parquet schema keeps them."""
    return {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()}


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Returns what `write_table` kept in a file's footer; `None` if the file is missing, damaged or not ours."""
    try:
        stored = (pq.read_schema(path).metadata or {}).get(_METADATA_KEY)
    except (OSError, pa.ArrowException):
        return None
    return None if stored is None else json.loads(stored)


def is_finished(path: Path, fingerprint: str) -> bool:
    """Whether a file was written from exactly this input and these settings."""
    return (read_metadata(path) or {}).get("fingerprint") == fingerprint


def iter_rows(files: Iterable[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of some files, in order, holding only some of them in memory.

    Args:
        files: Parquet files that have all columns.
        columns: What a row shall tell.
    """
    for file in files:
        with pq.ParquetFile(file) as reader:
            for batch in reader.iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield from batch.to_pylist()


def open_dataset(files: Sequence[Path], cache_beside: Path) -> "Dataset":
    """Opens Parquet files as one memory-mapped `datasets.Dataset`.

    Args:
        files: The files, in order; those without rows are left out, because `datasets` cannot read them.
        cache_beside: Folder that gets the Arrow cache (`.cache` in it), so that deleting the data deletes its copy;
            where it is read-only, the cache is temporary.

    Raises:
        OSError: If a file cannot be read or the disk is full.
    """
    import datasets

    shown, verbosity = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what went wrong is raised
    try:
        cache = str(_cache_folder(cache_beside))
        filled = [str(file) for file in files if pq.read_metadata(file).num_rows]
        return datasets.Dataset.from_parquet(filled, cache_dir=cache)
    except datasets.exceptions.DatasetGenerationError as error:
        raise error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error)) from None
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()


def clear_leftovers(folder: Path) -> None:
    """Removes the Arrow cache of data that are about to change, and what a killed run left half written."""
    shutil.rmtree(folder / _CACHE_FOLDER, ignore_errors=True)
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def _cache_folder(beside: Path) -> Path:
    cache = beside / _CACHE_FOLDER
    try:
        cache.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        if beside not in _temporary_caches:
            _temporary_caches[beside] = tempfile.TemporaryDirectory(prefix="arra-med-")
        return Path(_temporary_caches[beside].name)
    return cache


@contextlib.contextmanager
def clear_disk_errors(kind: type[UserError], target: Path) -> Iterator[None]:
    """Turns a full or forbidden disk into one sentence.

    Args:
        kind: The error to raise.
        target: What is being written, as the user named it.

    Raises:
        UserError: Of `kind`, if writing fails inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            advice = "the disk is full; free some space and run the same command again (finished shards are kept)"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "no permission to write there; choose another --out"
        else:
            raise
        raise kind(f"{target}: cannot be written: {advice}") from None


@contextlib.contextmanager
def progress_bar(description: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar, the rate and the time left on stderr; yields the function that moves it on by a number of items."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(description, total=total)
        yield lambda num_items: bar.advance(task, num_items)


class _RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")
