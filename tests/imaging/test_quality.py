"""Quality scores of made-up images with values worked out by hand, and of real ones with made-up faults."""

import csv

import numpy as np
import pytest
from PIL import Image

from arra_med.errors import ImageError
from arra_med.imaging.chest_likeness import MEAN_CHEST, chest_correlation, chest_likeness, content_box, thumbnail
from arra_med.imaging.quality import QualityThresholds, check_quality, quality_flags, quality_scores
from arra_med.imaging.reasons import FLAGS, REASONS


def _chest(side: int = 256) -> np.ndarray:
    """The mean chest, enlarged: lungs dark, mediastinum and abdomen bright."""
    mean = np.hstack([MEAN_CHEST, MEAN_CHEST[:, ::-1]])
    gray = ((mean - mean.min()) / np.ptp(mean) * 0.8 + 0.1).astype(np.float32)
    return np.asarray(Image.fromarray(gray).resize((side, side), Image.Resampling.BILINEAR))


def _retina(side: int = 128) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    light = np.where(np.hypot(y, x) < side / 2, 0.5 + x / side, 0)
    return (light[..., None] * np.array([0.9, 0.5, 0.2])).astype(np.float32)


def test_an_ordinary_image_has_low_scores_and_is_accepted():
    for pixels, modality in ((_chest(), "cxr"), (_retina(), "fundus")):
        scores = quality_scores(pixels, modality)
        check_quality(scores, QualityThresholds())
        assert quality_flags(scores, QualityThresholds()) == ()


def test_a_chest_is_like_a_chest_mirrored_or_not_and_unlike_one_turned_or_inverted():
    small = thumbnail(_chest())
    assert chest_correlation(small) == pytest.approx(1, abs=0.03)
    assert chest_likeness(small) > 0.5
    assert chest_likeness(small[:, ::-1]) == pytest.approx(chest_likeness(small))
    assert chest_likeness(np.rot90(small)) < -0.5
    assert chest_likeness(small[::-1]) < -0.5
    assert chest_correlation(-small) == pytest.approx(-chest_correlation(small))


def test_a_flat_picture_is_like_nothing():
    small = thumbnail(np.full((40, 40), 0.5, dtype=np.float32))
    assert not small.any()
    assert chest_correlation(small) == 0


def test_borders_of_black_and_white_are_found_whatever_lies_around_them():
    frame = np.zeros((100, 80), dtype=np.float32)
    frame[:, 70:] = 1.0
    frame[20:90, 10:70] = np.random.default_rng(0).uniform(0.2, 0.8, (70, 60))
    assert content_box(frame) == (20, 90, 10, 70)
    assert quality_scores(frame, "cxr")["collimation_border"] == pytest.approx(1 - 70 * 60 / 8000)
    assert content_box(np.zeros((50, 50), dtype=np.float32)) == (0, 50, 0, 50)


def test_a_border_is_flagged_and_not_refused():
    framed = np.zeros((256, 256), dtype=np.float32)
    framed[40:216, 40:216] = _chest(176)
    scores = quality_scores(framed, "cxr")
    check_quality(scores, QualityThresholds())
    assert quality_flags(scores, QualityThresholds()) == ("collimation_border",)
    assert quality_flags(scores, QualityThresholds(collimation_border=None)) == ()


def test_scores_worked_out_by_hand():
    gray = np.full((100, 300), 0.5, dtype=np.float32)
    gray[:25] = 0.4
    gray[75:, :150] = 1.0  # half of the last quarter is white
    scores = quality_scores(gray, "cxr")
    assert scores["extreme_aspect"] == 3
    assert scores["clipped"] == pytest.approx(1 / 8, abs=0.01)
    assert scores["blank"] == pytest.approx(1 - 0.6)
    retina = np.zeros((100, 100, 3), dtype=np.float32)
    retina[:50] = [0.8, 0.4, 0.2]
    retina[:10] = [1.0, 1.0, 0.2]  # two of three channels at their end, in a fifth of the lit half
    retina[10:20, :, 0] = 1.0  # one channel is ordinary
    assert quality_scores(retina, "fundus")["clipped"] == pytest.approx(0.2)


def test_an_everyday_photograph_may_show_anything_but_nothing():
    assert quality_scores(np.ones((20, 30, 3), dtype=np.float32), "photo") == {"blank": 1, "extreme_aspect": 1.5}


def test_lateral_images_are_not_compared_with_frontal_ones():
    scores = quality_scores(_chest(), "cxr", view="lateral")
    assert "inverted" not in scores
    assert "wrong_body_part" not in scores
    check_quality(scores, QualityThresholds(wrong_body_part=-1, inverted=-1))


@pytest.mark.parametrize(
    ("reason", "pixels", "modality", "thresholds"),
    [
        ("blank", np.full((64, 64), 0.5, np.float32), "cxr", QualityThresholds()),
        ("blank", np.full((64, 64, 3), 0.5, np.float32), "fundus", QualityThresholds()),
        ("clipped", (_chest() > 0.5).astype(np.float32), "cxr", QualityThresholds()),
        ("extreme_aspect", np.tile(_chest(64), (1, 4)), "cxr", QualityThresholds()),
        ("inverted", 1 - _chest(), "cxr", QualityThresholds()),
        ("wrong_body_part", np.rot90(_chest()), "cxr", QualityThresholds(wrong_body_part=0.2)),
        ("wrong_body_part", np.repeat(_chest()[..., None], 3, 2), "fundus", QualityThresholds(wrong_body_part=0.4)),
    ],
)
def test_faults_are_refused_with_score_and_threshold(reason, pixels, modality, thresholds):
    scores = quality_scores(np.ascontiguousarray(pixels), modality)
    with pytest.raises(
        ImageError, match=rf"its score is .*, at most .* is accepted; .* or accept more \(--quality {reason}=VALUE\)"
    ) as error:
        check_quality(scores, thresholds)
    assert error.value.reason == reason
    check_quality(scores, QualityThresholds(**dict.fromkeys(QualityThresholds.model_fields)))  # all switched off


def test_burned_in_text_is_refused_above_the_number_of_letters():
    check_quality({"burned_in_text": 15}, QualityThresholds())
    with pytest.raises(ImageError, match="its score is 16, at most 15 is accepted"):
        check_quality({"burned_in_text": 16}, QualityThresholds())


def test_every_check_is_a_reason_or_a_flag():
    assert set(QualityThresholds.model_fields) <= {*REASONS, *FLAGS}
    assert set(quality_scores(_chest(), "cxr")) == set(QualityThresholds.model_fields)


@pytest.mark.real_data
def test_real_images_pass_the_defaults_and_their_negatives_do_not(real_data):
    with (real_data / "cxr" / "studies.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["source"] == "nih_cxr14"][::60]
    num_found = 0
    for row in rows:
        with Image.open(real_data / "cxr" / row["path"]) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
        check_quality(quality_scores(pixels, "cxr"), QualityThresholds(wrong_body_part=0.2))
        num_found += quality_scores(1 - pixels, "cxr")["inverted"] > 0.4
    assert num_found >= 0.9 * len(rows)
