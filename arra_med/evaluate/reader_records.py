"""What goes in and out of a reader study: a task for a reader, answers for the owner."""

from collections.abc import Mapping
from dataclasses import dataclass

from arra_med.evaluate.reader_order import Showing
from arra_med.evaluate.reading_set import Role


@dataclass(frozen=True)
class ImageFacts:
    """What the owner knows of an image: its arm, the right answer, where it is from."""

    arm: str
    role: Role
    origin: str


@dataclass(frozen=True)
class Task:
    """What a reader sees next.

    Attributes:
        place: From 0; it goes back with the answer.
        total: Screens of this reader.
        report: "" for none.
        pngs: One image, or left and right.
    """

    place: int
    total: int
    report: str
    pngs: tuple[bytes, ...]


@dataclass(frozen=True)
class Screen:
    """One answered screen.

    Attributes:
        showing: What was shown.
        seconds: How long.
        choices: By question.
    """

    showing: Showing
    seconds: float
    choices: Mapping[str, str]


@dataclass(frozen=True)
class Reader:
    """One reader's answers.

    Attributes:
        number: From 1, in the order of joining; those of deleted readers are not used again.
        total: Screens that the reader has in all.
        screens: Answered, in their order.
    """

    number: int
    total: int
    screens: tuple[Screen, ...]
