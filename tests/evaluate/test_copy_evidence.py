"""Copies in the images of several arms and seeds, held in memory."""

import dataclasses
import json

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.copy_evidence import CopyEvidence, copies_by_arm, num_images_to_match
from arra_med.evaluate.feature_spaces import ArrayViews, gradient_space
from tests.evaluate.tiny_audit import picture

HELD_OUT = np.stack([picture(1000 + number)[None] for number in range(40)])
PATIENTS = [f"p{number // 2}" for number in range(40)]
TRAINING = np.stack([picture(number)[None] for number in range(12)])


@pytest.fixture(scope="module")
def finder() -> CopyFinder:
    return CopyFinder(ArrayViews(TRAINING), [gradient_space()])


def drawn(first_seed: int, copied: int | None = None) -> np.ndarray:
    images = np.stack([picture(first_seed + number)[None] for number in range(4)])
    if copied is not None:
        images[2] = TRAINING[copied]
    return images


@pytest.fixture(scope="module")
def evidence(finder: CopyFinder) -> CopyEvidence:
    generated = {"baseline": {0: drawn(2000), 1: drawn(2100)}, "arra": {0: drawn(2200), 1: drawn(2300, copied=7)}}
    told: list[int] = []
    found = copies_by_arm(generated, finder, HELD_OUT, PATIENTS, false_alarm_rate=0.1, advance=told.append)
    assert sum(told) == num_images_to_match(generated, HELD_OUT) == 56
    return found


def test_a_copy_is_counted_for_its_arm_and_seed(evidence: CopyEvidence) -> None:
    baseline, arra = evidence.arms
    assert (arra.arm, arra.copies.count, arra.copies.total) == ("arra", 1, 8)
    assert {seed: rate.count for seed, rate in arra.by_seed.items()} == {0: 0, 1: 1}
    assert [(one.seed, one.image, one.training_row) for one in arra.flagged] == [(1, 2, 7)]
    assert (baseline.copies.count, baseline.flagged) == (0, ())
    assert arra.distances["gradients"].drawn_below_lowest >= 1 / 8
    assert evidence.false_alarms.total == 40 - evidence.threshold.num_images
    json.dumps(dataclasses.asdict(evidence), allow_nan=False)


def test_the_threshold_holds_for_reconstructions_too(finder: CopyFinder) -> None:
    """A tokenizer that turns every image into a training image makes copies of everything: nothing can be told."""
    all_alike = np.repeat(TRAINING[:1], 40, axis=0)
    found = copies_by_arm(
        {"arra": {0: drawn(2300, copied=7)}},
        finder,
        HELD_OUT,
        PATIENTS,
        reconstructed=all_alike,
        false_alarm_rate=0.1,
    )
    assert found.threshold.similarity > 0.999


def test_wrong_inputs_are_said(finder: CopyFinder) -> None:
    generated = {"arra": {0: drawn(2000)}}
    with pytest.raises(EvaluationError, match="needs 299 held-out images to set the threshold and others"):
        copies_by_arm(generated, finder, HELD_OUT, PATIENTS)
    with pytest.raises(EvaluationError, match="there are 40 held-out images, 39 patients"):
        copies_by_arm(generated, finder, HELD_OUT, PATIENTS[1:], false_alarm_rate=0.1)
    with pytest.raises(EvaluationError, match="reconstructions of shape"):
        copies_by_arm(generated, finder, HELD_OUT, PATIENTS, reconstructed=HELD_OUT[1:], false_alarm_rate=0.1)
    with pytest.raises(EvaluationError, match="arm arra has a seed without images"):
        copies_by_arm({"arra": {0: drawn(2000)[:0]}}, finder, HELD_OUT, PATIENTS, false_alarm_rate=0.1)
    with pytest.raises(EvaluationError, match="images came as float64"):
        copies_by_arm(generated, finder, HELD_OUT / 255, PATIENTS, false_alarm_rate=0.1)
