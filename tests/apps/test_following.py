"""Work that is followed by a generator."""

from collections.abc import Callable
from typing import Any

import pytest
from arra_med_apps.following import follow

from arra_med.errors import ConfigError


def test_following_returns_what_the_work_returns_and_raises_what_it_raises():
    def work(report: Callable[[float], None]) -> str:
        report(0.5)
        return "done"

    def told() -> Any:
        return (yield from follow(work, 0.01))

    run, shares = told(), []
    with pytest.raises(StopIteration) as stopped:
        while True:
            shares.append(next(run))
    assert stopped.value.value == "done"

    def broken(_: Callable[[float], None]) -> None:
        raise ConfigError("broken")

    with pytest.raises(ConfigError, match="broken"):
        list(follow(broken, 0.01))
