"""Planted copies of every kind are found; what is no copy stays under its false-alarm rate."""

import numpy as np
import pytest
from scipy import ndimage, stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.calibration import calibration_split, held_out_rows
from arra_med.evaluate.copies import CopyFinder, NearestDistances, calibrated_threshold, num_calibration_images
from arra_med.evaluate.feature_spaces import Query, gradient_space
from arra_med.evaluate.nearest_training import NearestIndex
from arra_med.evaluate.planted import PLANTINGS
from arra_med.evaluate.proportions import Rate
from arra_med.evaluate.registration import aligned_ssim, coarse_alignment, luminance, refined_alignment
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


def in_train_split(row: StudyRecord) -> bool:
    return row.split == "train"


def test_patients_and_duplicates_are_kept_apart() -> None:
    records = [record(number, "train") for number in range(4)]
    records += [record(number, "test") for number in range(4, 24)]
    records += [record(24, "test", "kermany_pneumonia"), record(25, "test", known=False)]
    rows = held_out_rows(records, in_train_split, {"i4": "i0", "i6": "i5"}, 4)
    assert rows.duplicates == [4]  # i6 repeats a held-out image alone
    assert (rows.source, rows.patients_known, rows.others) == ("nih_cxr14", True, [24, 25])
    assert sorted(rows.calibration + rows.reported) == list(range(5, 24))
    patients = [{records[row].patient_id for row in part} for part in (rows.calibration, rows.reported)]
    assert not patients[0] & patients[1]
    with pytest.raises(EvaluationError, match="has 4 training and 0 held-out images"):
        held_out_rows(records[:4], in_train_split, {}, 1)
    with pytest.raises(EvaluationError, match="needs 21 held-out images of source nih_cxr14, found 20"):
        held_out_rows(records, in_train_split, {"i4": "i0"}, 21)


def test_rows_that_did_not_train_are_held_out_whatever_their_split() -> None:
    records = [record(number, "train") for number in range(12)]
    rows = held_out_rows(records, lambda r: r.image_id in ("i0", "i1"), {"i3": "i1"}, 4)
    assert rows.train == [0, 1]
    assert rows.duplicates == [3]
    assert sorted(rows.calibration + rows.reported) == [2, *range(4, 12)]


def test_calibration_takes_whole_patients_and_at_least_half() -> None:
    patients = [f"p{number // 3}" for number in range(30)]
    calibration, reported = calibration_split(patients, 4)
    assert sorted(calibration + reported) == list(range(30))
    assert len(calibration) == 15
    assert not {patients[index] for index in calibration} & {patients[index] for index in reported}
    assert len(calibration_split(patients, 25)[0]) == 27


def test_a_picture_without_contrast_is_no_copy_and_a_blank_candidate_hides_none(training: Pictures) -> None:
    blank = np.zeros((1, 64, 64), np.uint8)
    faint = (90 + Pictures(1, 5000).views[0] / 255 * 6).astype(np.uint8)
    with_blank = Pictures(0, 0)
    with_blank.views = [*training.views, blank]
    finder = CopyFinder(with_blank, [gradient_space()])
    assert finder.match(np.full_like(blank, 90)).similarity < 0.5
    assert finder.similarity_to(faint, 0) < 0.5
    assert max(finder.similarity_to(view, 40) for view in Pictures(3, 1000).views) < 0.5
    dimmed = (60 + training.views[3] / 255 * 90).astype(np.uint8)
    assert finder.match(dimmed).similarity > 0.95


def test_the_alignment_of_a_shifted_and_enlarged_picture() -> None:
    """Made by scipy: the picture at x shows the candidate at 0.9 x + shift."""
    candidate = Pictures(1, 7).views[0][0].astype(np.float64)
    centre, zoom, shift_px = 31.5, 0.9, np.array([2.0, -1.0])  # down, across
    places = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij")).astype(float)
    source = centre + zoom * (places - centre) + shift_px[:, None, None]
    moved = ndimage.map_coordinates(candidate, source, order=1, mode="nearest").astype(np.uint8)
    picture, candidates = luminance(moved[None, None]), luminance(candidate.astype(np.uint8)[None, None])
    found = refined_alignment(picture, candidates, coarse_alignment(picture, candidates))
    np.testing.assert_allclose(found.zoom.numpy(), [[0.9, 0.9]], atol=0.005)
    np.testing.assert_allclose(found.shift.numpy(), [[-1 / 32, 2 / 32]], atol=0.005)  # across, down; 2 is the side
    assert aligned_ssim(picture, candidates, found).item() > 0.98


def test_shares_and_distances_by_hand() -> None:
    rate = Rate.of(np.array([True, False, False, False]))
    assert (rate.count, rate.total, rate.rate) == (1, 4, 0.25)
    assert rate.interval == pytest.approx((stats.beta.ppf(0.025, 1, 4), stats.beta.ppf(0.975, 2, 3)))
    assert Rate.of(np.array([], dtype=bool)).rate is None
    beside = NearestDistances.of(np.arange(101.0), [0.5, 0.9, 40.0, 60.0])
    assert beside.held_out == (1.0, 5.0, 50.0)
    assert beside.drawn_below_lowest == 0.5
    with pytest.raises(EvaluationError, match="distances of 0 held-out and 1 drawn images"):
        NearestDistances.of([], [1.0])
