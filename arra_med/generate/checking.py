"""What a quality gate is to generation: its verdicts, the seeds of second tries, and what is told of both.

The gate itself compares with real images and stands in `arra_med.evaluate`; whoever draws is handed one.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from arra_med.errors import GenerationError
from arra_med.generate.request import GenerationRequest

DEFAULT_TRIES = 3
MAX_TRIES = 16

_SEED_BYTES = 4  # `request.MAX_SEED`: a retried image can be asked for by its seed


@dataclass(frozen=True)
class ImageVerdict:
    """What a check says of one image.

    Attributes:
        scores: By name; those that could be taken.
        reasons: Names of the checks that rejected it; empty if it passed.
    """

    scores: dict[str, float]
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check rejected the image."""
        return not self.reasons


class ImageCheck(Protocol):
    """Scores generated images."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its verdicts, as JSON values for the provenance."""
        ...

    def judge(
        self, images: np.ndarray, request: GenerationRequest, kept: Sequence[np.ndarray] = ()
    ) -> list[ImageVerdict]:
        """Judges images in their order; one that passes counts as kept for those after it.

        Args:
            images: uint8 (n, S, S) or (n, S, S, 3).
            request: What they were made for.
            kept: Images (S, S) or (S, S, 3) of the same request that passed before, which none may repeat.

        Returns:
            One verdict for each image, whatever images are judged with it but for repeats.
        """
        ...


@dataclass(frozen=True)
class Try:
    """One image that was drawn for a place of a request.

    Attributes:
        seed: Of the image.
        verdict: On it.
    """

    seed: int
    verdict: ImageVerdict


@dataclass(frozen=True)
class CheckedImage:
    """What became of one place of a request.

    Attributes:
        tries: What was drawn for it, in order; the first has the seed that was asked for.
    """

    tries: tuple[Try, ...]

    @property
    def chosen(self) -> int:
        """The try that is handed out: the last if it passed, else the first, which is what was asked for."""
        return len(self.tries) - 1 if self.tries[-1].verdict.passed else 0

    @property
    def passed(self) -> bool:
        """Whether the image that is handed out passed."""
        return self.tries[self.chosen].verdict.passed

    def record(self) -> dict[str, Any]:
        """Returns what the provenance says of it, as JSON values."""
        chosen = self.tries[self.chosen]
        rejected = [one for one in self.tries if not one.verdict.passed]
        return {
            "passed": chosen.verdict.passed,
            "reasons": list(chosen.verdict.reasons),
            "scores": _rounded(chosen.verdict.scores),
            "asked_seed": self.tries[0].seed,
            "tries": len(self.tries),
            "rejected": [
                {"seed": one.seed, "reasons": list(one.verdict.reasons), "scores": _rounded(one.verdict.scores)}
                for one in rejected
            ],
        }


@dataclass(frozen=True)
class CheckTally:
    """What a check did in a run.

    Attributes:
        num_images: Places of the request, or of all requests.
        num_drawn: Images drawn for them.
        num_rejected: Places whose first image was rejected.
        num_replaced: Those of them for which another image passed.
        reasons: Why the first images were rejected; one image can have several reasons.
    """

    num_images: int
    num_drawn: int
    num_rejected: int
    num_replaced: int
    reasons: dict[str, int]

    @classmethod
    def of(cls, checked: Sequence[CheckedImage]) -> "CheckTally":
        """Counts."""
        rejected = [one for one in checked if not one.tries[0].verdict.passed]
        return cls(
            num_images=len(checked),
            num_drawn=sum(len(one.tries) for one in checked),
            num_rejected=len(rejected),
            num_replaced=sum(one.passed for one in rejected),
            reasons=dict(Counter(reason for one in rejected for reason in one.tries[0].verdict.reasons).most_common()),
        )

    @classmethod
    def of_records(cls, records: Sequence[dict[str, Any]]) -> "CheckTally":
        """Counts what `CheckedImage.record` told of images."""
        rejected = [one for one in records if one["rejected"]]
        reasons = Counter(reason for one in rejected for reason in one["rejected"][0]["reasons"])
        return cls(
            num_images=len(records),
            num_drawn=sum(one["tries"] for one in records),
            num_rejected=len(rejected),
            num_replaced=sum(one["passed"] for one in rejected),
            reasons=dict(reasons.most_common()),
        )

    @property
    def rejection_rate(self) -> float:
        """Share of the first images that were rejected: that of the model, whatever was drawn again."""
        return self.num_rejected / self.num_images if self.num_images else 0.0

    def record(self) -> dict[str, Any]:
        """Returns the counts and the rate as JSON values."""
        return {
            "images": self.num_images,
            "drawn": self.num_drawn,
            "rejected": self.num_rejected,
            "replaced": self.num_replaced,
            "rejection_rate": round(self.rejection_rate, 6),
            "reasons": self.reasons,
        }

    def sentence(self) -> str:
        """Returns the counts in words."""
        images = f"{self.num_images} image{'' if self.num_images == 1 else 's'}"
        if not self.num_rejected:
            return f"{images}, none rejected"
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        marked = self.num_rejected - self.num_replaced
        return (
            f"{images}, {self.num_rejected} rejected ({why}), {self.num_replaced} replaced, {marked} kept with a mark"
        )


def asked_check(check: ImageCheck, tries: int) -> dict[str, Any]:
    """Returns what was asked of a check, as the record of each of its images tells it."""
    return {"gate": check.identity, "tries_at_most": tries}


def retry_seed(seed: int, attempt: int) -> int:
    """Returns the seed of the image that is drawn where one was rejected.

    It follows from the rejected image's place alone, so the image can be made again alone: by this seed, unchecked.

    Args:
        seed: The seed that was asked for.
        attempt: 0 for the first image, which has that seed itself; 1 for the first retry.

    Returns:
        The first four bytes, big-endian, of the SHA-256 of `arra-med retry SEED ATTEMPT`.
    """
    if attempt == 0:
        return seed
    digest = hashlib.sha256(f"arra-med retry {seed} {attempt}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big")


def require_tries(tries: int) -> None:
    """Refuses a limit that is none.

    Raises:
        GenerationError: If it is not 1 to `MAX_TRIES`.
    """
    if not 1 <= tries <= MAX_TRIES:
        raise GenerationError(f"{tries} tries were asked for, 1 to {MAX_TRIES} are possible: choose another limit")


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}
