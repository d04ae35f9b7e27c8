from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from arra_med.corpus.contents import corpus_exposure
from arra_med.corpus.folds import PatientFold, fold_of, takes
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.provenance import require_disjoint
from arra_med.errors import OverlapError
from arra_med.records.study import StudyRecord


def record(patient: str, source: str = "nih_cxr14") -> StudyRecord:
    return StudyRecord(image_id="a", path="", patient_id=patient, source=source, modality="cxr")


def test_every_patient_is_in_exactly_one_fold_and_folds_are_of_like_size() -> None:
    folds = [PatientFold(index=index, count=3) for index in range(3)]
    counts = Counter(tuple(fold.holds(f"patient {number}") for fold in folds) for number in range(900))
    assert all(sum(held) == 1 for held in counts)
    assert min(counts.values()) > 240


def test_one_fold_and_no_source_take_everything() -> None:
    assert takes(record("p"), (), PatientFold())
    assert not takes(record("p"), ("openi",), PatientFold())
    mine = fold_of("p", 2)
    assert takes(record("p"), ("nih_cxr14",), PatientFold(index=mine, count=2))
    assert not takes(record("p"), ("nih_cxr14",), PatientFold(index=1 - mine, count=2))


def test_a_fold_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="2 folds are numbered 0 to 1"):
        PatientFold(index=2, count=2)


def test_generators_of_two_folds_share_no_image_and_the_guard_sees_it(studies: Path) -> None:
    study_set = StudySet.open(studies)
    whole = corpus_exposure("whole", study_set)
    patients = {record.patient_id for record in study_set.select(split="train").records()}
    count = next(count for count in range(2, 50) if len({fold_of(name, count) for name in patients}) > 1)
    folds = [PatientFold(index=index, count=count) for index in sorted({fold_of(name, count) for name in patients})]
    parts = [corpus_exposure("part", study_set, fold=fold) for fold in folds]
    assert whole.images is not None
    assert sum(len(part.images.rows) for part in parts if part.images) == len(whole.images.rows)
    for part in parts:
        with pytest.raises(OverlapError):
            require_disjoint(part, [whole])
    assert require_disjoint(parts[0], parts[1:]) == []
