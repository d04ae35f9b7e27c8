"""Tables under a check: every row is one request, with the images of the single-prompt command.

A row's images are judged together, since none may repeat another of the same request; repeats of other rows are told at
the end (`table_repeats`). What is rejected waits until there is a batch of it, whatever rows it belongs to, and is drawn
with its next seed.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch

from arra_med.errors import GenerationError
from arra_med.generate.batch_plan import PlannedImage
from arra_med.generate.checked_images import CheckedPlaces
from arra_med.generate.checking import DEFAULT_TRIES, ImageCheck, asked_check
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.generate.table_repeats import RepeatTest


class TableCheck(NamedTuple):
    """The check of a table.

    Attributes:
        open: Opens it on the machine that draws, for a device; it is sent there.
        identity: What `ImageCheck.identity` must be there, too.
        tries: Images drawn for each place at most.
        repeats: When images of different rows are the same picture, which is told; none: nobody looks.
    """

    open: Callable[[str], ImageCheck]
    identity: dict[str, Any]
    tries: int = DEFAULT_TRIES
    repeats: RepeatTest | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """As `asked_check`, for the plan."""
        return {"gate": self.identity, "tries_at_most": self.tries}

    def opened(self, device: str) -> ImageCheck:
        """Opens the check.

        Raises:
            GenerationError: If it would judge otherwise than planned.
        """
        check = self.open(device)
        if asked_check(check, self.tries) != self.asked:
            raise GenerationError(
                "the check that a machine opened is another one than planned: put the same reference and encoder on all "
                "machines, and start the same command again"
            )
        return check


class CheckedRows:
    """Rows that are being drawn; one thread at a time may use it.

    Args:
        session: Makes pictures.
        check: Judges them.
        tries: Images drawn for each place at most.
        write: Is given the finished images of a row and its first planned image.
    """

    def __init__(
        self,
        session: ReportToImage,
        check: ImageCheck,
        tries: int,
        write: Callable[[PlannedImage, GenerationResult], None],
    ) -> None:
        self._session, self._check, self._tries, self._write = session, check, tries, write
        self._rows: dict[int, _Row] = {}

    def start(self, images: Sequence[PlannedImage]) -> None:
        """Takes up whole rows."""
        for row in whole_rows(images):
            self._rows[row[0].row] = _Row(row, self._check, self._tries)

    def take(self, images: Sequence[PlannedImage], codes: torch.Tensor) -> tuple[int, list[PlannedImage]]:
        """Takes what was drawn, int64 (n, h, w), and writes the rows that are finished by it.

        Returns:
            How many images were written, and what is to be drawn with another seed.
        """
        for image, its_codes in zip(images, codes, strict=True):
            self._rows[image.row].codes[image.request.seed] = its_codes
        num_written, again = 0, []
        for number in dict.fromkeys(image.row for image in images):
            row = self._rows[number]
            if not row.is_drawn:
                continue
            if row.places.seeds:
                drawn = torch.stack([row.codes[seed] for seed in row.places.seeds])
                row.places.take(self._session.finish(row.request, drawn))
                row.codes.clear()
            if row.places.seeds:
                again += [row.drawn_anew(seed) for seed in row.places.seeds]
            else:
                self._write(row.first, row.places.result())
                num_written += row.request.num_images
                del self._rows[number]
        return num_written, again


class _Row:
    """One row; `codes` are what was drawn of the round that is awaited, by seed."""

    def __init__(self, images: Sequence[PlannedImage], check: ImageCheck, tries: int) -> None:
        self.first = images[0]
        self.request = self.first.request.model_copy(update={"num_images": len(images)})
        self.places = CheckedPlaces(self.request, check, tries)
        self.codes: dict[int, torch.Tensor] = {}

    @property
    def is_drawn(self) -> bool:
        return all(seed in self.codes for seed in self.places.seeds)

    def drawn_anew(self, seed: int) -> PlannedImage:
        request = self.first.request.model_copy(update={"seed": seed})
        return self.first.model_copy(update={"request": request})


def whole_rows(images: Sequence[PlannedImage]) -> Iterator[list[PlannedImage]]:
    """Yields the images of one row after the other; those of a row stand together."""
    for _, row in groupby(images, key=lambda image: image.row):
        yield list(row)


def plan_row_batches(images: Sequence[PlannedImage], batch_size: int) -> list[list[PlannedImage]]:
    """Groups rows into batches of at most `batch_size` images, or one larger row; the longest prompts first."""
    batches: list[list[PlannedImage]] = []
    for row in sorted(whole_rows(images), key=lambda row: -row[0].num_tokens):
        if batches and len(batches[-1]) + len(row) <= batch_size:
            batches[-1] += row
        else:
            batches.append(row)
    return batches
