"""What an encoder has been near: the description of one that was trained here, and the guard that keeps judges apart.

Everything is compared by content and nothing by name: weights by the hash of their tensors, images by the hash of
their pixels and of their files, labels by the keyed hash of what a study says. The guard stands beside the
description's writer and reader, below training and evaluation, so that both use the same one.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from arra_med.config import StrictModel
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.hub import display_name, read_json
from arra_med.errors import EncoderError, OverlapError
from arra_med.imaging.view import CanonicalView
from arra_med.runs import atomic_file, sha256_json, write_json

FORMAT_VERSION = 1
DESCRIPTION_FILE = "provenance.json"
IMAGES_FILE = "training_images.csv"


class ImageContent(NamedTuple):
    """One training image by content; it names no one, but who holds the image can tell that it was used.

    Attributes:
        view_sha256: Of the canonical view's pixels; equal only for the same kind of view.
        file_hash: Keyed hash of the image file's bytes; empty where the study set does not know it.
        label_hash: Keyed hash of patient, labels and report; empty where no label was looked at.
    """

    view_sha256: str
    file_hash: str
    label_hash: str


class ImageContents(NamedTuple):
    """The images that a network learned from.

    Attributes:
        rows: One for each image, sorted.
        spec: The canonical view of all of them.
        key_id: Names the key of the keyed hashes.
    """

    rows: tuple[ImageContent, ...]
    spec: CanonicalView
    key_id: str | None

    @property
    def sha256(self) -> str:
        """Hash of the sorted list."""
        return sha256_json([list(row) for row in self.rows])


class EncoderProvenance(StrictModel):
    """What `provenance.json` says of an encoder that was trained here.

    Attributes:
        format_version: Of this file and the list of images.
        name: What tables call the encoder.
        kind: `clip`, `classifier` or `autoencoder`.
        weights_sha256: Fingerprint of the encoder as it is loaded (`FrozenEncoder.fingerprint`).
        initialisation_sha256: Fingerprints of the weights that the image network started from: as they were before the
            first step and, where they came from another encoder, that encoder's.
        initialisation: `random`, or the name of the encoder that it started from.
        label_source: What supervised it: report wordings, findings, or the images alone.
        study_set_sha256: Identifies the study set.
        spec: The canonical view of its images.
        key_id: Names the key of the keyed hashes.
        num_images: Training images.
        images_sha256: Hash of the sorted list in `training_images.csv`.
        config: The resolved settings, the fold of patients among them.
        steps: Optimiser steps.
        seed: Of initialisation, order, wordings and augmentation.
        device: Where it was trained.
        versions: Of Python and the libraries.
    """

    format_version: int = FORMAT_VERSION
    name: str
    kind: str
    weights_sha256: str
    initialisation_sha256: tuple[str, ...]
    initialisation: str
    label_source: str
    study_set_sha256: str
    spec: CanonicalView
    key_id: str | None
    num_images: int
    images_sha256: str
    config: dict[str, Any]
    steps: int
    seed: int
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Exposure:
    """What a network has been near.

    Attributes:
        name: For messages.
        weights: Fingerprints of its weights and of those it started from.
        images: What it learned from, or `None` where nobody recorded it (published weights).
    """

    name: str
    weights: frozenset[str]
    images: ImageContents | None = None


def write_provenance(folder: Path, provenance: EncoderProvenance, images: ImageContents) -> None:
    """Writes `training_images.csv` and `provenance.json` into an encoder's folder, atomically."""
    with atomic_file(folder / IMAGES_FILE) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(ImageContent._fields)
        writer.writerows(images.rows)
    write_json(folder / DESCRIPTION_FILE, provenance.model_dump(mode="json"))


def recorded_name(folder: Path) -> str | None:
    """Returns what an encoder that was trained here is called, `None` for any other folder or file.

    Raises:
        EncoderError: If the description is damaged.
    """
    path = folder / DESCRIPTION_FILE
    return str(read_json(path).get("name") or folder.name) if path.is_file() else None


def read_provenance(folder: Path) -> tuple[EncoderProvenance, ImageContents]:
    """Reads the description of an encoder that was trained here, and the images it learned from.

    Raises:
        EncoderError: If a file is missing, damaged or of another format version, or the list is not the one described.
    """
    values = read_json(folder / DESCRIPTION_FILE)
    if values.get("format_version") != FORMAT_VERSION:
        raise EncoderError(
            f"{folder / DESCRIPTION_FILE}: has format version {values.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}: train the encoder again"
        )
    try:
        provenance = EncoderProvenance.model_validate(values)
        with (folder / IMAGES_FILE).open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        contents = ImageContents(tuple(ImageContent(*row) for row in rows), provenance.spec, provenance.key_id)
    except (pydantic.ValidationError, OSError, ValueError, TypeError):
        raise EncoderError(
            f"{folder}: {DESCRIPTION_FILE} or {IMAGES_FILE} is missing or damaged: train the encoder again"
        ) from None
    if tuple(header) != ImageContent._fields or contents.sha256 != provenance.images_sha256:
        raise EncoderError(f"{folder / IMAGES_FILE}: is not the list that {DESCRIPTION_FILE} describes: train again")
    return provenance, contents


def encoder_exposure(encoder: FrozenEncoder, model: str) -> Exposure:
    """Returns what a loaded encoder has been near.

    Args:
        encoder: As loaded.
        model: What it was loaded from: a folder that tells its own provenance, or any other name.

    Raises:
        EncoderError: If the folder's provenance is damaged, or is that of other weights.
    """
    folder = Path(model.partition(":")[2] if ":" in model and not Path(model).is_dir() else model)
    if not (folder / DESCRIPTION_FILE).is_file():
        return Exposure(encoder.name, frozenset({encoder.fingerprint}))
    provenance, images = read_provenance(folder)
    if provenance.weights_sha256 != encoder.fingerprint:
        raise EncoderError(
            f"{display_name(str(folder))}: its {DESCRIPTION_FILE} describes weights {provenance.weights_sha256[:12]}, "
            f"loaded were {encoder.fingerprint[:12]}: restore the folder or train the encoder again"
        )
    return Exposure(provenance.name, frozenset({encoder.fingerprint, *provenance.initialisation_sha256}), images)


def require_disjoint(judge: Exposure, others: Sequence[Exposure]) -> list[str]:
    """Makes sure that a judge has been near nothing that it is to judge.

    Args:
        judge: The judge.
        others: The teachers, and the generators' corpus.

    Returns:
        One sentence for each thing that could not be looked at, because nobody recorded it.

    Raises:
        OverlapError: If weights, initialisation, training images or labels overlap, or images cannot be compared; the
            message lists every overlap and how many images there are.
    """
    problems: list[str] = []
    unknown: list[str] = []
    for other in others:
        if shared := judge.weights & other.weights:
            problems.append(f"weights or initialisation {min(shared)[:12]} of judge and {other.name} are the same")
        if judge.images is None or other.images is None:
            silent = judge.name if judge.images is None else other.name
            unknown.append(
                f"what images {silent} learned from is not recorded: {judge.name} and {other.name} were compared by "
                "weights alone"
            )
        else:
            problems += _image_overlaps(judge.images, other.images, other.name)
    if problems:
        raise OverlapError(
            f"{judge.name} cannot judge: {'; '.join(problems)}. Train the judge on another fold of patients, from "
            "another initialisation"
        )
    return list(dict.fromkeys(unknown))


def _image_overlaps(judge: ImageContents, other: ImageContents, name: str) -> list[str]:
    same_view, same_key = judge.spec == other.spec, judge.key_id == other.key_id and judge.key_id is not None
    if not same_view and not (same_key and _all_known(judge.rows) and _all_known(other.rows)):
        return [
            f"its images cannot be compared with those of {name}: neither the canonical view nor the key of the file "
            "hashes is the same, so ingest both with one of them"
        ]
    views = {row.view_sha256 for row in other.rows} if same_view else set()
    files = {row.file_hash for row in other.rows} - {""} if same_key else set()
    labels = {row.label_hash for row in other.rows} - {""} if same_key else set()
    shared = [row for row in judge.rows if row.view_sha256 in views or row.file_hash in files]
    labelled = sum(row.label_hash in labels for row in set(judge.rows) - set(shared))
    told = []
    if shared:
        told.append(f"{len(shared)} of its {len(judge.rows)} training images are among the {len(other.rows)} of {name}")
    if labelled:
        told.append(f"{labelled} other training images carry a patient and labels of {name}")
    return told


def _all_known(rows: Iterable[ImageContent]) -> bool:
    return all(row.file_hash for row in rows)
