"""The guards of a study: no held-out patient or image trained, no judge was near a training, and enough images."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arra_med.config import dump_config
from arra_med.corpus.contents import image_contents
from arra_med.corpus.folds import PatientFold
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders.provenance import Exposure
from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.features import features_file
from arra_med.evaluate.study_guards import require_same_corpus, require_untouched
from arra_med.evaluate.study_images import (
    held_out_stratum,
    judge_patients,
    repeated_images,
    training_reals,
    unknown_patients,
)
from arra_med.models.start import BundleStart
from arra_med.records.study import StudyRecord
from arra_med.training.run import train
from arra_med.training.tokenizer_run import TokenizerTrainConfig
from tests.evaluate.tiny_judges import TinyJudge
from tests.evaluate.tiny_study import (
    TinyStudy,
    patients_of_fold,
    study_config,
    tiny_records,
    tiny_view,
    write_studies,
)

OF_TOKENIZER = "which images the image tokenizer learned from is not recorded beside it"
JUDGE = Exposure("a judge", frozenset({"weights of the judge"}))


def changed(records: list[StudyRecord], row: int, **changes: Any) -> list[StudyRecord]:
    return [record.model_copy(update=changes) if i == row else record for i, record in enumerate(records)]


def row_of(split: str, patient: str | None = None) -> int:
    return next(i for i, r in enumerate(tiny_records()) if r.split == split and patient in (None, r.patient_id))


def test_splits_folds_and_training_are_disjoint(tiny_study: TinyStudy) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    test, validation = (held_out_stratum(studies, config, split) for split in ("test", "validation"))
    judges, trained = judge_patients(studies, config), training_reals(studies, config)
    assert (len(test.records), len(validation.records)) == (24, 10)
    assert (set(trained.patients), set(judges.patients)) == (set(patients_of_fold(0)), set(patients_of_fold(1)))
    assert np.array_equal(test.views[3], tiny_view(test.records[3]))
    assert len({images.records for images in (test, validation, judges, trained)}) == 4
    assert require_untouched(studies, config, [], []) == [OF_TOKENIZER]


def test_fewer_images_are_drawn_by_their_names(tiny_study: TinyStudy) -> None:
    studies = StudySet.open(tiny_study.studies)
    some = held_out_stratum(
        studies, study_config(tiny_study, held_out={"source": "nih_cxr14", "max_images": 22}), "test"
    )
    names = [record.image_id for record in some.records]
    everyone = held_out_stratum(studies, study_config(tiny_study), "test")
    assert len(names) == 22
    assert names == [record.image_id for record in everyone.records if record.image_id in names]


def test_the_projections_images_are_drawn_by_a_registered_hash(tiny_study: TinyStudy) -> None:
    def digest(record: StudyRecord) -> bytes:
        parts = (b"study", record.image_id.encode())
        return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).digest()

    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    everyone = training_reals(studies, config, limit=None).records
    chosen = set(sorted(everyone, key=digest)[:7])
    assert training_reals(studies, config, limit=7).records == tuple(one for one in everyone if one in chosen)


def test_features_of_scales_and_judges_have_files_of_their_own() -> None:
    judges = (TinyJudge(), TinyJudge(std=0.5), TinyJudge(seed=1))
    stems = (Path("sweep_1"), Path("sweep_1.5"))
    assert len({features_file(stem, judge) for stem in stems for judge in judges}) == 6


def test_an_exploratory_study_needs_its_halves_of_the_validation_images(tiny_study: TinyStudy) -> None:
    """Before anything is trained, not after: it is judged on them."""
    studies = StudySet.open(tiny_study.studies)
    with pytest.raises(
        EvaluationError, match="validation images of source nih_cxr14 come from 5 patients, an interval"
    ):
        held_out_stratum(studies, study_config(tiny_study, exploratory=True), "validation")
    one_seed = study_config(tiny_study, exploratory=True, seeds=[0])
    assert len(held_out_stratum(studies, one_seed, "validation").records) == 10
    with pytest.raises(
        EvaluationError, match="validation split has 10 images of 5 patients .* as few as 4, .* need 5 "
    ):
        held_out_stratum(studies, study_config(tiny_study, exploratory=True, seeds=[0], num_dims=4), "validation")


def test_too_few_images_are_counted(tiny_study: TinyStudy) -> None:
    studies = StudySet.open(tiny_study.studies)
    with pytest.raises(EvaluationError, match="the validation split has 10 images .* 10 dimensions needs 11: ingest"):
        held_out_stratum(studies, study_config(tiny_study, num_dims=10), "validation")
    with pytest.raises(
        EvaluationError, match="24 images of 12 patients .* as few as 11, .* need 13 there: .*num_dims to 10"
    ):
        held_out_stratum(studies, study_config(tiny_study, num_dims=12), "test")
    few = study_config(tiny_study, held_out={"source": "nih_cxr14", "max_images": 9})
    with pytest.raises(EvaluationError, match=r"come from [5-9] patients, an interval over patients needs 10: ingest"):
        held_out_stratum(studies, few, "test")
    other = study_config(tiny_study, held_out={"source": "openi"})
    with pytest.raises(EvaluationError, match="has 0 images of source openi"):
        held_out_stratum(studies, other, "test")
    with pytest.raises(EvaluationError, match="no train image of the stratum is in judge_fold"):
        judge_patients(studies, other)


def test_a_held_out_patient_who_trained_is_found(tiny_study: TinyStudy, tmp_path: Path) -> None:
    records = changed(tiny_records(), row_of("test"), patient_id=patients_of_fold(0)[0])
    studies = StudySet.open(write_studies(tmp_path / "studies", records))
    with pytest.raises(OverlapError, match="1 patients of the test split are in the training: split the studies by"):
        require_untouched(studies, study_config(tiny_study), [], [])


def test_a_held_out_image_that_trained_under_another_patient_is_found(tiny_study: TinyStudy, tmp_path: Path) -> None:
    records = tiny_records()
    source, copy = records[row_of("train", patients_of_fold(0)[0])], records[row_of("validation")]

    def view_of(record: StudyRecord) -> np.ndarray:
        return tiny_view(source if record == copy else record)

    studies = StudySet.open(write_studies(tmp_path / "studies", records, view_of))
    with pytest.raises(OverlapError, match="1 images of the validation split are pixel for pixel in the training"):
        require_untouched(studies, study_config(tiny_study), [], [])


def test_a_judge_that_learned_from_the_training_is_found(tiny_study: TinyStudy) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    names = [record.patient_id for record in studies.records()]
    mine, others = ([row for row, name in enumerate(names) if name in patients_of_fold(fold)] for fold in (0, 1))
    near = Exposure("a near judge", JUDGE.weights, image_contents(studies, mine[:3]))
    far = Exposure("a far judge", JUDGE.weights, image_contents(studies, others))
    with pytest.raises(OverlapError, match="a near judge cannot judge: 3 of its 3 training images are among the"):
        require_untouched(studies, config, [far, near], [])
    assert require_untouched(studies, config, [far], []) == [OF_TOKENIZER]
    teacher = Exposure("a teacher", JUDGE.weights, None)
    with pytest.raises(OverlapError, match="a far judge cannot judge: weights or initialisation .* the same"):
        require_untouched(studies, config, [far], [teacher])
    of_tokenizer, note = require_untouched(studies, config, [JUDGE], [])
    assert of_tokenizer == OF_TOKENIZER
    assert "what images a judge learned from is not recorded" in note


def test_a_teacher_that_learned_from_held_out_images_is_found(tiny_study: TinyStudy) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    rows = [row for row, record in enumerate(studies.records()) if record.split == "test"]
    teacher = Exposure("a teacher", frozenset(), image_contents(studies, rows[:2]))
    with pytest.raises(OverlapError, match="2 images of the test split are pixel for pixel in what a teacher learned"):
        require_untouched(studies, config, [], [teacher])


def test_another_corpus_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    corpus = Corpus.open(tiny_study.corpus)
    require_same_corpus(StudySet.open(tiny_study.studies), corpus, study_config(tiny_study))
    with pytest.raises(EvaluationError, match="has 1 views of each training study, the study says 2: set views to 1"):
        require_same_corpus(StudySet.open(tiny_study.studies), corpus, study_config(tiny_study, views=2))
    other = StudySet.open(write_studies(tmp_path / "studies", tiny_records()[:-1]))
    with pytest.raises(EvaluationError, match="comes from study set .*: tokenize the study set again"):
        require_same_corpus(other, corpus, study_config(tiny_study))


def test_near_copies_are_left_out_on_both_sides_where_they_have_different_parts(
    tiny_study: TinyStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    trained, judges = training_reals(studies, config), judge_patients(studies, config)
    tests = held_out_stratum(studies, config, "test")
    of = [images.records[0].image_id for images in (trained, judges, tests)]
    second = tests.records[-1].image_id
    pairs = {of[0]: of[2], of[1]: second, tests.records[3].image_id: tests.records[4].image_id}
    monkeypatch.setattr(StudySet, "duplicates", pairs)
    left_out = repeated_images(studies, config)
    # the later one always; the earlier one where the two trained and were held out, or judged and were held out
    assert left_out == {*pairs, of[2], second}
    kept = {record.image_id for record in held_out_stratum(studies, config, "test").records}
    assert tests.records[4].image_id in kept
    assert not kept & left_out
    assert of[1] not in {record.image_id for record in judge_patients(studies, config).records}


def test_training_images_without_a_patient_are_counted(tiny_study: TinyStudy, tmp_path: Path) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    assert unknown_patients(studies, config)["training"] == 0
    unknown = [record.model_copy(update={"patient_known": False}) for record in tiny_records()]
    other = StudySet.open(write_studies(tmp_path / "unknown", unknown))
    told = unknown_patients(other, config)
    assert told["training"] == told["num_training"] > 0
    assert told["sentence"].startswith(f"{told['training']} of {told['num_training']} training images name no patient")


def test_the_tokenizer_s_patients_are_read_from_what_lies_beside_it(tiny_study: TinyStudy, tmp_path: Path) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    training = config.training.model_copy(update={"image_tokenizer": tmp_path / "tokenizer"})
    config = config.model_copy(update={"training": training})
    for index, notes in (
        (0, []),
        (1, ["the image tokenizer learned from other patients than the arms, the judge's among them"]),
    ):
        fold = PatientFold(index=index, count=2)
        dump_config(TokenizerTrainConfig(studies=tiny_study.studies, steps=1, fold=fold), tmp_path / "config.yaml")
        assert require_untouched(studies, config, [], []) == notes


def test_a_bundle_to_start_from_must_not_know_the_judge_s_patients(tiny_study: TinyStudy, tmp_path: Path) -> None:
    studies, config = StudySet.open(tiny_study.studies), study_config(tiny_study)
    for index in (0, 1):
        own = config.training.model_copy(update={"fold": PatientFold(index=index, count=2), "steps": 1})
        bundle = train(own, tmp_path / f"start_{index}")
        training = config.training.model_copy(update={"start": BundleStart(path=bundle)})
        started = config.model_copy(update={"training": training})
        if index == 0:
            assert require_untouched(studies, started, [], []) == [OF_TOKENIZER]
        else:
            with pytest.raises(OverlapError, match=r"patients of the judge's fold trained tiny, the start"):
                require_untouched(studies, started, [], [])
