"""Teacher features: what a frozen encoder says of every view of a study set; the file's writer and its reader.

One Parquet file for one encoder. Every row carries its key, the hash of the pixels the encoder saw and, for every
feature, a hash over key, pixels and numbers: a shuffled, exchanged or damaged row cannot pass for another one.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
import pyarrow.parquet as pq
import pydantic
import torch

from arra_med.config import Device, resolve_device
from arra_med.corpus.engine import LOCAL, EngineChoice, require_visible, run_shards
from arra_med.corpus.feature_shards import (
    SHARD_ROWS,
    FeaturesInfo,
    FeaturesRun,
    FeaturesWorker,
    Kind,
    digest_column,
    encode_views,
    feature_digest,
    features_schema,
)
from arra_med.corpus.folds import PatientFold
from arra_med.corpus.parquet import (
    clear_disk_errors,
    footer,
    is_finished,
    open_dataset,
    progress_bar,
    read_metadata,
    shard_path,
)
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import plan_views
from arra_med.encoders import load_encoder
from arra_med.errors import CorpusError
from arra_med.runs import atomic_file, sha256_json, versions

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT_VERSION = 1
PERMUTED_PREFIX = "permuted:"


def extract_features(
    studies: Path,
    encoder: str,
    out: Path,
    *,
    views: int = 1,
    seed: int = 0,
    kinds: Sequence[Kind] = ("mean",),
    sources: Sequence[str] = (),
    fold: PatientFold | None = None,
    batch_size: int = 32,
    device: Device = "auto",
    engine: EngineChoice = LOCAL,
    progress: bool = True,
) -> FeaturesInfo:
    """Encodes the views of a study set with a frozen encoder into one Parquet file.

    A stopped run goes on where it was: finished parts wait in a hidden folder beside `out`, which a finished file
    replaces. A finished file of the same input and settings is kept.

    Args:
        studies: Folder of the study set.
        encoder: What `arra_med.encoders.load_encoder` takes: a short name or a folder. `permuted:NAME` gives each view
            the feature of another study's view (of training studies for training studies), a control teacher that tells nothing of the image.
        out: The file.
        views: Views of each training study, as the corpus has them.
        seed: Of the augmentation, as the corpus has it.
        kinds: Features to keep.
        sources: With `permuted:`, those of the training that will use the file: what it takes is exchanged among itself.
        fold: Likewise its patients; `None` takes all.
        batch_size: Views encoded at once.
        device: Where the encoder runs.
        engine: Which machines do it; under Ray `studies` and `out` lie where all of them see them.
        progress: Whether to show a progress bar.

    Raises:
        StudySetError: If the study set is missing or damaged.
        EncoderError: If the encoder cannot be loaded or has no such feature.
        CorpusError: If a kind is unknown or `out` cannot be written.
        EngineError: If there is no such cluster, or its machines do not see the same files.
    """
    unknown = sorted(set(kinds) - set(get_args(Kind)))
    if unknown or not kinds:
        raise CorpusError(f"feature kinds {unknown or 'none'} are not known: use some of {', '.join(get_args(Kind))}")
    study_set = StudySet.open(studies)
    permuted = encoder.startswith(PERMUTED_PREFIX)
    encoder = encoder.removeprefix(PERMUTED_PREFIX)
    teacher = load_encoder(encoder).to(resolve_device(device if engine.kind == "local" else "cpu"))
    places = plan_views(study_set, views)
    name = f"{PERMUTED_PREFIX}{teacher.name}" if permuted else teacher.name
    told = [FORMAT_VERSION, study_set.content_sha256, name, teacher.fingerprint, views, seed, sorted(kinds)]
    chosen = (tuple(sources), fold or PatientFold()) if permuted else ((), PatientFold())
    if chosen != ((), PatientFold()):
        told.append([list(chosen[0]), chosen[1].model_dump()])
    fingerprint = sha256_json([*told, SHARD_ROWS])
    if is_finished(out, fingerprint):
        return read_features(out).info
    parts_folder = out.with_name(f".{out.name}.parts")
    sizes = [min(SHARD_ROWS, len(places) - start) for start in range(0, len(places), SHARD_ROWS)]
    first = encode_views(study_set, places[:1], seed, teacher, kinds, places[:1])
    run = FeaturesRun(
        studies,
        encoder,
        permuted,
        *chosen,
        parts_folder,
        views,
        seed,
        tuple(kinds),
        batch_size,
        device,
        SHARD_ROWS,
        fingerprint,
    )
    worker = FeaturesWorker(run, (study_set, teacher) if engine.kind == "local" else None)
    with clear_disk_errors(CorpusError, out), progress_bar("encoding", len(places), progress) as advance:
        parts_folder.mkdir(parents=True, exist_ok=True)
        files = [shard_path(parts_folder, index) for index in range(len(sizes))]
        unfinished = [index for index, file in enumerate(files) if not is_finished(file, fingerprint)]
        unfinished_sizes = [sizes[index] for index in unfinished]
        advance(len(places) - sum(unfinished_sizes))
        for done in run_shards(worker, unfinished, unfinished_sizes, advance, engine, device=device):
            require_visible(files[done["shard"]], fingerprint)
        info = FeaturesInfo(
            format_version=FORMAT_VERSION,
            name=name,
            encoder_sha256=teacher.fingerprint,
            shapes=first.shapes,
            patch_grid=first.grid,
            study_set_sha256=study_set.content_sha256,
            num_views=views,
            seed=seed,
            num_rows=len(places),
            fingerprint=fingerprint,
            versions=versions(),
        )
        described = features_schema(first.shapes).with_metadata(footer(info.model_dump(mode="json")))
        with atomic_file(out) as partial, pq.ParquetWriter(partial, described, compression="zstd") as writer:
            for file in files:
                writer.write_table(pq.read_table(file).replace_schema_metadata(described.metadata))
        shutil.rmtree(parts_folder, ignore_errors=True)
    return info


class TeacherFeatures:
    """An open feature file.

    Attributes:
        info: What its footer says.
        name: The encoder's name.
    """

    def __init__(self, path: Path, info: FeaturesInfo, dataset: "Dataset") -> None:
        self.path = path
        self.info = info
        self.name = info.name
        self._rows = {key: row for row, key in enumerate(dataset["key"])}
        self._hashes: list[str] = dataset["view_sha256"][:]
        self._columns = {
            kind: dataset.select_columns([kind, digest_column(kind)]).with_format("arrow") for kind in info.shapes
        }
        if len(self._rows) != len(dataset) or len(dataset) != info.num_rows:
            raise CorpusError(
                f"{path}: {len(dataset)} rows, {len(self._rows)} keys, {info.num_rows} told: extract again"
            )

    def __len__(self) -> int:
        return len(self._hashes)

    def width(self, feature: str) -> int:
        """Returns the channels of a feature; `cls+mean` is both side by side.

        Raises:
            CorpusError: If the file does not hold it.
        """
        shapes = [self._shape(kind) for kind in feature.split("+")]
        if len({len(shape) for shape in shapes}) > 1:
            raise CorpusError(f"{self.path}: {feature} joins global and patch features; join global ones alone")
        return sum(shape[-1] for shape in shapes)

    def get(self, keys: Sequence[str], feature: str) -> torch.Tensor:
        """Returns the features of some views.

        Args:
            keys: `image_id#k` of each of B views.
            feature: A kind, or several joined by `+`, which stand side by side.

        Returns:
            float32 (B, D), or (B, N, D) for `patch`.

        Raises:
            CorpusError: If a key or the feature is missing, or a row is not what was written for its key.
        """
        return torch.cat([self._get_kind(keys, kind) for kind in feature.split("+")], dim=-1)

    def require(self, study_set_sha256: str, view_hashes: Mapping[str, str]) -> None:
        """Makes sure that this file was extracted from the very views that a corpus holds.

        Args:
            study_set_sha256: Of the corpus.
            view_hashes: SHA-256 of the pixels by key, for every view that will be asked for.

        Raises:
            CorpusError: If the study set is another one, a key is missing, or a view has other pixels.
        """
        if self.info.study_set_sha256 != study_set_sha256:
            raise CorpusError(
                f"{self.path}: extracted from study set {self.info.study_set_sha256[:12]}, the corpus comes from "
                f"{study_set_sha256[:12]}; run arra-med features on the corpus's study set"
            )
        missing = [key for key in view_hashes if key not in self._rows]
        if missing:
            raise CorpusError(
                f"{self.path}: {len(missing)} of {len(view_hashes)} views of the corpus are missing, the first is "
                f"{missing[0]}; run arra-med features with the corpus's number of views"
            )
        other = [key for key, sha256 in view_hashes.items() if self._hashes[self._rows[key]] != sha256]
        if other:
            raise CorpusError(
                f"{self.path}: {len(other)} of {len(view_hashes)} views have other pixels than the corpus's, the first "
                f"is {other[0]}; run arra-med features with the corpus's seed (shuffled keys look like this, too)"
            )

    def _get_kind(self, keys: Sequence[str], kind: str) -> torch.Tensor:
        shape = self._shape(kind)
        try:
            rows = [self._rows[key] for key in keys]
        except KeyError as error:
            raise CorpusError(
                f"{self.path}: has no features for {error.args[0]}; run arra-med features again"
            ) from None
        table = self._columns[kind][rows]  # type: ignore[index]
        chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table.column(kind).chunks]
        values = np.concatenate(chunks).reshape(len(rows), *shape)
        digests = table.column(digest_column(kind)).to_pylist()
        for key, row, value, digest in zip(keys, rows, values, digests, strict=True):
            if digest != feature_digest(key, self._hashes[row], value):
                raise CorpusError(
                    f"{self.path}: the {kind} features of {key} are not those that were written for it (shuffled or "
                    "damaged file); run arra-med features again"
                )
        return torch.from_numpy(values.copy())

    def _shape(self, kind: str) -> tuple[int, ...]:
        for known, shape in self.info.shapes.items():
            if known == kind:
                return shape
        there = ", ".join(self.info.shapes)
        raise CorpusError(f"{self.path}: holds {there}, feature {kind!r} was asked for; run arra-med features with it")


class TeacherFeature(NamedTuple):
    """One feature of an open file: what a training aligns to.

    Attributes:
        file: The file.
        name: A kind, or several joined by `+`.
    """

    file: TeacherFeatures
    name: str

    @property
    def width(self) -> int:
        """Its channels."""
        return self.file.width(self.name)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Patches down and across, of patch features."""
        return self.file.info.patch_grid if self.name == "patch" else None

    def get(self, keys: Sequence[str]) -> torch.Tensor:
        """As `TeacherFeatures.get`."""
        return self.file.get(keys, self.name)

    def require(self, study_set_sha256: str, view_hashes: Mapping[str, str]) -> None:
        """As `TeacherFeatures.require`; the file must hold the feature, too."""
        self.file.width(self.name)
        self.file.require(study_set_sha256, view_hashes)


def read_features(path: Path) -> TeacherFeatures:
    """Opens a feature file.

    Raises:
        CorpusError: If it is missing, damaged or not a feature file of this version.
    """
    if not path.is_file():
        raise CorpusError(f"{path}: no such feature file; run arra-med features STUDIES --teacher NAME --out {path}")
    try:
        info = FeaturesInfo.model_validate(read_metadata(path))
        dataset = open_dataset([path], path.parent)
    except (pydantic.ValidationError, OSError):
        raise CorpusError(f"{path}: is damaged or no teacher feature file; run arra-med features again") from None
    if info.format_version != FORMAT_VERSION:
        raise CorpusError(f"{path}: has format version {info.format_version}, this program reads {FORMAT_VERSION}")
    return TeacherFeatures(path, info, dataset)
