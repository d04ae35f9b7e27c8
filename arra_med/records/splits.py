"""Training, validation and test parts that share no patient."""

import hashlib
from collections.abc import Sequence
from typing import get_args

from arra_med.errors import ConfigError, ManifestError
from arra_med.records.study import Split, StudyRecord

SPLITS: tuple[Split, ...] = get_args(Split)
_SUM_TOLERANCE = 1e-6


def assign_splits(
    records: Sequence[StudyRecord], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> list[StudyRecord]:
    """Gives every record a split; all records of a patient share it.

    A patient's split is a keyed hash of source and patient id: it does not depend on the other records or their order,
    so a growing data set moves nobody. A split that is already given is kept, and holds for the patient's other rows.

    Args:
        records: Studies of any sources.
        fractions: Expected shares of patients for train, validation and test; they sum to 1.
        seed: Key of the hash.

    Returns:
        The records in the same order.

    Raises:
        ConfigError: If the fractions are negative or do not sum to 1.
        ManifestError: If given splits put one patient into two parts.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > _SUM_TOLERANCE:
        raise ConfigError(f"split fractions must be at least 0 and sum to 1, found {fractions}")
    check_patient_disjoint(records)
    given = {_patient(record): record.split for record in records if record.split}
    return [
        record
        if record.split
        else record.model_copy(update={"split": given.get(_patient(record)) or _hashed_split(record, fractions, seed)})
        for record in records
    ]


def check_patient_disjoint(records: Sequence[StudyRecord]) -> None:
    """Checks that no patient of a source stands in two splits; records without a split are not counted.

    Raises:
        ManifestError: Names the sources and counts, never a patient.
    """
    seen: dict[tuple[str, str], set[Split]] = {}
    for record in records:
        if record.split:
            seen.setdefault(_patient(record), set()).add(record.split)
    shared = [patient for patient, splits in seen.items() if len(splits) > 1]
    if shared:
        sources = ", ".join(sorted({source for source, _ in shared}))
        raise ManifestError(
            f"{len(shared)} patients of {sources} stand in more than one split; every patient must be in one: mend the "
            "column 'split', or empty it to have splits assigned"
        )


def _patient(record: StudyRecord) -> tuple[str, str]:
    return record.source, record.patient_id


def _hashed_split(record: StudyRecord, fractions: tuple[float, float, float], seed: int) -> Split:
    told = "\0".join(_patient(record)).encode()
    digest = hashlib.blake2b(told, digest_size=8, key=str(seed).encode()).digest()
    share = int.from_bytes(digest) / 2**64
    if share < fractions[0]:
        return "train"
    return "validation" if share < fractions[0] + fractions[1] else "test"
