"""Which images of a train split a training takes: some sources, and one of several disjoint folds of patients.

What is trained on one fold and what judges it on another share no patient: generator, image tokenizer, teacher and
judge all choose by the same rule.
"""

import hashlib
from collections.abc import Sequence

from pydantic import Field, model_validator

from arra_med.config import StrictModel
from arra_med.records.study import StudyRecord


class PatientFold(StrictModel):
    """One of several disjoint groups of patients, drawn by a keyed hash of the patient.

    Two trainings on different folds of the same count share no patient.

    Attributes:
        index: Which group, from 0.
        count: How many groups; 1 takes every patient.
    """

    index: int = Field(default=0, ge=0)
    count: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _index_is_there(self) -> "PatientFold":
        if self.index >= self.count:
            raise ValueError(f"index must be below count: {self.count} folds are numbered 0 to {self.count - 1}")
        return self

    def holds(self, patient_hash: str) -> bool:
        """Whether a patient, named by the keyed hash that study set and corpus carry, is of this fold."""
        return fold_of(patient_hash, self.count) == self.index


def fold_of(patient_hash: str, count: int) -> int:
    """Returns the fold of a patient, from the keyed hash that the study set carries in place of the patient."""
    return int.from_bytes(hashlib.sha256(f"encoder fold {patient_hash}".encode()).digest()[:8]) % count


def takes(record: StudyRecord, sources: Sequence[str], fold: PatientFold | None) -> bool:
    """Whether some sources (empty: all) and a fold of patients (`None`: all) hold a record, of whichever split."""
    return (not sources or record.source in sources) and (fold is None or fold.holds(record.patient_id))


def trains(record: StudyRecord, sources: Sequence[str], fold: PatientFold | None) -> bool:
    """Whether a training on these sources and this fold learns from a record."""
    return record.split == "train" and takes(record, sources, fold)
