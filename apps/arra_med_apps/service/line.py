"""The line before the model: first come, first served, with a place that can be shown; and what each user may ask for."""

import threading
import time
from collections import deque
from collections.abc import Callable

from arra_med.errors import UserError


class Line:
    """A line whose waiters have an order.

    Args:
        at_once: How many are let in at the same time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._tickets: deque[Ticket] = deque()
        self._changed = threading.Condition()

    def ticket(self) -> "Ticket":
        """Takes the last place."""
        with self._changed:
            taken = Ticket(self)
            self._tickets.append(taken)
            return taken

    def locked(self) -> bool:
        """Whether who comes now has to wait."""
        return len(self._tickets) >= self._at_once

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return max(0, len(self._tickets) - self._at_once)

    def __len__(self) -> int:
        return len(self._tickets)


class Ticket:
    """A place in a line; `leave` it in any case."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def before(self) -> int:
        """How many are at work or wait before this one."""
        with self._line._changed:
            return self._line._tickets.index(self) if self in self._line._tickets else 0

    def wait(self, seconds: float) -> bool:
        """Waits so long at most; whether it is this one's turn."""
        line = self._line
        with line._changed:
            return line._changed.wait_for(lambda: self in list(line._tickets)[: line._at_once], seconds)

    def leave(self) -> None:
        """Gives the place up; again is no mistake."""
        with self._line._changed:
            if self in self._line._tickets:
                self._line._tickets.remove(self)
            self._line._changed.notify_all()


class Allowance:
    """What each user may ask for.

    Args:
        runs_per_minute: Of each user.
        images_per_hour: Of each user.
        clock: Seconds.
    """

    def __init__(self, runs_per_minute: int, images_per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._runs, self._images, self._clock = runs_per_minute, images_per_hour, clock
        self._spent: dict[str, deque[tuple[float, int]]] = {}
        self._at_work: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, user: str, num_images: int) -> None:
        """Counts a run; `end` it in any case.

        Raises:
            UserError: If the user is at work already, or has had what one may have.
        """
        with self._lock:
            now = self._clock()
            spent = self._spent.setdefault(user, deque())
            while spent and now - spent[0][0] > 3600:
                spent.popleft()
            if user in self._at_work:
                raise UserError("your last pictures are still being made: wait until they are there, or press Stop")
            if sum(now - when < 60 for when, _ in spent) >= self._runs:
                raise UserError(f"you have started {self._runs} runs within a minute: wait a minute")
            if sum(count for _, count in spent) + num_images > self._images:
                raise UserError(f"you have asked for {self._images} images within an hour: wait, or ask for fewer")
            spent.append((now, num_images))
            self._at_work.add(user)

    def end(self, user: str, num_unused: int = 0) -> None:
        """Tells that the user's run has ended, and gives back the images that it did not make."""
        with self._lock:
            self._at_work.discard(user)
            spent = self._spent.get(user)
            if spent and num_unused:
                when, num_images = spent.pop()
                spent.append((when, num_images - num_unused))
