"""Tokenisation: a study set becomes a corpus of image codes, reports and labels; the corpus's writer and its reader.

A corpus is a folder of `shard-*.parquet`, image by image, and `corpus.json`, which is written last.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arra_med.config import Device, StrictModel, resolve_device
from arra_med.corpus.corpus_shards import SHARD_ROWS, CorpusRun, CorpusWorker
from arra_med.corpus.description import read_description, write_description
from arra_med.corpus.engine import LOCAL, EngineChoice, require_visible, run_shards
from arra_med.corpus.parquet import (
    clear_disk_errors,
    clear_leftovers,
    is_finished,
    open_dataset,
    progress_bar,
    shard_path,
    shard_paths,
)
from arra_med.corpus.study_rows import RECORD_FIELDS, record_of
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import plan_views, view_key
from arra_med.errors import CorpusError
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import LicenceClass
from arra_med.records.study import StudyRecord
from arra_med.records.wording import canonical_labels
from arra_med.runs import sha256_file, sha256_json, versions
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

FORMAT_VERSION = 1
DESCRIPTION_FILE = "corpus.json"


class CorpusInfo(StrictModel):
    """What `corpus.json` says.

    Attributes:
        format_version: Of this file and the shards.
        spec: The canonical view that was tokenised.
        grid: Rows and columns of codes of one image.
        codebook_size: Codes lie in [0, codebook_size).
        tokenizer_sha256: Identifies the image tokenizer (its configuration and weights).
        study_set_sha256: Identifies the study set.
        num_views: Views of each training study; other studies have one.
        seed: Of the augmentation.
        num_images: Studies.
        num_rows: Views of all studies.
        split_counts: Studies by split.
        label_counts: Studies by split and harmonised label.
        sources: Data cards that stand behind the rows.
        licence_class: The strictest class of any row.
        attributions: Words to show beside the images, by source.
        shards: Fingerprint of every shard.
        versions: Of Python and the libraries.
    """

    format_version: int
    spec: CanonicalView
    grid: tuple[int, int]
    codebook_size: int
    tokenizer_sha256: str
    study_set_sha256: str
    num_views: int
    seed: int
    num_images: int
    num_rows: int
    split_counts: dict[str, int]
    label_counts: dict[str, dict[str, int]]
    sources: tuple[str, ...]
    licence_class: LicenceClass
    attributions: dict[str, tuple[str, ...]]
    shards: tuple[str, ...]
    versions: dict[str, str]


def tokenize(
    studies: Path,
    tokenizer: Path,
    out: Path,
    *,
    views: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    device: Device = "auto",
    engine: EngineChoice = LOCAL,
    progress: bool = True,
) -> CorpusInfo:
    """Encodes the views of a study set; finished shards whose input and settings are unchanged are kept.

    Args:
        studies: Folder of the study set.
        tokenizer: Folder of the image tokenizer.
        out: Folder of the corpus.
        views: Views of each training study: the canonical one and `views - 1` seeded variants.
        seed: Of the variants; teacher features need the same.
        batch_size: Views encoded at once.
        device: Where the tokenizer runs.
        engine: Which machines do it; under Ray `studies`, `tokenizer` and `out` lie where all of them see them.
        progress: Whether to show a progress bar.

    Raises:
        StudySetError: If the study set is missing or damaged.
        TokenizerError: If the tokenizer is missing or damaged.
        EngineError: If there is no such cluster, or its machines do not see the same files.
        CorpusError: If they do not fit together, or `out` cannot be written.
    """
    study_set = StudySet.open(studies)
    image_tokenizer = load_image_tokenizer(tokenizer, resolve_device(device if engine.kind == "local" else "cpu"))
    _check_fit(study_set.spec, image_tokenizer)
    tokenizer_sha256 = folder_sha256(tokenizer)
    places = plan_views(study_set, views)
    sizes = [min(SHARD_ROWS, len(places) - start) for start in range(0, len(places), SHARD_ROWS)]
    told = [FORMAT_VERSION, study_set.content_sha256, tokenizer_sha256, views, seed, SHARD_ROWS]
    fingerprints = [sha256_json([*told, index]) for index in range(len(sizes))]
    records = study_set.records()
    run = CorpusRun(studies, tokenizer, out, views, seed, batch_size, device, SHARD_ROWS, fingerprints)
    worker = CorpusWorker(run, (study_set, image_tokenizer) if engine.kind == "local" else None)
    with clear_disk_errors(CorpusError, out), progress_bar("tokenising", len(places), progress) as advance:
        out.mkdir(parents=True, exist_ok=True)
        files = [shard_path(out, index) for index in range(len(sizes))]
        unfinished = [i for i, name in enumerate(fingerprints) if not is_finished(files[i], name)]
        unfinished_sizes = [sizes[index] for index in unfinished]
        advance(len(places) - sum(unfinished_sizes))
        if unfinished:
            (out / DESCRIPTION_FILE).unlink(missing_ok=True)
            clear_leftovers(out)
            for done in run_shards(worker, unfinished, unfinished_sizes, advance, engine, device=device):
                require_visible(files[done["shard"]], fingerprints[done["shard"]])
        for stale in set(shard_paths(out)) - set(files):
            stale.unlink()
        info = CorpusInfo(
            format_version=FORMAT_VERSION,
            spec=study_set.spec,
            grid=image_tokenizer.grid,
            codebook_size=image_tokenizer.codebook_size,
            tokenizer_sha256=tokenizer_sha256,
            study_set_sha256=study_set.content_sha256,
            num_views=views,
            seed=seed,
            num_images=len(records),
            num_rows=len(places),
            split_counts=dict(sorted(Counter(str(record.split) for record in records).items())),
            label_counts=count_labels(records),
            sources=study_set.info.sources,
            licence_class=study_set.info.licence_class,
            attributions=study_set.info.attributions,
            shards=tuple(fingerprints),
            versions=versions(),
        )
        write_description(out / DESCRIPTION_FILE, info)
    return info


def count_labels(records: Sequence[StudyRecord]) -> dict[str, dict[str, int]]:
    """Counts studies by split and harmonised label; a study without labels counts as `unlabelled`."""
    counters: dict[str, Counter[str]] = {}
    for record in records:
        counters.setdefault(str(record.split), Counter()).update(canonical_labels(record) or ("unlabelled",))
    return {split: dict(sorted(counter.items())) for split, counter in sorted(counters.items())}


def folder_sha256(folder: Path) -> str:
    """Returns a hash of the names and bytes of a folder's configuration and weight files."""
    files = sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")])
    return sha256_json({file.name: sha256_file(file) for file in files})


class Corpus:
    """A finished corpus.

    Attributes:
        info: What `corpus.json` says.
        records: One record for each image; `path` is empty and `patient_id` is the patient's hash.
        dataset: The rows, memory-mapped, with the columns of `CORPUS_SCHEMA`.
    """

    def __init__(self, folder: Path, info: CorpusInfo, dataset: "Dataset") -> None:
        self.folder = folder
        self.info = info
        self.dataset = dataset
        ks = list(dataset["k"])
        self._first_rows = [row for row, k in enumerate(ks) if k == 0]
        stops = [*self._first_rows[1:], len(ks)]
        self._num_views = [stop - start for start, stop in zip(self._first_rows, stops, strict=True)]
        columns = dataset.select_columns([name for name, _ in RECORD_FIELDS])
        self.records: list[StudyRecord] = [record_of(row) for row in columns.select(self._first_rows)]
        expected = [self.key(image, k) for image in range(len(self)) for k in range(self._num_views[image])]
        if expected != list(dataset["key"]) or len(self) != info.num_images or len(ks) != info.num_rows:
            raise CorpusError(f"{folder}: its rows are not the ones {DESCRIPTION_FILE} tells of; tokenize again")
        self._codes = dataset.select_columns(["codes"]).with_format("arrow")

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Opens the corpus in `folder`.

        Raises:
            CorpusError: If the folder holds no finished corpus, or a damaged or mixed one.
        """
        info = read_corpus_info(folder)
        files = [shard_path(folder, index) for index in range(len(info.shards))]
        for file, fingerprint in zip(files, info.shards, strict=True):
            if not is_finished(file, fingerprint):
                raise CorpusError(f"{folder}: {file.name} is missing, damaged or from another run; tokenize again")
        try:
            dataset = open_dataset(files, folder)
        except OSError as error:
            raise CorpusError(f"{folder}: cannot be read ({error.strerror or 'damaged'}); tokenize again") from None
        return cls(folder, info, dataset)

    def __len__(self) -> int:
        return len(self._first_rows)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes of one image."""
        return self.info.grid

    @property
    def metadata(self) -> dict[str, Any]:
        """What `corpus.json` says, as JSON values: for a bundle's provenance."""
        return self.info.model_dump(mode="json")

    def num_views(self, image: int) -> int:
        """Returns how many views an image (index into `records`) has."""
        return self._num_views[image]

    def key(self, image: int, k: int) -> str:
        """Returns the key of the k-th view of an image."""
        return view_key(self.records[image].image_id, k)

    def codes(self, image: int, k: int = 0) -> torch.Tensor:
        """Returns the codes of the k-th view of an image as int64 (h, w).

        Raises:
            CorpusError: If the image has no such view.
        """
        column = self._codes[self._row(image, k)].column("codes").combine_chunks()
        return torch.from_numpy(column.values.to_numpy(zero_copy_only=False).astype(np.int64)).view(self.grid)

    def view_hashes(self, images: Sequence[int]) -> dict[str, str]:
        """Returns the SHA-256 of the pixels of every view of some images, by key."""
        hashes = self.dataset["view_sha256"][:]
        return {self.key(i, k): hashes[self._row(i, k)] for i in images for k in range(self._num_views[i])}

    def _row(self, image: int, k: int) -> int:
        if not 0 <= k < self._num_views[image]:
            raise CorpusError(
                f"image {image} of the corpus has {self._num_views[image]} views, number {k} was asked for"
            )
        return self._first_rows[image] + k


def read_corpus_info(folder: Path) -> CorpusInfo:
    """Reads `corpus.json`.

    Raises:
        CorpusError: If it is missing, damaged or of another format version.
    """
    return read_description(
        folder / DESCRIPTION_FILE,
        CorpusInfo,
        format_versions=(FORMAT_VERSION,),
        what="corpus",
        command="arra-med tokenize STUDIES --out FOLDER",
        error=CorpusError,
    )


def _check_fit(spec: CanonicalView, tokenizer: ImageTokenizer) -> None:
    if (tokenizer.size_px, tokenizer.channels) != (spec.size_px, spec.channels):
        raise CorpusError(
            f"the tokenizer takes {tokenizer.size_px} px with {tokenizer.channels} channel(s), the study set has "
            f"{spec.size_px} px with {spec.channels}; choose a tokenizer trained on such a study set"
        )
