"""What a set of features must be before a distance is taken: enough rows, one width, no NaN."""

import numpy as np

from arra_med.errors import EvaluationError


def checked_features(features: np.ndarray, side: str, at_least: int = 1) -> np.ndarray:
    """Returns features as float64.

    Args:
        features: (n, D), one row for each image.
        side: What to call the set in a message, such as "real".
        at_least: Images that the measure needs.

    Raises:
        EvaluationError: If the shape is another one, images are too few, or a value is NaN or infinite.
    """
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise EvaluationError(f"the {side} features have shape {values.shape}: give one row for each image, (n, D)")
    if len(values) < at_least:
        raise EvaluationError(
            f"the {side} set has {len(values)} images and this measure needs at least {at_least}: give more images"
        )
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise EvaluationError(
            f"{bad} of {len(values)} rows of the {side} features hold NaN or infinity: encode those images again, "
            "and look for corrupt pixels or half-precision overflow"
        )
    return values


def checked_pair(real: np.ndarray, generated: np.ndarray, at_least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns both sets as float64.

    Args:
        real: (n, D).
        generated: (m, D).
        at_least: Images that the measure needs on each side.

    Raises:
        EvaluationError: As `checked_features`, or if the widths differ.
    """
    real, generated = checked_features(real, "real", at_least), checked_features(generated, "generated", at_least)
    if real.shape[1] != generated.shape[1]:
        raise EvaluationError(
            f"the real features have width {real.shape[1]} and the generated ones {generated.shape[1]}: encode both "
            "sides with the same encoder and the same feature"
        )
    return real, generated


def require_equal_numbers(real: np.ndarray, generated: np.ndarray) -> None:
    """Refuses two sets of different sizes: a Fréchet distance depends on the number of images.

    Raises:
        EvaluationError: If the numbers of rows differ.
    """
    if len(real) != len(generated):
        raise EvaluationError(
            f"there are {len(real)} real and {len(generated)} generated images, and this distance depends on their "
            "number: draw as many from both sides, without replacement"
        )
