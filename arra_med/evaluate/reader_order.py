"""In which order a reader sees the cases: hashes of the study's seed and the reader's number, the same on every machine."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Showing:
    """One screen of a reader.

    Attributes:
        place: From 0.
        case: Number of the case, from 0.
        is_repeat: Whether the reader has seen it before.
        swapped: Whether the case's second image stands on the left.
    """

    place: int
    case: int
    is_repeat: bool
    swapped: bool


def reading_order(num_cases: int, *, seed: int, reader: int, repeats: float) -> tuple[Showing, ...]:
    """Returns all screens of one reader.

    Half of the cases are swapped, so that a taste for one side favours neither image. Cases shown again come from the
    first third and come back in the second half, with their sides the other way round.

    Args:
        num_cases: In the study.
        seed: Of the study.
        reader: Number of the reader.
        repeats: Share of the cases shown twice; at most `LARGEST_REPEATS`.
    """

    def drawn(purpose: str, *what: int) -> bytes:
        return hashlib.sha256(":".join(map(str, ("reader-study", seed, reader, purpose, *what))).encode()).digest()

    order = sorted(range(num_cases), key=lambda case: drawn("order", case))
    by_side = sorted(order, key=lambda case: drawn("side", case))
    swapped = set(by_side[: num_cases // 2])
    again = sorted(order[: num_cases // 3], key=lambda case: drawn("repeat", case))[: num_repeats(num_cases, repeats)]
    half = num_cases // 2
    late = [(case, False) for case in order[half:]] + [(case, True) for case in again]
    late.sort(key=lambda one: drawn("late", *one))
    screens = [(case, False) for case in order[:half]] + late
    return tuple(
        Showing(place, case, is_repeat, (case in swapped) != is_repeat)
        for place, (case, is_repeat) in enumerate(screens)
    )


def num_repeats(num_cases: int, repeats: float) -> int:
    """Returns how many cases a reader sees twice."""
    return min(round(repeats * num_cases), num_cases // 3)
