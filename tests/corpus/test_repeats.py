import math

import pytest

from arra_med.corpus.repeats import MAX_REPEATS, repeat_factors, repeated_images
from arra_med.records.study import StudyRecord

LABELS = [("normal",)] * 90 + [("effusion",)] * 8 + [("effusion", "hernia"), ()]


def records(labels: list[tuple[str, ...]]) -> list[StudyRecord]:
    return [
        StudyRecord(
            image_id=f"nih_cxr14/{row}", patient_id=f"nih_cxr14/{row}", modality="cxr", source="nih_cxr14", labels=names
        )
        for row, names in enumerate(labels)
    ]


def test_factors_worked_out_by_hand() -> None:
    factors = repeat_factors(LABELS, 0.36)
    assert factors[0] == 1  # normal is 90 of 100, above the threshold
    assert factors[90] == pytest.approx(math.sqrt(0.36 / 0.09)) == 2  # effusion is 9 of 100
    assert factors[98] == pytest.approx(math.sqrt(0.36 / 0.01)) == 6  # the largest of effusion's and hernia's
    assert factors[99] == 1  # nothing is known of it


def test_a_factor_ends_at_the_most_repeats() -> None:
    assert max(repeat_factors(LABELS, 1.0)) == MAX_REPEATS < math.sqrt(1.0 / 0.01)


def test_a_threshold_of_zero_gives_every_image_once() -> None:
    assert repeated_images(records(LABELS), range(100), 0.0) == [(image, 0) for image in range(100)]


def test_fractions_are_rounded_at_random_and_add_up() -> None:
    labels: list[tuple[str, ...]] = [("normal",)] * 1000 + [("effusion",)] * 1000
    examples = repeated_images(records(labels), range(2000), 0.72)
    factor = math.sqrt(0.72 / 0.5)  # 1.2
    assert len(examples) / 2000 == pytest.approx(factor, abs=0.03)  # three standard deviations are 0.027
    assert {repeat for _, repeat in examples} == {0, 1}
    assert examples == repeated_images(records(labels), range(2000), 0.72)


def test_only_the_chosen_images_count() -> None:
    examples = repeated_images(records(LABELS), range(90, 99), 0.36)
    assert {image for image, _ in examples} == set(range(90, 99))
    assert examples.count((90, 1)) == 0  # among these nine effusion is no rarity
