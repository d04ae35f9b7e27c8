"""The held-out studies that images are drawn for and judged against, and the guards that keep them held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.corpus.contents import corpus_exposure, image_contents
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.provenance import Exposure, encoder_exposure, require_disjoint
from arra_med.errors import EvaluationError, OverlapError
from arra_med.models.bundle import BundleInfo
from arra_med.records.study import Split, StudyRecord


@dataclass(frozen=True)
class HeldOutStudies:
    """Some held-out studies of a set, in an order that depends on their `image_id`s alone.

    Attributes:
        studies: The selection of the study set that `rows` count in.
        rows: Their places in it.
        records: What is known about them.
        views: uint8 (n, C, S, S).
        num_repeated: Held-out images left out because another image of the set shows the same picture.
    """

    studies: StudySet
    rows: tuple[int, ...]
    records: tuple[StudyRecord, ...]
    views: np.ndarray
    num_repeated: int

    @property
    def patients(self) -> list[str]:
        """Whose image each row is, as keyed hashes."""
        return [record.patient_id for record in self.records]


def held_out_studies(
    studies: StudySet, split: Split, sources: Sequence[str] = (), num_images: int | None = None, *, at_least: int = 1
) -> HeldOutStudies:
    """Chooses held-out studies.

    A picture that stands in the set twice is left out: the other one may be in training, and copies within a set bias
    distances.

    Args:
        studies: The whole study set.
        split: `validation` for choices, `test` for what is reported once.
        sources: Which sources; all of them if empty.
        num_images: How many; the same first ones whatever the number. All of them by default.
        at_least: How many are needed.

    Raises:
        EvaluationError: If the split is `train`, or the studies are too few.
        OverlapError: If one of their patients is in the training split.
    """
    if split == "train":
        raise EvaluationError("split train is what models learned from: judge on validation or test")
    chosen = studies.select(split=split)
    records, repeated = chosen.records(), _repeated_images(studies)
    of_sources = [row for row, record in enumerate(records) if not sources or record.source in sources]
    rows = sorted(
        (row for row in of_sources if records[row].image_id not in repeated), key=lambda r: _order(records[r])
    )
    if len(rows) < max(at_least, num_images or 0):
        raise EvaluationError(
            f"the study set has {len(rows)} {split} images of sources {', '.join(sources) or '(any)'} and "
            f"{max(at_least, num_images or 0)} are needed: choose other sources or another split, or ingest more"
        )
    rows = rows[: num_images or len(rows)]
    trained = {record.patient_id for record in studies.select(split="train").records()}
    both = {records[row].patient_id for row in rows} & trained
    if both:
        raise OverlapError(
            f"{len(both)} patients of the {split} images are in the training split, too: ingest with splits that are "
            "disjoint by patient"
        )
    views = np.stack([chosen.view(row) for row in rows])
    left_out = len(of_sources) - sum(records[row].image_id not in repeated for row in of_sources)
    return HeldOutStudies(chosen, tuple(rows), tuple(records[row] for row in rows), views, left_out)


def training_views(studies: StudySet, sources: Sequence[str], num_images: int) -> np.ndarray:
    """Returns real training images uint8 (n, C, S, S) of the sources, at most so many: for a judge's projection.

    Raises:
        EvaluationError: If there are fewer than 2.
    """
    chosen = studies.select(split="train")
    records = chosen.records()
    rows = [row for row, record in enumerate(records) if not sources or record.source in sources]
    if len(rows) < 2:
        raise EvaluationError(
            f"the study set has {len(rows)} training images of sources {', '.join(sources) or '(any)'}: a projection "
            "needs real training images"
        )
    rows = sorted(rows, key=lambda row: _order(records[row]))[:num_images]
    return np.stack([chosen.view(row) for row in rows])


def require_fair_judge(
    encoder: FrozenEncoder, name: str, studies: StudySet, held_out: HeldOutStudies, bundle: BundleInfo | None
) -> list[str]:
    """Makes sure that a judge was not the bundle's teacher, and knows neither the training images nor the held-out ones.

    Args:
        encoder: The judge.
        name: What it was loaded from.
        studies: The whole study set.
        held_out: What is judged against.
        bundle: What drew the images, where that is known.

    Returns:
        One sentence for each thing that nobody recorded.

    Raises:
        OverlapError: If weights, images or labels overlap.
    """
    teachers = bundle.training.get("teachers", []) if bundle is not None else []
    others = [Exposure(f"the teacher {told['name']}", frozenset({told["sha256"]})) for told in teachers]
    others.append(corpus_exposure("the generator's training split", studies))
    own = image_contents(held_out.studies, held_out.rows)
    others.append(Exposure("the held-out images", frozenset(), own))
    unknown = require_disjoint(encoder_exposure(encoder, name), others)
    if bundle is None:
        return [*unknown, "what drew the images is not known, so its teachers and training images are not either"]
    if bundle.training.get("study_set_sha256") != studies.content_sha256:
        unknown.append(
            f"{bundle.name} was trained on another study set than this one, or on another version of it: that it never "
            "saw a held-out patient rests on equal splits of both"
        )
    return unknown


def _order(record: StudyRecord) -> bytes:
    return hashlib.sha256(f"held out {record.image_id}".encode()).digest()


def _repeated_images(studies: StudySet) -> set[str]:
    """Images whose picture stands in the set twice: near copies that ingestion found, and equal pixels."""
    pairs = studies.duplicates
    repeated = {*pairs, *pairs.values()}
    if "view_sha256" in studies.dataset.column_names:
        first: dict[str, str] = {}
        for image_id, pixels in zip(studies.dataset["image_id"], studies.dataset["view_sha256"], strict=True):
            if pixels in first:
                repeated |= {image_id, first[pixels]}
            first.setdefault(pixels, image_id)
    return repeated
