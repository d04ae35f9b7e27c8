"""Held-out real images: what "not a copy" looks like, split by patient into a part to calibrate on and one to report."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.imaging.view import from_uint8, to_uint8
from arra_med.records.study import StudyRecord
from arra_med.tokens.protocol import ImageTokenizer

_TRAIN = "train"
_BATCH_SIZE = 16


@dataclass(frozen=True)
class HeldOutRows:
    """Rows of a study set by what they can tell about false alarms.

    Attributes:
        train: Training images.
        calibration: Held-out images that the threshold is read off.
        reported: Held-out images of other patients, on which the false-alarm rate is reported.
        others: Held-out images of other sources, or whose patient is not known: training may hold the same patient or
            the same picture under another name (archives mirror each other). Reported apart.
        duplicates: Held-out images that ingestion found in the training images as well (`duplicates.jsonl`): no false
            alarms where they are found.
        patients_known: Whether calibration is disjoint from training by patients, not only by images; where too few
            patients are known, all held-out images of the source are taken.
        source: Whose images calibrate. Splits are disjoint by patient within a source, not across sources.
    """

    train: list[int]
    calibration: list[int]
    reported: list[int]
    others: list[int]
    duplicates: list[int]
    patients_known: bool
    source: str


def held_out_rows(studies: StudySet, num_calibration: int, source: str | None = None) -> HeldOutRows:
    """Splits the rows of a study set.

    Args:
        studies: The whole set.
        num_calibration: Images that a threshold needs at least; half of the images serve it where that is more.
        source: Whose images calibrate; none: the source with the most held-out images.

    Raises:
        EvaluationError: If there is no training or no held-out image.
    """
    return split_rows(studies.records(), studies.duplicates, num_calibration, source)


def split_rows(
    records: Sequence[StudyRecord], duplicates: Mapping[str, str], num_calibration: int, source: str | None = None
) -> HeldOutRows:
    """Splits rows as `held_out_rows` does.

    Args:
        records: Of all images.
        duplicates: Images that show the same as an earlier one, each with that one.
        num_calibration: Images that a threshold needs at least.
        source: Whose images calibrate.

    Raises:
        EvaluationError: As `held_out_rows`.
    """
    first_of = {record.image_id: duplicates.get(record.image_id, record.image_id) for record in records}
    trained = {first_of[record.image_id] for record in records if record.split == _TRAIN}
    train = [row for row, record in enumerate(records) if record.split == _TRAIN]
    held_out = [row for row, record in enumerate(records) if record.split not in (_TRAIN, None)]
    if not train or not held_out:
        raise EvaluationError(
            f"the study set has {len(train)} training and {len(held_out)} held-out images; copies are judged against "
            "held-out ones: give a set with a train and a validation or test split"
        )
    doubled = [row for row in held_out if first_of[records[row].image_id] in trained]
    single = sorted(set(held_out) - set(doubled))
    source = source or Counter(records[row].source for row in held_out).most_common(1)[0][0]
    own = [row for row in single if records[row].source == source]
    known = [row for row in own if records[row].patient_known]
    patients_known = len(known) > num_calibration
    usable = known if patients_known else own
    calibration: list[int] = []
    by_patient: dict[str, list[int]] = {}
    for row in usable:
        by_patient.setdefault(records[row].patient_id, []).append(row)
    for patient in sorted(by_patient, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(calibration) >= max(num_calibration, len(usable) / 2):
            break
        calibration += by_patient[patient]
    return HeldOutRows(
        train=train,
        calibration=sorted(calibration),
        reported=sorted(set(usable) - set(calibration)),
        others=sorted(set(single) - set(usable)),
        duplicates=doubled,
        patients_known=patients_known,
        source=source,
    )


@torch.no_grad()
def through_tokenizer(views: Sequence[np.ndarray], tokenizer: ImageTokenizer, device: str = "cpu") -> list[np.ndarray]:
    """Encodes and decodes views: what a generator that drew exactly this image would show.

    Args:
        views: uint8 (C, S, S).
        tokenizer: With the views' size and channels.
        device: Where its weights are.
    """
    shown: list[np.ndarray] = []
    for start in range(0, len(views), _BATCH_SIZE):
        batch = torch.from_numpy(from_uint8(np.stack(views[start : start + _BATCH_SIZE]))).to(device)
        shown += list(to_uint8(tokenizer.decode(tokenizer.encode(batch)).float().cpu().numpy()))
    return shown
