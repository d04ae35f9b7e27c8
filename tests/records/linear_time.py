"""That a function's work grows with the length of its text: no backtracking that a hostile report could set off."""

import time
from collections.abc import Callable
from typing import Any

_TIMES, _ROUNDS = 8, 3
_LEAST_S = 0.02  # below this the clock tells nothing


def assert_linear(function: Callable[[str], Any], text: str) -> None:
    """Fails where eight times the text takes more than three times eight the processor time; squared would be 64."""
    times = []
    for length in (len(text) // _TIMES, len(text)):
        rounds = []
        for _ in range(_ROUNDS):
            start = time.process_time()
            function(text[:length])
            rounds.append(time.process_time() - start)
        times.append(min(rounds))
    assert times[1] < 3 * _TIMES * max(times[0], _LEAST_S)
