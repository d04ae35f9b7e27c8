"""Planted copies of every kind are found; what is no copy stays under its false-alarm rate."""

import numpy as np
import pytest
from scipy import ndimage

from arra_med.errors import EvaluationError
from arra_med.evaluate.copies import CopyFinder, Rate, calibrated_threshold, num_calibration_images
from arra_med.evaluate.feature_spaces import Query, gradient_space
from arra_med.evaluate.held_out_images import split_rows
from arra_med.evaluate.nearest_training import NearestIndex
from arra_med.evaluate.planted import PLANTINGS
from arra_med.records.study import StudyRecord


class Pictures:
    """Smooth random pictures, each its own."""

    def __init__(self, num: int, first_seed: int) -> None:
        self.views = [self._picture(first_seed + number) for number in range(num)]

    @staticmethod
    def _picture(seed: int) -> np.ndarray:
        rough = np.random.default_rng(seed).normal(size=(64, 64))
        smooth = ndimage.gaussian_filter(rough, 2.5)
        span = smooth - smooth.min()
        return (span / span.max() * 255).astype(np.uint8)[None]

    def __len__(self) -> int:
        return len(self.views)

    def view(self, index: int) -> np.ndarray:
        return self.views[index]


@pytest.fixture(scope="module")
def training() -> Pictures:
    return Pictures(40, 0)


@pytest.fixture(scope="module")
def finder(training: Pictures) -> CopyFinder:
    return CopyFinder(training, [gradient_space()])


@pytest.fixture(scope="module")
def calibration(finder: CopyFinder) -> list[float]:
    return [match.similarity for match in finder.matches(Pictures(40, 1000).views)]


@pytest.mark.parametrize("kind", PLANTINGS)
def test_planted_copies_are_found(kind: str, training: Pictures, finder: CopyFinder, calibration: list[float]) -> None:
    threshold = calibrated_threshold(calibration, 0.1)
    rng = np.random.default_rng(1)
    matches = finder.matches([PLANTINGS[kind](view, rng) for view in training.views[:20]])
    assert [match.row for match in matches] == list(range(20))
    assert threshold.flags([match.similarity for match in matches]).all()


def test_a_null_case_stays_under_its_false_alarm_rate(finder: CopyFinder, calibration: list[float]) -> None:
    threshold = calibrated_threshold(calibration, 0.1)
    others = finder.matches(Pictures(40, 2000).views)
    assert Rate.of(threshold.flags([match.similarity for match in others])).rate <= 0.1


def test_the_threshold_by_hand() -> None:
    assert num_calibration_images(0.01) == 299  # 0.99^299 < 0.05
    assert calibrated_threshold(np.arange(472), 0.01).similarity == 471  # Wilks: nothing may lie above
    assert calibrated_threshold(np.arange(473), 0.01).similarity == 471  # one may, from 473 images on


def test_too_few_held_out_images_are_said() -> None:
    with pytest.raises(EvaluationError, match="at 95% confidence needs 299 held-out images to be read off, found 298"):
        calibrated_threshold(np.arange(298), 0.01)
    with pytest.raises(EvaluationError, match="false_alarm_rate is 1; it must lie between 0 and 1"):
        num_calibration_images(1)
    with pytest.raises(EvaluationError, match="similarity of a held-out image is not finite"):
        calibrated_threshold([float("nan")] * 299)


def test_wrong_inputs_are_said(training: Pictures, finder: CopyFinder) -> None:
    with pytest.raises(EvaluationError, match="no feature space was given"):
        CopyFinder(training, [])
    with pytest.raises(EvaluationError, match="compare images of one view"):
        finder.match(np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(EvaluationError, match="of at least 2 images, found shape"):
        NearestIndex(np.zeros((1, 3), np.float32))
    with pytest.raises(EvaluationError, match="describe both with the same feature space"):
        NearestIndex(np.eye(3, dtype=np.float32)).search(Query(np.zeros((1, 2)), np.ones((1, 2), bool)), 1)


def test_blocks_change_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    query = Query(rng.normal(size=(3, 8)).astype(np.float32), np.ones((3, 8), bool))
    whole = NearestIndex(features).search(query, 5)
    monkeypatch.setattr("arra_med.evaluate.nearest_training._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("arra_med.evaluate.nearest_training._QUERIES_AT_ONCE", 2)
    blocks = NearestIndex(features).search(query, 5)
    assert blocks.rows.tolist() == whole.rows.tolist()
    np.testing.assert_allclose(blocks.distances, whole.distances, atol=1e-6)


def record(number: int, split: str, source: str = "nih_cxr14", known: bool = True) -> StudyRecord:
    return StudyRecord(
        image_id=f"i{number}",
        patient_id=f"p{number // 2}",
        modality="cxr",
        source=source,
        patient_known=known,
        split=split,
    )  # type: ignore[arg-type]


def test_patients_and_duplicates_are_kept_apart() -> None:
    records = [record(number, "train") for number in range(4)]
    records += [record(number, "test") for number in range(4, 24)]
    records += [record(24, "test", "kermany_pneumonia"), record(25, "test", known=False)]
    rows = split_rows(records, {"i4": "i0", "i6": "i5"}, 4)
    assert rows.duplicates == [4]  # i6 repeats a held-out image alone
    assert (rows.source, rows.patients_known, rows.others) == ("nih_cxr14", True, [24, 25])
    assert sorted(rows.calibration + rows.reported) == list(range(5, 24))
    patients = [{records[row].patient_id for row in part} for part in (rows.calibration, rows.reported)]
    assert not patients[0] & patients[1]
    with pytest.raises(EvaluationError, match="has 4 training and 0 held-out images"):
        split_rows(records[:4], {}, 1)
