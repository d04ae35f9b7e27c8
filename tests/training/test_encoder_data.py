"""Which images train and measure an encoder: folds of patients, what is known of a finding, batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from arra_med.corpus.folds import fold_of
from arra_med.corpus.study_set import StudySet
from arra_med.errors import StudySetError
from arra_med.records.study import StudyRecord
from arra_med.training.encoder_data import (
    BatchDraw,
    EncoderImages,
    finding_targets,
    held_out_images,
    source_vocabulary,
    training_images,
)
from arra_med.training.encoder_settings import EncoderTrainConfig
from tests.training.conftest import TinyData


def config(data: TinyData, **settings: object) -> EncoderTrainConfig:
    return EncoderTrainConfig.model_validate(
        {"name": "test", "studies": data.studies, "encoder": {"kind": "autoencoder"}, "steps": 1, **settings}
    )


def images_of(*rows: tuple[str, Sequence[str]]) -> EncoderImages:
    records = [
        StudyRecord(image_id=f"{i}", patient_id=f"{i}", modality="cxr", source=source, labels=tuple(labels))
        for i, (source, labels) in enumerate(rows)
    ]
    sets = tuple(tuple(sorted(labels)) or None for _, labels in rows)
    return EncoderImages(tuple(range(len(rows))), tuple(records), np.zeros((len(rows), 1, 16, 16), np.uint8), sets)


def test_folds_share_no_patient_and_leave_none_out(tiny_data: TinyData) -> None:
    studies = StudySet.open(tiny_data.studies)
    folds = [training_images(studies, config(tiny_data, fold={"index": i, "count": 2})) for i in range(2)]
    patients = [{record.patient_id for record in fold.records} for fold in folds]
    assert all(patients)
    assert not patients[0] & patients[1]
    whole = training_images(studies, config(tiny_data))
    assert sorted(folds[0].rows + folds[1].rows) == list(whole.rows)
    assert len(whole) == 16
    held_out = held_out_images(studies, config(tiny_data, fold={"index": 0, "count": 2}))
    assert set(held_out["other_folds"].rows) == set(folds[1].rows)
    assert {record.split for record in held_out["validation"].records} == {"validation"}


def test_a_fold_hangs_on_the_patient_alone() -> None:
    folds = [fold_of(f"patient {number}", 3) for number in range(300)]
    assert folds == [fold_of(f"patient {number}", 3) for number in range(300)]
    assert min(folds.count(index) for index in range(3)) > 70


def test_repeated_pictures_do_not_train(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch) -> None:
    studies = StudySet.open(tiny_data.studies)
    pairs = {"tiny/3": "tiny/1", "tiny/20": "tiny/7"}  # within train; of validation, whose first stands in train
    monkeypatch.setattr(StudySet, "duplicates", pairs)
    kept = {record.image_id for record in training_images(studies, config(tiny_data)).records}
    assert "tiny/1" in kept
    assert not kept & {"tiny/3", "tiny/7", "tiny/20"}


def test_an_empty_selection_is_an_error(tiny_data: TinyData, tmp_path: Path) -> None:
    studies = StudySet.open(tiny_data.studies)
    with pytest.raises(StudySetError, match=r"no train rows of sources openi in fold 0 of 1; change sources or fold"):
        training_images(studies, config(tiny_data, sources=["openi"]))
    with pytest.raises(StudySetError, match=r"the study set has no validation rows"):
        held_out_images(studies.select(split="train"), config(tiny_data))


def test_unknown_is_not_no() -> None:
    images = images_of(
        ("nih_cxr14", ["effusion"]),
        ("hannover_covid", ["covid-19"]),
        ("nih_rsna_normal", ["normal"]),
        ("nih_cxr14", []),
    )
    vocabulary = {"nih_cxr14": frozenset({"effusion", "mass"}), "hannover_covid": frozenset({"covid-19"})}
    findings = ["effusion", "mass", "covid-19"]
    nan = np.nan
    expected = [[1, 0, nan], [nan, nan, 1], [0, 0, 0], [nan, nan, nan]]
    np.testing.assert_array_equal(finding_targets(images, findings, vocabulary, ["nih_cxr14"]), expected)
    strict = [[1, nan, nan], [nan, nan, 1], [0, 0, 0], [nan, nan, nan]]
    np.testing.assert_array_equal(finding_targets(images, findings, vocabulary, []), strict)


def test_the_vocabulary_of_a_source_is_harmonised(tiny_data: TinyData) -> None:
    assert source_vocabulary(StudySet.open(tiny_data.studies)) == {"nih_cxr14": frozenset({"effusion", "normal"})}


def test_batches_hang_on_seed_and_step_alone_and_can_balance_labels() -> None:
    images = images_of(*[("nih_cxr14", ["normal"])] * 90, *[("nih_cxr14", ["effusion"])] * 10)
    plain, balanced = BatchDraw(images, 0.0, 200, seed=1), BatchDraw(images, 1.0, 200, seed=1)
    assert plain.indices(3) == BatchDraw(images, 0.0, 200, seed=1).indices(3)
    assert plain.indices(3) != plain.indices(4)
    rare = [sum(index >= 90 for index in draw.indices(0)) for draw in (plain, balanced)]
    assert rare[0] < 40 < 70 < rare[1]
    assert plain.views([0, 1], 0).shape == (2, 1, 16, 16)
