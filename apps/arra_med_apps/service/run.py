"""One run of the model, whichever tab or program asks for it: allowance, place in line, closing, and what is counted."""

import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from arra_med.errors import GenerationError, UserError
from arra_med_apps import words
from arra_med_apps.service.line import Ticket

if TYPE_CHECKING:
    from arra_med_apps.choices import Shelf

_POLL_S = 0.5


class _Progressing(Protocol):
    @property
    def progress(self) -> float: ...


_Update = TypeVar("_Update", bound=_Progressing)


class ModelRun:
    """A user's run, to be entered with `with`; it ends, however it ends, with its place and unused allowance given back.

    Args:
        shelf: The models and the line before them.
        user: Whose run it is.
        num_images: That it asks for.

    Attributes:
        made: Images drawn so far, those that were begun included; the rest is given back.
        place: What is said of its place while it waits; empty while it does not.
    """

    def __init__(self, shelf: "Shelf", user: str, num_images: int) -> None:
        self.made, self.place = 0, ""
        self._shelf, self._user, self._num_images = shelf, user, num_images
        self._ticket: Ticket | None = None
        self._is_refused = False

    def __enter__(self) -> Self:
        """Counts the run.

        Raises:
            UserError: If the user is at work already, or has had what one may have.
        """
        try:
            self._shelf.allowance.begin(self._user, self._num_images)
        except UserError:
            self._shelf.metrics.runs.labels("refused").inc()
            raise
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()
        self._shelf.allowance.end(self._user, self._num_images - self.made)
        metrics = self._shelf.metrics
        metrics.runs.labels(self._outcome(kind)).inc()
        metrics.run_seconds.observe(time.monotonic() - self._began)
        metrics.images.inc(self.made)

    @property
    def is_closing(self) -> bool:
        """Whether the app is being closed."""
        return self._shelf.closing.is_set()

    def places(self) -> Iterator[str]:
        """Yields its place in the words of the page, twice a second, until it is its turn; then the model is its own.

        Raises:
            GenerationError: If too many wait already, or the app is being closed.
        """
        if self._shelf.generating.num_waiting >= self._shelf.places:
            self._is_refused = True
            raise GenerationError(words.LINE_FULL)
        yield from self._waited()

    def others_first(self) -> Iterator[str]:
        """Yields as `places` until those who came meanwhile have had their turn; nothing where nobody waits.

        Raises:
            GenerationError: If the app is being closed.
        """
        if self._shelf.generating.num_waiting:
            self.leave()
            yield from self._waited()

    def watched(self, updates: Iterator[_Update], num_images: int | None = None) -> Iterator[_Update]:
        """Yields the updates of so many of its images, all if not given, and counts what is made.

        Raises:
            GenerationError: At the next update, if the app is being closed.
        """
        before, num_images = self.made, self._num_images if num_images is None else num_images
        for update in updates:
            self.end_if_closing()
            self.made = before + math.ceil(update.progress * num_images)
            yield update

    def end_if_closing(self) -> None:
        """Ends the run where the app is being closed.

        Raises:
            GenerationError: If it is.
        """
        if self.is_closing:
            raise GenerationError(words.CLOSING)

    def leave(self) -> None:
        """Lets the next one in; again is no mistake."""
        if self._ticket is not None:
            self._ticket.leave()
        self.place = ""
        self._count_line()

    def _waited(self) -> Iterator[str]:
        self.end_if_closing()
        self._ticket = ticket = self._shelf.generating.ticket()
        self._count_line()
        while not ticket.wait(_POLL_S):
            self.end_if_closing()
            self.place = words.PLACE_IN_LINE.format(before=words.several(ticket.before, "run"))
            yield self.place
        self.place = ""

    def _count_line(self) -> None:
        self._shelf.metrics.in_line.set(len(self._shelf.generating))

    def _outcome(self, kind: type[BaseException] | None) -> str:
        if self._is_refused:
            return "refused"
        if kind is GeneratorExit or (kind is None and self.made < self._num_images):
            return "stopped"
        return "finished" if kind is None else "failed"
