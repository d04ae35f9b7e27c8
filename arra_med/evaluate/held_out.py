"""Which rows trained a model, which real images are held out from it, and the guards that keep them held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError

from arra_med.corpus.contents import image_contents
from arra_med.corpus.folds import PatientFold, trains
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.views import digest_of_bytes
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.provenance import Exposure, ImageContents, encoder_exposure, require_disjoint
from arra_med.errors import EvaluationError, OverlapError, StudySetError
from arra_med.models.bundle import BundleInfo
from arra_med.records.study import Split, StudyRecord

TrainedOn = Callable[[StudyRecord], bool]
"""Whether a bundle was trained on a row of its study set."""


def trained_on(info: BundleInfo) -> TrainedOn:
    """Reads from a bundle's recorded settings which rows trained it: its sources' train split, one fold of patients.

    A row of the train split outside of these is as held out as one of another split.

    Raises:
        EvaluationError: If the recorded fold cannot be read.
    """
    settings = info.training.get("settings", {})
    sources = tuple(settings.get("sources") or ())
    try:
        fold = PatientFold.model_validate(settings.get("fold") or {})
    except ValidationError:
        raise EvaluationError(
            f"bundle {info.name}: its recorded fold of patients cannot be read; copy the bundle again"
        ) from None

    def trained(record: StudyRecord) -> bool:
        return trains(record, sources, fold)

    return trained


@dataclass(frozen=True)
class RealImages:
    """Some rows of a study set.

    Attributes:
        records: What is known about them.
        views: uint8 (n, C, S, S).
    """

    records: tuple[StudyRecord, ...]
    views: np.ndarray

    @property
    def patients(self) -> list[str]:
        """Whose image each row is, as keyed hashes."""
        return [record.patient_id for record in self.records]


@dataclass(frozen=True)
class HeldOutStudies(RealImages):
    """Some held-out studies of a set, in an order that depends on their `image_id`s alone.

    Attributes:
        studies: The selection of the study set that `rows` count in.
        rows: Their places in it.
        num_repeated: Held-out images left out because another image of the set shows the same picture.
    """

    studies: StudySet
    rows: tuple[int, ...]
    num_repeated: int

    def first(self, num: int) -> "HeldOutStudies":
        """Returns the first so many, or all where there are no more."""
        return replace(self, records=self.records[:num], views=self.views[:num], rows=self.rows[:num])


def real_images(studies: StudySet, rows: Sequence[int]) -> RealImages:
    """Reads some rows of a study set."""
    records = studies.records()
    views = [studies.view(row) for row in rows]
    return RealImages(tuple(records[row] for row in rows), np.stack(views) if views else np.empty(0, np.uint8))


def one_source(studies: StudySet, split: Split | None = None, source: str | None = None) -> StudySet:
    """Returns the rows of one split and source; `None` takes all.

    Raises:
        StudySetError: If there are none.
    """
    chosen = studies.select(split=split, sources=() if source is None else (source,))
    if not len(chosen):
        raise StudySetError(
            f"the study set has no {split or ''} images{f' of source {source}' if source else ''}: choose another split "
            "or source"
        )
    return chosen


def order_by_hash(image_ids: Sequence[str], purpose: str = "study") -> list[int]:
    """Returns the places of some images in an order that depends on their ids alone: its first ones are a fair draw.

    Args:
        image_ids: The images.
        purpose: Another one gives another order.
    """
    return sorted(range(len(image_ids)), key=lambda at: digest_of_bytes(purpose.encode(), image_ids[at].encode()))


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
    single = [row for row in of_sources if records[row].image_id not in repeated]
    rows = [single[at] for at in order_by_hash([records[row].image_id for row in single])]
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
    images = real_images(chosen, rows)
    return HeldOutStudies(images.records, images.views, chosen, tuple(rows), len(of_sources) - len(single))


def training_views(studies: StudySet, sources: Sequence[str], num_images: int) -> np.ndarray:
    """Returns real training images uint8 (n, C, S, S) of the sources, at most so many: for a judge's projection.

    Raises:
        EvaluationError: If there are fewer than 2.
    """
    chosen = studies.select(split="train", sources=sources)
    if len(chosen) < 2:
        raise EvaluationError(
            f"the study set has {len(chosen)} training images of sources {', '.join(sources) or '(any)'}: a projection "
            "needs real training images"
        )
    return real_images(chosen, order_by_hash(chosen.image_ids)[:num_images]).views


def require_fair_judge(
    encoder: FrozenEncoder, name: str, studies: StudySet, held_out: ImageContents, bundle: BundleInfo | None
) -> list[str]:
    """Makes sure that a judge was not the bundle's teacher, and knows neither the training images nor the held-out ones.

    Args:
        encoder: The judge.
        name: What it was loaded from.
        studies: The whole study set.
        held_out: The images that are judged against.
        bundle: What drew the images, where that is known.

    Returns:
        One sentence for each thing that nobody recorded.

    Raises:
        OverlapError: If weights, images or labels overlap.
    """
    teachers = bundle.training.get("teachers", []) if bundle is not None else []
    others = [Exposure(f"the teacher {told['name']}", frozenset({told["sha256"]})) for told in teachers]
    same_studies = bundle is not None and bundle.training.get("study_set_sha256") == studies.content_sha256
    trained = trained_on(bundle) if bundle is not None and same_studies else _in_train_split
    rows = [row for row, record in enumerate(studies.records()) if trained(record)]
    others.append(Exposure("the generator's training images", frozenset(), image_contents(studies, rows)))
    others.append(Exposure("the held-out images", frozenset(), held_out))
    unknown = require_disjoint(encoder_exposure(encoder, name), others)
    if bundle is None:
        return [*unknown, "what drew the images is not known, so its teachers and training images are not either"]
    if not same_studies:
        unknown.append(
            f"{bundle.name} was trained on another study set than this one, or on another version of it: that it never "
            "saw a held-out patient rests on equal splits of both"
        )
    return unknown


def _in_train_split(record: StudyRecord) -> bool:
    """What may have trained, where nobody says which rows did."""
    return record.split == "train"


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
