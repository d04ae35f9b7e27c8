"""What readers saw, by arm: called synthetic, quality, shows the finding; for each reader and all together.

Intervals are over images: they say how other images of these arms would be read by these readers.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from arra_med.evaluate.intervals import Interval, t_interval
from arra_med.evaluate.proportions import share_interval
from arra_med.evaluate.reading_answers import Answer
from arra_med.evaluate.reading_set import ReadingKey, Role
from arra_med.reporting.reading_page import QUALITIES

Reader = Mapping[str, Answer]

QUALITY_SCALE = [int(quality) for quality in QUALITIES]


@dataclass(frozen=True)
class ArmReading:
    """One arm, by one reader or by all.

    Attributes:
        arm: Its name.
        role: The right answer.
        num_images: Images with an answer.
        called_synthetic: Share of answers.
        quality: Mean of the images' mean quality; `None` for a single image.
        shows_finding: Share of "yes" among yes, no and unsure; `None` where readers were not asked.
    """

    arm: str
    role: Role
    num_images: int
    called_synthetic: Interval | None
    quality: Interval | None
    shows_finding: Interval | None


@dataclass(frozen=True)
class Reading:
    """The arms, and real against synthetic; reconstructed images are neither, and stand in their own row alone.

    Attributes:
        reader: `reader 1` for the first file, or `all`.
        arms: One each.
        sensitivity: Share of synthetic images that were called synthetic; `None` without such an arm.
        specificity: Share of real images that were called real.
    """

    reader: str
    arms: tuple[ArmReading, ...]
    sensitivity: Interval | None
    specificity: Interval | None


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two readers, or the mean over all pairs of readers (Light's kappa).

    Attributes:
        readers: Which.
        num_images: That both answered; the fewest of any pair for the mean.
        real_or_synthetic: Unweighted.
        quality: With quadratic weights.
        shows_finding: Unweighted, of yes, no and unsure.
    """

    readers: str
    num_images: int
    real_or_synthetic: float | None
    quality: float | None
    shows_finding: float | None


@dataclass(frozen=True)
class ReadingResults:
    """All of it. `dataclasses.asdict` of it is JSON.

    Attributes:
        set_id: Names the set.
        num_images: In the set.
        num_readers: Files.
        num_missing: Answers to the first question that are not there.
        pooled: All readers.
        readers: Each reader.
        agreement: Pairs of readers, and their mean from three readers on; empty for one reader.
    """

    set_id: str
    num_images: int
    num_readers: int
    num_missing: int
    pooled: Reading
    readers: tuple[Reading, ...]
    agreement: tuple[Agreement, ...]


def reading_results(key: ReadingKey, readers: Sequence[Reader]) -> ReadingResults:
    """Opens the blinding.

    Args:
        key: Of the set.
        readers: What `read_answers` found.
    """
    every = [answer for reader in readers for answer in reader.values()]
    return ReadingResults(
        set_id=key.set_id,
        num_images=len(key.images),
        num_readers=len(readers),
        num_missing=len(key.images) * len(readers) - sum(answer.synthetic is not None for answer in every),
        pooled=_reading("all", key, readers),
        readers=tuple(_reading(f"reader {number}", key, [reader]) for number, reader in enumerate(readers, start=1)),
        agreement=tuple(_agreements(readers)),
    )


def _reading(name: str, key: ReadingKey, readers: Sequence[Reader]) -> Reading:
    def images(chosen: Callable[[str], bool]) -> list[list[Answer]]:
        its = [image.image for image in key.images if chosen(image.arm)]
        return [[reader[image] for reader in readers if image in reader] for image in its]

    arms = []
    for arm, role in key.arms.items():
        answers = images(lambda of, arm=arm: of == arm)  # type: ignore[misc]
        marks = [[a.quality for a in its if a.quality is not None] for its in answers]
        means = [float(np.mean(its)) for its in marks if its]
        quality = replace(t_interval(means), method="t over images") if len(means) > 1 else None
        arms.append(
            ArmReading(
                arm=arm,
                role=role,
                num_images=sum(any(a.synthetic is not None for a in its) for its in answers),
                called_synthetic=_share(answers, lambda answer: answer.synthetic),
                quality=quality,
                shows_finding=_share(answers, _shows),
            )
        )
    synthetic = images(lambda of: key.arms[of] == "synthetic")
    real = images(lambda of: key.arms[of] == "real")
    return Reading(
        reader=name,
        arms=tuple(arms),
        sensitivity=_share(synthetic, lambda answer: answer.synthetic),
        specificity=_share(real, lambda answer: None if answer.synthetic is None else not answer.synthetic),
    )


def _shows(answer: Answer) -> bool | None:
    return None if answer.shows_finding is None else answer.shows_finding == "yes"


def _share(images: Sequence[Sequence[Answer]], said: Callable[[Answer], bool | None]) -> Interval | None:
    told = [[value for answer in its if (value := said(answer)) is not None] for its in images]
    counts = [len(values) for values in told]
    return share_interval([sum(values) for values in told], counts) if any(counts) else None


def _agreements(readers: Sequence[Reader]) -> list[Agreement]:
    pairs = []
    for (first, one), (second, other) in itertools.combinations(enumerate(readers, start=1), 2):
        shared = sorted(set(one) & set(other))
        both = [(one[image], other[image]) for image in shared]
        pairs.append(
            Agreement(
                readers=f"readers {first} and {second}",
                num_images=sum(a.synthetic is not None and b.synthetic is not None for a, b in both),
                real_or_synthetic=cohen_kappa([(a.synthetic, b.synthetic) for a, b in both]),
                quality=cohen_kappa([(a.quality, b.quality) for a, b in both], QUALITY_SCALE),
                shows_finding=cohen_kappa([(a.shows_finding, b.shows_finding) for a, b in both]),
            )
        )
    if len(pairs) > 1:
        columns = ("real_or_synthetic", "quality", "shows_finding")
        means = {column: _mean([getattr(pair, column) for pair in pairs]) for column in columns}
        fewest = min(pair.num_images for pair in pairs)
        pairs.append(Agreement(readers="mean of all pairs", num_images=fewest, **means))
    return pairs


def cohen_kappa(pairs: Sequence[tuple[Any, Any]], scale: list[int] | None = None) -> float | None:
    """Returns Cohen's kappa of two readers' answers, or of one reader's first and second ones.

    Args:
        pairs: Both answers to each image; `None` where one is missing.
        scale: The values of an ordered answer, which get quadratic weights; `None` for classes.

    Returns:
        `None` where it is not defined: fewer than two images, or one answer throughout.
    """
    told = [pair for pair in pairs if None not in pair]
    if len(told) < 2 or len({value for pair in told for value in pair}) < 2:
        return None
    first, second = zip(*told, strict=True)
    return float(cohen_kappa_score(first, second, labels=scale, weights="quadratic" if scale else None))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
