"""How far readers agree with each other, and each one with what the same reader said before."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.evaluate.reader_rates import fleiss_kappa
from arra_med.evaluate.reader_records import Reader, Screen
from arra_med.evaluate.reader_study import Question
from arra_med.evaluate.reading_results import cohen_kappa


@dataclass(frozen=True)
class Agreement:
    """How far answers to one question agree.

    Attributes:
        question: Which.
        who: `readers 1 and 2` (Cohen), `all readers` (Fleiss), or `reader 1, first and second time` (Cohen).
        measure: Which kappa.
        num_cases: Answered by all of them, or twice.
        same: Share of equal answers; of all pairs for Fleiss.
        kappa: `None` where it is not defined.
    """

    question: str
    who: str
    measure: str
    num_cases: int
    same: float | None
    kappa: float | None


def preferred_image(screen: Screen) -> int:
    """Returns which of the case's images was preferred, 0 or 1."""
    return int((screen.choices["preference"] == "right") != screen.showing.swapped)


def reader_agreement(questions: Sequence[Question], readers: Sequence[Reader]) -> Iterator[Agreement]:
    """Yields each pair of readers, all of three or more together, and each reader's first and second answers."""
    for question in questions:
        scale = list(range(1, len(question.choices) + 1)) if question.ordered else None
        measure = "Cohen's kappa" + (", quadratic weights" if scale else "")
        first = [_values(reader, question, repeats=False) for reader in readers]
        for one, other in itertools.combinations(range(len(readers)), 2):
            shared = sorted(first[one].keys() & first[other].keys())
            pairs = [(first[one][case], first[other][case]) for case in shared]
            who = f"readers {readers[one].number} and {readers[other].number}"
            yield _of_pairs(question.name, who, measure, pairs, scale)
        if len(readers) > 2:
            yield _of_all(question, first)
        for reader, its in zip(readers, first, strict=True):
            again = _values(reader, question, repeats=True)
            if again:
                pairs = [(its[case], again[case]) for case in sorted(again)]
                yield _of_pairs(question.name, f"reader {reader.number}, first and second time", measure, pairs, scale)


def _values(reader: Reader, question: Question, *, repeats: bool) -> dict[int, int]:
    """The answers to a question by case, as numbers; of a preference, which of the two images."""
    return {
        screen.showing.case: preferred_image(screen)
        if question.name == "preference" and not question.ordered
        else question.choices.index(screen.choices[question.name]) + 1
        for screen in reader.screens
        if screen.showing.is_repeat == repeats
    }


def _of_pairs(
    question: str, who: str, measure: str, pairs: Sequence[tuple[int, int]], scale: list[int] | None
) -> Agreement:
    same = float(np.mean([one == other for one, other in pairs])) if pairs else None
    return Agreement(question, who, measure, len(pairs), same, cohen_kappa(pairs, scale))


def _of_all(question: Question, first: Sequence[dict[int, int]]) -> Agreement:
    shared = sorted(set.intersection(*(set(its) for its in first)))
    values = [[its[case] for its in first] for case in shared]
    categories = sorted({value for case in values for value in case})
    counts = [[case.count(category) for category in categories] for case in values]
    num_pairs = len(first) * (len(first) - 1)
    same = float(np.mean([sum(n * (n - 1) for n in case) / num_pairs for case in counts])) if counts else None
    return Agreement(question.name, "all readers", "Fleiss' kappa", len(shared), same, fleiss_kappa(counts))
