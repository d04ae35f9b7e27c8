"""Shards of a corpus: the image codes of some views of a study set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import torch

from arra_med.config import Device, resolve_device
from arra_med.corpus.parquet import shard_path, write_table
from arra_med.corpus.study_rows import RECORD_FIELDS, record_row, view_sha256
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import ViewPlace, load_views, plan_views
from arra_med.imaging.view import from_uint8
from arra_med.records.study import StudyRecord
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer

SHARD_ROWS = 1024
CORPUS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("k", pa.int32()),
        ("codes", pa.list_(pa.int32())),
        ("view_sha256", pa.string()),
        *RECORD_FIELDS,
    ]
)


class CorpusRun(NamedTuple):
    """What decides a corpus.

    Attributes:
        studies: Folder of the study set.
        tokenizer: Folder of the image tokenizer.
        out: Folder of the corpus.
        views: Views of each training study.
        seed: Of the augmented views.
        batch_size: Views encoded at once.
        device: Where the tokenizer runs.
        shard_rows: Views of a shard.
        fingerprints: Of all shards.
    """

    studies: Path
    tokenizer: Path
    out: Path
    views: int
    seed: int
    batch_size: int
    device: Device
    shard_rows: int
    fingerprints: Sequence[str]


class CorpusWorker:
    """Encodes shards of a corpus; the same for every engine.

    Args:
        run: What to do.
        opened: The study set and the tokenizer, where they are open already; on another machine they are opened there.
    """

    def __init__(self, run: CorpusRun, opened: tuple[StudySet, ImageTokenizer] | None = None) -> None:
        self.run = run
        self._opened = opened

    def __enter__(self) -> Self:
        run = self.run
        studies, tokenizer = self._opened or (
            StudySet.open(run.studies),
            load_image_tokenizer(run.tokenizer, resolve_device(run.device)),
        )
        self._studies, self._tokenizer = studies, tokenizer
        self._records = studies.records()
        self._places = plan_views(studies, run.views)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._studies, self._tokenizer, self._records, self._places

    def work(self, tasks: Iterable[int], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Writes the shards with the numbers `tasks`; tells `advance` of every view; yields each `shard`."""
        size, run = self.run.shard_rows, self.run
        for index in tasks:
            places = self._places[index * size : (index + 1) * size]
            rows: list[dict[str, Any]] = []
            for start in range(0, len(places), run.batch_size):
                batch = places[start : start + run.batch_size]
                rows += encode_rows(self._studies, batch, run.seed, self._tokenizer, self._records)
                advance(len(batch))
            write_table(shard_path(run.out, index), rows, CORPUS_SCHEMA, {"fingerprint": run.fingerprints[index]})
            yield {"shard": index}


def encode_rows(
    studies: StudySet, places: Sequence[ViewPlace], seed: int, tokenizer: ImageTokenizer, records: Sequence[StudyRecord]
) -> list[dict[str, Any]]:
    """Returns the rows of some views, with the columns of `CORPUS_SCHEMA`; `records` are those of all studies."""
    views = load_views(studies, places, seed)
    device = next(iter(tokenizer.parameters())).device if isinstance(tokenizer, torch.nn.Module) else "cpu"
    codes = tokenizer.encode(torch.from_numpy(from_uint8(views)).to(device)).cpu()
    rows = []
    for place, view, its_codes in zip(places, views, codes.flatten(1).tolist(), strict=True):
        record = records[place.study]
        told = {"key": place.key, "k": place.k, "codes": its_codes, "view_sha256": view_sha256(view)}
        rows.append({**told, **record_row(record)})
    return rows
