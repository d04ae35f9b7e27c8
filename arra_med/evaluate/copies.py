"""Copies of training images among other images: candidates from two feature spaces, laid over each other and compared.

What counts as a copy is read off held-out real images: no more than a stated share of them may look like one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_spaces import FeatureSpace, Views
from arra_med.evaluate.nearest_training import NearestIndex
from arra_med.evaluate.registration import aligned_ssim, coarse_alignment, luminance, refined_alignment

FALSE_ALARM_RATE = 0.01
CONFIDENCE = 0.95

_QUANTILES = (0.01, 0.05, 0.5)
_CANDIDATES = 10  # of each feature space
_REFINED = 5  # candidates laid over each other below a pixel


@dataclass(frozen=True)
class Match:
    """The training image that an image resembles most.

    Attributes:
        similarity: SSIM after registration, in [-1, 1]; what decides.
        row: The training image.
        distances: To the nearest training image of each feature space, in [0, 2].
        nearest: That training image, by space.
    """

    similarity: float
    row: int
    distances: dict[str, float]
    nearest: dict[str, int]


@dataclass(frozen=True)
class Threshold:
    """What counts as a copy.

    Attributes:
        similarity: Images above it are copies.
        false_alarm_rate: At most this share of held-out real images lies above it...
        confidence: ...with this confidence.
        num_images: Held-out images that it was read off.
        num_above: Those of them that lie above it.
    """

    similarity: float
    false_alarm_rate: float
    confidence: float
    num_images: int
    num_above: int

    def flags(self, similarities: Sequence[float] | np.ndarray) -> np.ndarray:
        """Returns which images count as copies, bool (n,)."""
        return np.asarray(similarities, dtype=np.float64) > self.similarity


@dataclass(frozen=True)
class NearestDistances:
    """Drawn images' distances to the nearest training image in one feature space, beside those of held-out real images.

    Attributes:
        quantiles: Which quantiles follow.
        held_out: Of the held-out images; best of what the image tokenizer makes of them, as drawn images went through it.
        drawn: Of the drawn images.
        drawn_below_lowest: Share of the drawn images that lie nearer than the lowest quantile of the held-out ones; by
            chance that quantile.
    """

    quantiles: tuple[float, ...]
    held_out: tuple[float, ...]
    drawn: tuple[float, ...]
    drawn_below_lowest: float

    @classmethod
    def of(cls, held_out: Sequence[float] | np.ndarray, drawn: Sequence[float] | np.ndarray) -> "NearestDistances":
        """Compares two sets of distances.

        Raises:
            EvaluationError: If one is empty.
        """
        if not (len(held_out) and len(drawn)):
            raise EvaluationError(
                f"distances of {len(held_out)} held-out and {len(drawn)} drawn images were given: give some of both"
            )
        real, made = np.asarray(held_out, dtype=np.float64), np.asarray(drawn, dtype=np.float64)
        at = np.quantile(real, _QUANTILES)
        below = float((made < at[0]).mean())
        return cls(_QUANTILES, tuple(at.tolist()), tuple(np.quantile(made, _QUANTILES).tolist()), below)


class CopyFinder:
    """Finds the training image that an image resembles most.

    Args:
        training: The training images.
        spaces: Feature spaces that propose candidates.
        features: Features of the training images, by space; described anew where they are missing.

    Raises:
        EvaluationError: If there are fewer than two training images or no space.
    """

    def __init__(
        self, training: Views, spaces: Sequence[FeatureSpace], features: dict[str, np.ndarray] | None = None
    ) -> None:
        if not spaces:
            raise EvaluationError("no feature space was given: give at least one, such as gradient_space()")
        self.training = training
        self.spaces = tuple(spaces)
        given = features or {}
        self._indexes = {
            space.name: NearestIndex(given[space.name] if space.name in given else space.features(training))
            for space in spaces
        }

    def match(self, view: np.ndarray) -> Match:
        """Finds the most similar training image of a uint8 view (C, S, S).

        Raises:
            EvaluationError: If the view's shape is not that of the training images.
        """
        return self.most_similar(view, 1)[0]

    def most_similar(self, view: np.ndarray, num_images: int) -> list[Match]:
        """Finds several training images, the most similar first; at most so many as are laid over the view (5).

        Raises:
            EvaluationError: As `match`.
        """
        distances, nearest, candidates = {}, {}, []
        for space in self.spaces:
            found = self._indexes[space.name].search(space.describe_query(view), _CANDIDATES)
            distances[space.name], nearest[space.name] = float(found.distances[0]), int(found.rows[0])
            candidates += found.rows.tolist()
        rows = list(dict.fromkeys(candidates))
        similarities = self._similarities(view, rows, _REFINED)
        best = np.argsort(-similarities, kind="stable")[: min(num_images, _REFINED, len(rows))]
        return [Match(float(similarities[place]), rows[place], distances, nearest) for place in best]

    def matches(self, views: Sequence[np.ndarray], advance: Callable[[int], None] | None = None) -> list[Match]:
        """Finds the most similar training image of each view; `advance` is told of each."""
        found = []
        for view in views:
            found.append(self.match(view))
            if advance is not None:
                advance(1)
        return found

    def similarity_to(self, view: np.ndarray, row: int) -> float:
        """Returns the SSIM after registration of a view and one training image.

        Raises:
            EvaluationError: If the view's shape is not that of the training image.
        """
        return float(self._similarities(view, [row], 1)[0])

    def _similarities(self, view: np.ndarray, rows: Sequence[int], num_refined: int) -> np.ndarray:
        """SSIM of the candidates that correlate best (K,); -1 for the others."""
        others = np.stack([self.training.view(row) for row in rows])
        if view.shape != others.shape[1:]:
            raise EvaluationError(
                f"an image has shape {view.shape}, the training images {others.shape[1:]}: compare images of one view"
            )
        picture, candidates = luminance(view[None]), luminance(others)
        start = coarse_alignment(picture, candidates)
        kept = start.correlation.topk(min(num_refined, len(rows))).indices
        chosen = candidates[kept]
        alignment = refined_alignment(picture, chosen, start.take(kept))
        similarities = torch.full((len(rows),), -1.0)
        similarities[kept] = aligned_ssim(picture, chosen, alignment)
        return similarities.numpy()


def calibrated_threshold(
    similarities: Sequence[float] | np.ndarray,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    confidence: float = CONFIDENCE,
) -> Threshold:
    """Reads the threshold off held-out real images, without any assumption about their distribution.

    The lowest order statistic above which, with the given confidence, at most the given share of further images lies.

    Source: Wilks, "Determination of sample sizes for setting tolerance limits", Ann. Math. Statist. 12(1), 1941.

    Args:
        similarities: Of n held-out images to the training images (n,), from `CopyFinder.match`.
        false_alarm_rate: The share, in (0, 1).
        confidence: In (0, 1).

    Raises:
        EvaluationError: If there are too few images for that share, or a similarity is not finite.
    """
    values = np.sort(np.asarray(similarities, dtype=np.float64))[::-1]
    if not np.isfinite(values).all():
        raise EvaluationError("a similarity of a held-out image is not finite: look for damaged images")
    required = num_calibration_images(false_alarm_rate, confidence)
    if len(values) < required:
        raise EvaluationError(
            f"a false-alarm rate of {false_alarm_rate:g} at {confidence:.0%} confidence needs {required} held-out images "
            f"to be read off, found {len(values)}: give more, or allow a larger rate"
        )
    allowed = 0
    while stats.binom.cdf(allowed + 1, len(values), false_alarm_rate) <= 1 - confidence:
        allowed += 1
    threshold = float(values[allowed])
    return Threshold(threshold, false_alarm_rate, confidence, len(values), int((values > threshold).sum()))


def num_calibration_images(false_alarm_rate: float, confidence: float = CONFIDENCE) -> int:
    """Returns how many held-out images a threshold needs at least.

    Raises:
        EvaluationError: If one of the two is no share.
    """
    for name, share in (("false_alarm_rate", false_alarm_rate), ("confidence", confidence)):
        if not 0 < share < 1:
            raise EvaluationError(f"{name} is {share:g}; it must lie between 0 and 1")
    return int(np.ceil(np.log(1 - confidence) / np.log(1 - false_alarm_rate)))
