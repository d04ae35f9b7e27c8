"""Parts of a feature file: what a frozen encoder says of some views of a study set, each with a hash that seals it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch

from arra_med.config import Device, StrictModel, resolve_device
from arra_med.corpus.folds import PatientFold
from arra_med.corpus.parquet import shard_path, write_table
from arra_med.corpus.study_rows import view_sha256
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import ViewPlace, digest_of_bytes, load_views, partners, plan_views
from arra_med.encoders import load_encoder
from arra_med.errors import CorpusError
from arra_med.imaging.view import from_uint8

if TYPE_CHECKING:
    from arra_med.encoders.base import FrozenEncoder

SHARD_ROWS = 512
Kind = Literal["cls", "mean", "patch", "trunk-cls"]


class FeaturesInfo(StrictModel):
    """What the footer of a feature file says.

    Attributes:
        format_version: Of the file.
        name: The encoder's name.
        encoder_sha256: Fingerprint of its weights.
        shapes: Shape of one view's feature, by kind: (D,), or (N, D) for `patch`.
        patch_grid: Patches down and across.
        study_set_sha256: Identifies the study set.
        num_views: Views of each training study; other studies have one.
        seed: Of the augmentation.
        num_rows: Views of all studies.
        fingerprint: Hash of the input and the settings.
        versions: Of Python and the libraries.
    """

    format_version: int
    name: str
    encoder_sha256: str
    shapes: dict[Kind, tuple[int, ...]]
    patch_grid: tuple[int, int]
    study_set_sha256: str
    num_views: int
    seed: int
    num_rows: int
    fingerprint: str
    versions: dict[str, str]


class FeaturesRun(NamedTuple):
    """What decides a feature file.

    Attributes:
        studies: Folder of the study set.
        encoder: What `arra_med.encoders.load_encoder` takes.
        permuted: Whether each view gets the feature of another study's view.
        sources: With `permuted`: what a training takes is exchanged among itself.
        fold: Likewise.
        parts_folder: Where the parts lie until they are joined.
        views: Views of each training study.
        seed: Of the augmented views.
        kinds: Features to keep.
        batch_size: Views encoded at once.
        device: Where the encoder runs.
        shard_rows: Views of a part.
        fingerprint: Of the file.
    """

    studies: Path
    encoder: str
    permuted: bool
    sources: Sequence[str]
    fold: PatientFold
    parts_folder: Path
    views: int
    seed: int
    kinds: Sequence[Kind]
    batch_size: int
    device: Device
    shard_rows: int
    fingerprint: str


class EncodedViews(NamedTuple):
    """Features of some views.

    Attributes:
        rows: With the columns of `features_schema`.
        shapes: Shape of one view's feature, by kind.
        grid: Patches down and across.
    """

    rows: list[dict[str, Any]]
    shapes: dict[Kind, tuple[int, ...]]
    grid: tuple[int, int]


class FeaturesWorker:
    """Encodes parts of a feature file; the same for every engine.

    Args:
        run: What to do.
        opened: The study set and the encoder, where they are open already; on another machine they are opened there.
    """

    def __init__(self, run: FeaturesRun, opened: "tuple[StudySet, FrozenEncoder] | None" = None) -> None:
        self.run = run
        self._opened = opened

    def __enter__(self) -> Self:
        run = self.run
        studies, teacher = self._opened or (
            StudySet.open(run.studies),
            load_encoder(run.encoder).to(resolve_device(run.device)),
        )
        self._studies, self._teacher = studies, teacher
        self._places = plan_views(studies, run.views)
        self._shown = self._places
        if run.permuted:
            partner, ids = partners(studies, run.sources, run.fold), studies.image_ids
            self._shown = [ViewPlace(partner[row], ids[partner[row]], k) for row, _, k in self._places]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._studies, self._teacher, self._places, self._shown

    def work(self, tasks: Iterable[int], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Writes the parts with the numbers `tasks`; tells `advance` of every view; yields each `shard`."""
        size, run = self.run.shard_rows, self.run
        for index in tasks:
            end, batches = min((index + 1) * size, len(self._places)), []
            for start in range(index * size, end, run.batch_size):
                batch = slice(start, min(start + run.batch_size, end))
                places, shown = self._places[batch], self._shown[batch]
                batches.append(encode_views(self._studies, places, run.seed, self._teacher, run.kinds, shown))
                advance(len(places))
            rows = [row for batch in batches for row in batch.rows]
            schema = features_schema(batches[0].shapes)
            write_table(shard_path(run.parts_folder, index), rows, schema, {"fingerprint": run.fingerprint})
            yield {"shard": index}


def encode_views(
    studies: StudySet,
    places: Sequence[ViewPlace],
    seed: int,
    teacher: "FrozenEncoder",
    kinds: Sequence[Kind],
    shown: Sequence[ViewPlace],
) -> EncodedViews:
    """Returns features under the keys of `places`: of the views at `shown`, which are other ones for a permuted teacher."""
    views = load_views(studies, places, seed)
    seen = views if shown == places else load_views(studies, shown, seed)
    features = teacher(torch.from_numpy(from_uint8(seen)).to(teacher.mean.device))
    values = {kind: features.get(kind).float().cpu().numpy() for kind in kinds}
    for kind, value in values.items():
        if not np.isfinite(value).all():
            bad = int(np.argmin(np.isfinite(value.reshape(len(value), -1)).all(axis=1)))
            raise CorpusError(
                f"{places[bad].key}: its {kind} feature holds numbers that are not finite; the encoder's weights are "
                "damaged or its precision is too low"
            )
    rows = []
    for position, place in enumerate(places):
        sha256 = view_sha256(views[position])
        row: dict[str, Any] = {"key": place.key, "image_id": place.image_id, "k": place.k, "view_sha256": sha256}
        for kind in kinds:
            value = values[kind][position]
            row[kind] = value.reshape(-1)
            row[digest_column(kind)] = feature_digest(place.key, sha256, value)
        rows.append(row)
    return EncodedViews(rows, {kind: tuple(value.shape[1:]) for kind, value in values.items()}, features.grid)


def features_schema(shapes: Mapping[Kind, tuple[int, ...]]) -> pa.Schema:
    """Returns the columns of a feature file; `shapes` are those of one view's features."""
    fields = [("key", pa.string()), ("image_id", pa.string()), ("k", pa.int32()), ("view_sha256", pa.string())]
    for kind, shape in shapes.items():
        fields += [(kind, pa.list_(pa.float32(), int(np.prod(shape)))), (digest_column(kind), pa.string())]
    return pa.schema(fields)


def digest_column(kind: str) -> str:
    """Returns the name of the column that seals the features of a kind."""
    return f"{kind}_sha256"


def feature_digest(key: str, sha256: str, value: np.ndarray) -> str:
    """Returns the hash over a view's key, the hash of its pixels and its feature (as little-endian float32)."""
    return digest_of_bytes(key.encode(), sha256.encode(), np.ascontiguousarray(value, dtype="<f4").tobytes())
