"""A picture that is a training image is found and flagged; a new one is set beside held-out images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.evaluate.copies import num_calibration_images
from arra_med.evaluate.quality_gate import FEATURES_FOLDER
from arra_med.evaluate.training_search import NearTraining, TrainingSearch, _rate_for, open_training_search
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord
from tests.corpus.tiny_studies import write_records
from tests.evaluate.tiny_audit import NUM_HELD_OUT, NUM_TRAIN, SIZE_PX, TinyAudit, picture


@pytest.fixture(scope="module")
def bundle(tiny_audit: TinyAudit) -> ModelBundle:
    return ModelBundle.load(tiny_audit.bundle)


@pytest.fixture(scope="module")
def search(tiny_audit: TinyAudit, bundle: ModelBundle) -> TrainingSearch:
    return open_training_search(StudySet.open(tiny_audit.studies), bundle)


def write_pictures(folder: Path, num_held_out: int, size_px: int = SIZE_PX, modality: str = "cxr") -> StudySet:
    spec = CanonicalView(modality=modality, size_px=size_px)
    records = [
        StudyRecord(
            image_id=f"tiny/{row}",
            patient_id=f"patient-{row}",
            modality=modality,
            source="nih_cxr14",
            split="train" if row < 4 else "test",
            patient_known=True,
        )
        for row in range(4 + num_held_out)
    ]
    views = [np.resize(picture(row), (spec.channels, size_px, size_px)) for row in range(len(records))]
    return StudySet.open(write_records(folder, records, views, spec))


def test_a_training_image_is_its_own_nearest_and_is_flagged(search: TrainingSearch) -> None:
    near = search.look_up(picture(5)[None])
    assert near.matches[0].row == 5
    assert near.matches[0].similarity == pytest.approx(1, abs=1e-3)
    assert near.flagged
    assert near.num_as_near == 0
    assert [match.similarity for match in near.matches] == sorted(
        (match.similarity for match in near.matches), reverse=True
    )
    assert len({match.row for match in near.matches}) == 3


def test_new_pictures_are_flagged_no_more_often_than_stated(search: TrainingSearch) -> None:
    found = [search.look_up(picture(5000 + number)[None]) for number in range(20)]
    assert sum(near.flagged for near in found) <= 1
    for near in found:  # counted again by hand
        assert near.num_as_near == sum(value >= near.matches[0].similarity for value in search.held_out)


def test_so_few_held_out_images_bear_a_larger_rate_and_it_is_said(search: TrainingSearch) -> None:
    assert len(search.training) == NUM_TRAIN
    assert len(search.held_out) == NUM_HELD_OUT
    assert search.threshold.false_alarm_rate == pytest.approx(1 - 0.05 ** (1 / NUM_HELD_OUT))
    assert search.threshold.similarity == search.held_out.max()
    assert search.identity["false_alarm_rate"] > 0.01


def test_every_number_of_held_out_images_bears_its_own_rate() -> None:
    numbers = list(range(20, 299))
    assert [num_calibration_images(_rate_for(number)) for number in numbers] == numbers


def test_enough_held_out_images_bear_the_usual_rate() -> None:
    assert (_rate_for(299), _rate_for(5000)) == (0.01, 0.01)


def test_too_few_held_out_images_are_a_sentence(tmp_path: Path, bundle: ModelBundle) -> None:
    with pytest.raises(EvaluationError, match="needs 20 held-out images of source nih_cxr14, found 12"):
        open_training_search(write_pictures(tmp_path, 12), bundle)


@pytest.mark.parametrize(("size_px", "modality"), [(48, "cxr"), (SIZE_PX, "fundus")])
def test_another_kind_of_study_set_is_a_sentence(
    tmp_path: Path, bundle: ModelBundle, size_px: int, modality: str
) -> None:
    studies = write_pictures(tmp_path, 20, size_px, modality)
    with pytest.raises(EvaluationError, match=f"holds {modality} images of {size_px} px and the model draws cxr"):
        open_training_search(studies, bundle)


@pytest.mark.parametrize(
    "view",
    [
        np.zeros((1, 16, 16), np.uint8),
        np.zeros((3, SIZE_PX, SIZE_PX), np.uint8),
        np.full((1, SIZE_PX, SIZE_PX), np.nan),
    ],
)
def test_a_picture_of_another_kind_is_a_sentence(search: TrainingSearch, view: np.ndarray) -> None:
    with pytest.raises(EvaluationError, match="give uint8 images of that kind"):
        search.look_up(view)


def test_how_near_is_said_in_held_out_images() -> None:
    def rarity(num_as_near: int, num_held_out: int) -> str:
        return NearTraining((), num_as_near, num_held_out, False).rarity

    assert rarity(0, 299) == "Nearer to a training image than all 299 held-out images are to theirs"
    assert rarity(2, 299) == "fewer than 1 in 100 held-out images are at least as near to theirs"
    assert rarity(150, 300).startswith("50 in 100")


def test_the_panel_shows_the_nearest_of_the_training_images(search: TrainingSearch) -> None:
    near = search.look_up(picture(3)[None])
    assert [shown.shape for shown in search.pictures(near)] == [(SIZE_PX, SIZE_PX)] * 3
    panel = search.panel(near)
    assert np.array_equal(panel.pixels, picture(3))
    assert "likeness 1.00; 1 is identical" in panel.lines
    assert near.rarity in panel.lines


def test_what_is_computed_is_kept_privately_and_read_again(
    tiny_audit: TinyAudit, bundle: ModelBundle, search: TrainingSearch
) -> None:
    kept = list((tiny_audit.studies / FEATURES_FOLDER).iterdir())
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    shares: list[float] = []
    again = open_training_search(StudySet.open(tiny_audit.studies), bundle, report=shares.append)
    assert np.array_equal(again.held_out, search.held_out)
    assert max(shares[:-1]) < 0.1  # nothing was matched again
    assert shares[-1] == 1


def test_progress_reaches_the_whole_and_another_study_set_is_told(tmp_path: Path, bundle: ModelBundle) -> None:
    shares: list[float] = []
    search = open_training_search(write_pictures(tmp_path, 20), bundle, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert any("another study set" in note for note in search.notes)


def test_a_read_only_study_set_is_searched_without_writing_into_it(
    tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = write_pictures(tmp_path, 20)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("os.access", lambda *_: False)
    open_training_search(studies, bundle)
    assert [path for path in sorted(tmp_path.rglob("*")) if ".cache" not in path.parts] == [
        path for path in before if ".cache" not in path.parts
    ]


def test_a_tokenizer_that_nobody_recorded_is_told_apart_by_its_bundle(tiny_audit: TinyAudit, tmp_path: Path) -> None:
    nameless = ModelBundle.load(tiny_audit.bundle)
    nameless.info = nameless.info.model_copy(update={"training": {}})
    studies = write_pictures(tmp_path, 20)
    open_training_search(studies, nameless)
    open_training_search(studies, dataclasses.replace(nameless, fingerprint="another"))
    assert len(list((tmp_path / FEATURES_FOLDER).glob("held-out-*.json"))) == 2
