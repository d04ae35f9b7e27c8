"""How far two images are apart, pixel by pixel.

The distance of CheXGenBench's privacy part, `|a - b| / sqrt(number of values)`, is a root mean squared difference in
8-bit levels. Its published program subtracts `uint8` arrays, where 10 - 20 is 246, so that images a level apart can be
far apart and its figures are no distances; it also measures the last of ten images ten times over. Neither is so here.

Source: Dutt et al., arXiv 2505.10496, section on privacy; `metrics/privacy_metrics.py` of its repository, as of 2025.
"""

import numpy as np

from arra_med.errors import EvaluationError


def pixel_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the root mean squared difference of each pair of images, in 8-bit levels: float64 (n,), 0 to 255.

    Args:
        first: uint8 (n, C, S, S).
        second: Image i is compared with image i of `first`.

    Raises:
        EvaluationError: If shapes differ or a type is another one.
    """
    if first.dtype != np.uint8 or second.dtype != np.uint8 or first.shape != second.shape or first.ndim != 4:
        raise EvaluationError(
            f"images of type {first.dtype} {first.shape} and {second.dtype} {second.shape} have no pixel distance: give "
            "uint8 (n, C, S, S) on both sides, as many and of one size"
        )
    difference = first.astype(np.float64) - second.astype(np.float64)
    return np.asarray(np.sqrt((difference**2).mean(axis=(1, 2, 3))))
