"""How many threads decode: whatever number is the fastest now.

The threads meet at some sixty barriers a token. Where another process holds a processor, all of them wait for the one
that shares it, and fewer threads are several times as fast; where the machine is idle, all of them are. Nobody else
tells which it is, so both are timed on tokens that are needed anyway. The tokens do not depend on the number.
"""

import time
from collections.abc import Callable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_TRIAL_TOKENS = 2
_WATCHED_TOKENS, _UNWATCHED_TOKENS = 8, 64
_CLEARLY = 1.25  # below that it is chance: two tokens are timed, and a busy machine makes several times the difference
_SLOWER, _ALARM_PAUSE_S = 1.5, 0.25


class ThreadChoice:
    """Chooses the number for batches of one size, whose tokens cost much the same.

    A trial times two tokens of the number in use and one of each other, and a second one where that was faster; fewer
    threads than all must be clearly faster. The next comes after a pause, which doubles as long as trials choose the same;
    at once where tokens take half as long again as in the trial, since then somebody else has begun to work.

    Args:
        most: Threads at most.
        clock: Seconds.

    Attributes:
        best: The number in use.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.best = most
        self._candidates = sorted({most, max(1, most - 1), max(1, most // 2), 1}, reverse=True)
        self._clock = clock
        self._times: dict[int, list[float]] = {}
        self._untried: list[int] = []
        self._pause_s = _FIRST_PAUSE_S
        self._tried_at = self._next_trial = -float("inf")

    def next_run(self) -> tuple[int, int]:
        """Returns with how many threads to decode, and how many tokens at most before `took` is told."""
        if len(self._candidates) > 1 and not self._untried and self._clock() >= self._next_trial:
            self._untried = [self.best, *(number for number in self._candidates if number != self.best)]
            self._times = {}
        if self._untried:
            return self._untried[0], 1
        return self.best, _WATCHED_TOKENS if self.best > 1 else _UNWATCHED_TOKENS

    def took(self, num_tokens: int, seconds: float) -> None:
        """Is told how long the last run took."""
        token = seconds / num_tokens
        if not self._untried:
            if self.best > 1 and token > _SLOWER * self._time(self.best):
                self._next_trial = min(self._next_trial, self._tried_at + _ALARM_PAUSE_S)
            return
        number = self._untried[0]
        others = [self._handicapped(other) for other in self._times if other != number]
        taken = self._times.setdefault(number, [])
        taken.append(token)
        if len(taken) < _TRIAL_TOKENS and self._handicapped(number) < min(others, default=float("inf")):
            return
        del self._untried[0]
        if not self._untried:
            self._decide()

    def _decide(self) -> None:
        fastest = min(self._times, key=self._handicapped)
        self._pause_s = _FIRST_PAUSE_S if fastest != self.best else min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self.best = fastest
        self._tried_at = self._clock()
        self._next_trial = self._tried_at + self._pause_s

    def _handicapped(self, number: int) -> float:
        return self._time(number) * (1 if number == self._candidates[0] else _CLEARLY)

    def _time(self, number: int) -> float:
        return sum(self._times[number]) / len(self._times[number])
