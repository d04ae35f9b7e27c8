"""What a reader study asks, and the codes that open it; its file and its answers are `reader_store`'s.

No person is named anywhere: a reader is a random code, of which the study's file holds a hash alone.
"""

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from arra_med.config import StrictModel
from arra_med.errors import EvaluationError
from arra_med.evaluate.reading_set import BANNER
from arra_med.imaging.view import Modality

FORMAT_VERSION = 1
NOTICE = BANNER
"""Over every image that is read blind, since no image can say by itself which kind it is."""

DEFAULT_CONSENT = (
    "Taking part is voluntary. Your answers and the time they take are stored under a random code, without your name. "
    "You can stop at any time, and have your answers deleted by giving that code to whoever runs the study."
)
MAX_TEXT_CHARS = 10_000
MAX_ITEMS = 6
LARGEST_REPEATS = 1 / 3
"""Of the cases: those shown again come from the first third, and come back in the second half."""

STUDIES_VARIABLE = "ARRA_MED_READER_STUDIES"
STUDY_SUFFIX = ".sqlite"

Design = Literal["real_or_synthetic", "preference", "likert"]

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is mistaken for another
_STUDY_CHARS, _GROUP_CHARS = 8, 4
_READER_GROUPS, _OWNER_GROUPS = 3, 4  # 59 and 78 bits
_CODE = re.compile(
    rf"(?P<study>[{_ALPHABET}]{{{_STUDY_CHARS}}})"
    rf"(?:-(?P<reader>(?:[{_ALPHABET}]{{{_GROUP_CHARS}}})(?:-[{_ALPHABET}]{{{_GROUP_CHARS}}}){{{_READER_GROUPS - 1}}}))?"
)
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


class LikertItem(StrictModel):
    """A statement that readers rate.

    Attributes:
        name: In the results: small letters, digits and `_`.
        text: As readers see it.
        low: What the lowest mark means.
        high: What the highest mark means.
        points: Marks, from 1 on.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    text: str = Field(min_length=1, max_length=300)
    low: str = Field("poor", max_length=60)
    high: str = Field("excellent", max_length=60)
    points: int = Field(5, ge=2, le=9)


DEFAULT_ITEMS = (
    LikertItem(name="realism", text="How realistic does the image look?", low="not at all", high="fully"),
    LikertItem(name="quality", text="How good is the image's quality?", low="unusable", high="excellent"),
)


@dataclass(frozen=True)
class Question:
    """What a reader is asked of a case.

    Attributes:
        name: In the results.
        text: As readers see it.
        choices: The allowed answers.
        ordered: Whether they are marks on a scale.
    """

    name: str
    text: str
    choices: tuple[str, ...]
    ordered: bool = False


class ReaderStudySettings(StrictModel):
    """What a study is; it cannot change once the study has begun.

    Attributes:
        design: `real_or_synthetic`: each image is called one or the other. `preference`: two images of one case side by
            side, the sides drawn by lot. `likert`: each image is rated on `items`.
        title: As readers see it; it must not tell what is compared.
        modality: Of the images.
        size_px: Side of the one canonical view that all images are.
        seed: Of the choice of images and of every reader's order.
        repeats: Share of the cases that each reader sees twice.
        consent: Readers agree to it before the first image; "" asks for none.
        ethics: Approval of an ethics committee, or why none is needed; "" where nothing was stated.
        question: Asked for a preference.
        items: For `likert`.
    """

    design: Design
    title: str = Field("Reader study", min_length=1, max_length=200)
    modality: Modality = "cxr"
    size_px: int = Field(ge=16, le=2048)
    seed: int = Field(0, ge=0, le=2**63 - 1)
    repeats: float = Field(0.0, ge=0, le=LARGEST_REPEATS)
    consent: str = Field(DEFAULT_CONSENT, max_length=MAX_TEXT_CHARS)
    ethics: str = Field("", max_length=MAX_TEXT_CHARS)
    question: str = Field("Which image is better?", min_length=1, max_length=300)
    items: tuple[LikertItem, ...] = Field((), max_length=MAX_ITEMS)

    @model_validator(mode="after")
    def _check_items(self) -> "ReaderStudySettings":
        if (self.design == "likert") != bool(self.items):
            raise ValueError("items are needed for likert, and for no other design")
        if len({item.name for item in self.items}) < len(self.items):
            raise ValueError("two items have the same name")
        return self

    @property
    def questions(self) -> tuple[Question, ...]:
        """What readers are asked of every case."""
        if self.design == "real_or_synthetic":
            text = "Is this image real, or synthetic (made by a computer)?"
            return (Question("real_or_synthetic", text, ("real", "synthetic")),)
        if self.design == "preference":
            return (Question("preference", self.question, ("left", "right")),)
        return tuple(
            Question(item.name, item.text, tuple(map(str, range(1, item.points + 1))), ordered=True)
            for item in self.items
        )


@dataclass(frozen=True)
class Code:
    """What a code opens: a study, and in it a reader where `reader` is not `None`."""

    study: str
    reader: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Code":
        """Reads a code as a person types it: small letters and spaces at the ends do not matter.

        Raises:
            EvaluationError: If it has not the form of a code. The text is not repeated.
        """
        found = _CODE.fullmatch((text or "").strip().upper()[:100])
        if found is None:
            raise EvaluationError(
                "this is no code of a reader study: a study's has 8 letters and digits, a reader's three groups of 4 more"
            )
        return cls(found["study"], found["reader"])

    @classmethod
    def for_study(cls) -> "Code":
        """Draws the code of a new study."""
        return cls(_drawn(_STUDY_CHARS))

    def for_reader(self) -> "Code":
        """Draws a new reader's code."""
        return Code(self.study, "-".join(_drawn(_GROUP_CHARS) for _ in range(_READER_GROUPS)))

    def __str__(self) -> str:
        return self.study if self.reader is None else f"{self.study}-{self.reader}"

    @property
    def sha256(self) -> str:
        """What the study's file holds of a reader's code."""
        return hashlib.sha256(str(self).encode()).hexdigest()


@dataclass(frozen=True)
class OwnerLock:
    """What the study's file holds of the owner's code: scrypt's hash of it (RFC 7914)."""

    salt: str
    digest: str

    @classmethod
    def draw(cls) -> tuple[str, "OwnerLock"]:
        """Draws a new owner's code; returns it, and what is kept of it."""
        code = "-".join(_drawn(_GROUP_CHARS) for _ in range(_OWNER_GROUPS))
        salt = secrets.token_hex(16)
        return code, cls(salt, _stretched(code, salt))

    def opens(self, text: str) -> bool:
        """Tells whether this is the owner's code."""
        return hmac.compare_digest(_stretched((text or "").strip().upper()[:100], self.salt), self.digest)


def studies_folder() -> Path:
    """Returns where the app finds its studies: `ARRA_MED_READER_STUDIES`, else a folder of the user's data."""
    named = os.environ.get(STUDIES_VARIABLE)
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "arra-med" / "reader-studies"


def study_path(study: str) -> Path:
    """Returns where the app keeps a study; `study` is that of a `Code`, so that no path leaves the folder."""
    return studies_folder() / f"{Code.parse(study).study}{STUDY_SUFFIX}"


def _drawn(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _stretched(code: str, salt: str) -> str:
    return hashlib.scrypt(code.encode(), salt=bytes.fromhex(salt), dklen=32, **_SCRYPT).hex()
