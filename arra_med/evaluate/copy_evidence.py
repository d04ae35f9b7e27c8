"""Copies among the images of several arms and training seeds, for a comparison that holds all images in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.calibration import calibration_split
from arra_med.evaluate.copies import (
    FALSE_ALARM_RATE,
    CopyFinder,
    Match,
    NearestDistances,
    Threshold,
    calibrated_threshold,
    num_calibration_images,
)
from arra_med.evaluate.feature_spaces import ArrayViews
from arra_med.evaluate.proportions import Rate


@dataclass(frozen=True)
class Flagged:
    """One image that counts as a copy.

    Attributes:
        seed: Training seed of the model that drew it.
        image: Its place among that seed's images.
        training_row: The training image that it resembles most.
        similarity: SSIM after registration.
    """

    seed: int
    image: int
    training_row: int
    similarity: float


@dataclass(frozen=True)
class ArmCopies:
    """One arm's row.

    Attributes:
        arm: Its name.
        copies: Share of its images that count as copies, all seeds together; the interval takes images for independent.
        by_seed: The same of each training seed.
        distances: To the nearest training image, by feature space.
        flagged: The copies, the most similar first; names no image, but numbers that lead to one.
    """

    arm: str
    copies: Rate
    by_seed: dict[int, Rate]
    distances: dict[str, NearestDistances]
    flagged: tuple[Flagged, ...]


@dataclass(frozen=True)
class CopyEvidence:
    """What a comparison says about copies. `dataclasses.asdict` of it is JSON.

    Attributes:
        threshold: What counts as a copy, read off one part of the held-out images.
        false_alarms: Share of the other part's images that would count, which are of other patients.
        arms: A row for each arm.
    """

    threshold: Threshold
    false_alarms: Rate
    arms: tuple[ArmCopies, ...]


def copies_by_arm(
    generated: Mapping[str, Mapping[int, np.ndarray]],
    finder: CopyFinder,
    held_out: np.ndarray,
    patients: Sequence[str],
    *,
    reconstructed: np.ndarray | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    advance: Callable[[int], None] | None = None,
) -> CopyEvidence:
    """Looks for training images among generated ones.

    Args:
        generated: uint8 (n, C, S, S) by arm and training seed.
        finder: Over the images that trained the arms: `CopyFinder(ArrayViews(training), [encoder_space(encoder),
            gradient_space()])`.
        held_out: uint8 (m, C, S, S), real images of the same source that trained no arm, without duplicates of training
            images, of any held-out split. At the default rate 299 of them set the threshold, and false alarms are counted
            on the rest.
        patients: (m,), whose image each is.
        reconstructed: uint8 (m, C, S, S), the held-out images encoded and decoded by the image tokenizer, as generated
            ones are; the threshold then holds for both. Without them false alarms of blurred images go unnoticed.
        false_alarm_rate: Share of held-out images that may count as copies.
        advance: Told of every image; `num_images_to_match` says how many there will be.

    Raises:
        EvaluationError: If there are too few held-out images to set the threshold and report on it, shapes differ, or
            an arm has no image.
    """
    sides = [held_out] if reconstructed is None else [held_out, reconstructed]
    if any(side.shape != held_out.shape for side in sides) or len(patients) != len(held_out):
        raise EvaluationError(
            f"there are {len(held_out)} held-out images, {len(patients)} patients and reconstructions of shape "
            f"{sides[-1].shape}: give one patient and one reconstruction for each image"
        )
    needed = num_calibration_images(false_alarm_rate)
    calibration, reported = calibration_split(patients, needed)
    if len(calibration) < needed or not reported:
        raise EvaluationError(
            f"a false-alarm rate of {false_alarm_rate:g} needs {needed} held-out images to set the threshold and others "
            f"of other patients to try it on, found {len(held_out)}: give more, or allow a larger rate"
        )
    for arm, seeds in generated.items():
        if not seeds or not all(len(images) for images in seeds.values()):
            raise EvaluationError(f"arm {arm} has a seed without images, or no seed: generate some")

    def matched(images: np.ndarray) -> list[Match]:
        views = ArrayViews(images)
        return finder.matches([views.view(index) for index in range(len(views))], advance)

    real = [matched(side) for side in sides]
    highest = np.max([[match.similarity for match in side] for side in real], axis=0)
    threshold = calibrated_threshold(highest[calibration], false_alarm_rate)
    beside = [real[-1][index] for index in reported]
    rows = []
    for arm, seeds in generated.items():
        found = {seed: matched(images) for seed, images in seeds.items()}
        rows.append(_row(arm, found, threshold, beside))
    return CopyEvidence(threshold, Rate.of(threshold.flags(highest[reported])), tuple(rows))


def num_images_to_match(
    generated: Mapping[str, Mapping[int, np.ndarray]], held_out: np.ndarray, reconstructed: np.ndarray | None = None
) -> int:
    """Returns how many images `copies_by_arm` goes through, for a progress bar."""
    num_real = len(held_out) * (1 if reconstructed is None else 2)
    return num_real + sum(len(images) for seeds in generated.values() for images in seeds.values())


def _row(arm: str, found: Mapping[int, list[Match]], threshold: Threshold, beside: Sequence[Match]) -> ArmCopies:
    flags = {seed: threshold.flags([match.similarity for match in matches]) for seed, matches in found.items()}
    flagged = [
        Flagged(seed, int(image), matches[image].row, matches[image].similarity)
        for seed, matches in found.items()
        for image in np.flatnonzero(flags[seed])
    ]
    distances = {
        space: NearestDistances.of(
            [match.distances[space] for match in beside],
            [match.distances[space] for matches in found.values() for match in matches],
        )
        for space in beside[0].distances
    }
    return ArmCopies(
        arm=arm,
        copies=Rate.of(np.concatenate(list(flags.values()))),
        by_seed={seed: Rate.of(values) for seed, values in flags.items()},
        distances=distances,
        flagged=tuple(sorted(flagged, key=lambda one: -one.similarity)),
    )
