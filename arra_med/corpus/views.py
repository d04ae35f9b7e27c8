"""Which views of a study set are tokenised and encoded: one key for each, the same for codes and teacher features."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from arra_med.corpus.folds import PatientFold, takes
from arra_med.corpus.study_set import StudySet
from arra_med.errors import CorpusError
from arra_med.imaging.view import augmented_view

AUGMENTED_SPLIT = "train"


class ViewPlace(NamedTuple):
    """One view of one study.

    Attributes:
        study: Row of the study set.
        image_id: Its image.
        k: 0 is the canonical view itself; higher numbers are seeded variants of it.
    """

    study: int
    image_id: str
    k: int

    @property
    def key(self) -> str:
        """What codes and teacher features of this view are keyed by."""
        return view_key(self.image_id, self.k)


def view_key(image_id: str, k: int) -> str:
    """Returns the key of the k-th view of an image: `image_id#k`."""
    return f"{image_id}#{k}"


def plan_views(studies: StudySet, num_views: int) -> list[ViewPlace]:
    """Lists the views in order: image by image, `num_views` of each training study and one of each other study.

    Raises:
        CorpusError: If `num_views` is not positive.
    """
    if num_views < 1:
        raise CorpusError(f"views is {num_views}; each training study needs at least 1 (the canonical view itself)")
    places = []
    for index, (image_id, split) in enumerate(zip(studies.image_ids, studies.dataset["split"], strict=True)):
        its_views = num_views if split == AUGMENTED_SPLIT else 1
        places += [ViewPlace(index, image_id, k) for k in range(its_views)]
    return places


def partners(studies: StudySet, sources: Sequence[str] = (), fold: PatientFold | None = None) -> list[int]:
    """Returns another row for each row: the permuted teacher's deliberate mistake.

    Each row is some other row's partner once. What a training takes is exchanged among itself, so that its features as a
    whole stay what they were; so are the other training studies, and the held-out ones. The order is drawn from the image
    ids alone.

    Args:
        studies: The study set.
        sources: Those that the training takes; empty takes all.
        fold: The patients that it takes; `None` takes all.

    Raises:
        CorpusError: If one of the three groups holds one study only.
    """
    groups: dict[str, list[int]] = {}
    digests = [digest_of_bytes(b"partner", image_id.encode()) for image_id in studies.image_ids]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    records = studies.records()
    for row in order:
        name = "held-out"
        if records[row].split == AUGMENTED_SPLIT:
            name = "chosen training" if takes(records[row], sources, fold) else "other training"
        groups.setdefault(name, []).append(row)
    partner = [0] * len(order)
    for name, rows in groups.items():
        if len(rows) == 1:
            raise CorpusError(f"one {name} study has no other one to be exchanged with: ingest more of them")
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
            partner[row] = other
    return partner


def load_views(studies: StudySet, places: Sequence[ViewPlace], seed: int) -> np.ndarray:
    """Returns the views at `places` as uint8 (B, C, S, S); `seed` is that of the augmentation."""
    canonical = {study: studies.view(study) for study in {place.study for place in places}}
    return np.stack([augmented_view(canonical[study], image_id, k, seed) for study, image_id, k in places])


def digest_of_bytes(*parts: bytes) -> str:
    """Returns the SHA-256 of some byte strings, each preceded by its length, in hex."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
