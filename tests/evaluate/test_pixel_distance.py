"""The pixel distance is a distance for 8-bit images; the published program's is not."""

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.pixel_distance import pixel_distance


def published(first: np.ndarray, second: np.ndarray) -> float:
    """What CheXGenBench's program computes of two uint8 images."""
    return float(np.linalg.norm(first - second) / np.sqrt(first.size))


def image(level: int) -> np.ndarray:
    return np.full((1, 1, 8, 8), level, dtype=np.uint8)


def test_eight_bit_images_do_not_wrap_around() -> None:
    assert pixel_distance(image(10), image(20)).tolist() == [10.0]
    assert pixel_distance(image(20), image(10)).tolist() == [10.0]
    assert pixel_distance(image(0), image(255)).tolist() == [255.0]
    assert published(image(20), image(10)) == 10.0
    assert published(image(10), image(20)) == 246.0  # no distance: it is another one the other way round
    assert published(image(0), image(255)) == 1.0  # black and white are neighbours


def test_it_is_the_root_mean_square_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 5, 3, 6, 6)).astype(np.uint8)
    expected = [
        np.linalg.norm(a.astype(int) - b.astype(int)) / np.sqrt(a.size) for a, b in zip(first, second, strict=True)
    ]
    assert pixel_distance(first, second) == pytest.approx(expected)
    wrapped = [published(a, b) for a, b in zip(first, second, strict=True)]
    assert np.abs(np.array(wrapped) - expected).min() > 10


def test_images_that_do_not_pair_are_refused() -> None:
    for first, second in ((image(1), image(1)[:, :, :4]), (image(1) / 255, image(1)), (image(1)[0], image(1)[0])):
        with pytest.raises(EvaluationError, match=r"have no pixel distance: give uint8 \(n, C, S, S\) on both sides"):
            pixel_distance(first, second)
