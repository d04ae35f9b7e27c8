import threading

import pytest
from arra_med_apps.service.line import Allowance, Line

from arra_med.errors import UserError


def test_places_are_kept_and_given_up():
    line = Line()
    first, second, third = line.ticket(), line.ticket(), line.ticket()
    assert [ticket.before for ticket in (first, second, third)] == [0, 1, 2]
    assert first.wait(0)
    assert not second.wait(0.01)
    second.leave()
    second.leave()
    assert third.before == 1
    first.leave()
    assert third.wait(0)
    third.leave()
    assert not line.locked()


def test_in_turns_it_lets_in_one_after_the_other():
    line, order, inside = Line(), [], []

    def work(number: int) -> None:
        ticket = line.ticket()
        assert ticket.wait(20)
        inside.append(number)
        assert len(inside) == 1
        order.append(number)
        inside.remove(number)
        ticket.leave()

    first, threads = line.ticket(), []
    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        while len(line) < number + 2:
            pass
    assert line.num_waiting == 8
    first.leave()
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    assert line.num_waiting == 0


def test_with_several_workers_several_are_let_in():
    line = Line(at_once=2)
    first, second, third = line.ticket(), line.ticket(), line.ticket()
    assert first.wait(0)
    assert second.wait(0)
    assert not third.wait(0.01)
    assert line.locked()
    first.leave()
    assert third.wait(0)
    second.leave()
    assert not line.locked()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_user_has_an_allowance_that_comes_back():
    clock = Clock()
    allowance = Allowance(2, 10, clock)
    allowance.begin("a", 4)
    with pytest.raises(UserError, match="last pictures are still being made"):
        allowance.begin("a", 1)
    allowance.begin("b", 10)
    allowance.end("a")
    allowance.begin("a", 4)
    allowance.end("a")
    with pytest.raises(UserError, match="2 runs within a minute"):
        allowance.begin("a", 1)
    clock.now = 61
    with pytest.raises(UserError, match="10 images within an hour"):
        allowance.begin("a", 4)
    allowance.begin("a", 2)
    allowance.end("a")
    clock.now = 3700
    allowance.begin("a", 8)


def test_images_that_a_run_did_not_make_are_given_back():
    allowance = Allowance(runs_per_minute=9, images_per_hour=10)
    allowance.begin("me", 10)
    allowance.end("me", 7)
    with pytest.raises(UserError, match="10 images within an hour"):
        allowance.begin("me", 8)
    allowance.begin("me", 7)
