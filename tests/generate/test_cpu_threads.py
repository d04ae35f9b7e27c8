"""The choice of the number of threads, on machines whose every token takes a known time."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from arra_med.generate.cpu_backend import CpuBackend
from arra_med.generate.cpu_threads import ThreadChoice
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout

Cost = Callable[[int], float]
IDLE: Cost = {1: 4e-3, 2: 2.5e-3, 4: 1.6e-3, 7: 1.2e-3, 8: 1e-3}.__getitem__
BUSY: Cost = {1: 5e-3, 2: 30e-3, 4: 60e-3, 7: 80e-3, 8: 90e-3}.__getitem__
ONE_TAKEN: Cost = {1: 4e-3, 2: 2.5e-3, 4: 1.6e-3, 7: 1.2e-3, 8: 20e-3}.__getitem__


class Machine:
    """Runs what a choice says; a clock of its own."""

    def __init__(self, most: int, cost: Cost) -> None:
        self.now, self.cost = 100.0, cost
        self.choice = ThreadChoice(most, lambda: self.now)

    def decode(self, num_tokens: int) -> Counter[int]:
        """Tokens by threads."""
        used: Counter[int] = Counter()
        while (left := num_tokens - used.total()) > 0:
            threads, most = self.choice.next_run()
            run = min(left, most)
            seconds = run * self.cost(threads)
            self.now += seconds
            self.choice.took(run, seconds)
            used[threads] += run
        return used

    def seconds(self, num_tokens: int) -> float:
        began = self.now
        self.decode(num_tokens)
        return self.now - began


@pytest.mark.parametrize(("most", "cost", "best"), [(2, IDLE, 2), (8, IDLE, 8), (2, BUSY, 1), (8, ONE_TAKEN, 7)])
def test_the_fastest_number_is_found_within_a_few_tokens(most: int, cost: Cost, best: int) -> None:
    machine = Machine(most, cost)
    machine.decode(8)
    assert machine.choice.best == best


def test_trials_cost_little_on_an_idle_machine() -> None:
    machine = Machine(2, IDLE)
    used = machine.decode(256)
    assert used[1] <= 3
    assert machine.seconds(10_000) < 1.005 * 10_000 * IDLE(2)


def test_a_busy_machine_is_left_at_one_thread_but_for_rare_trials() -> None:
    machine = Machine(2, BUSY)
    assert machine.seconds(256) < 1.15 * 256 * BUSY(1)
    assert machine.seconds(10_000) < 1.02 * 10_000 * BUSY(1)


def test_fewer_threads_must_be_clearly_faster() -> None:
    assert Machine(2, {1: 2.2e-3, 2: 2.5e-3}.__getitem__).decode(5_000)[1] < 50


def test_work_that_begins_and_ends_is_noticed() -> None:
    machine = Machine(2, IDLE)
    machine.decode(5_000)
    machine.cost = BUSY
    began = machine.now
    machine.decode(20)
    assert machine.choice.best == 1
    assert machine.now - began < 0.5
    machine.decode(2_000)
    machine.cost = IDLE
    began = machine.now
    while machine.choice.best == 1:
        machine.decode(16)
    assert machine.now - began <= 8.1


def test_one_slow_token_costs_a_trial_and_no_more() -> None:
    machine = Machine(2, IDLE)
    machine.decode(5_000)
    machine.cost = BUSY
    machine.decode(1)
    machine.cost = IDLE
    assert machine.decode(300)[1] <= 2
    assert machine.choice.best == 2


def test_a_single_thread_is_never_timed() -> None:
    choice = ThreadChoice(1, pytest.fail)
    assert choice.next_run()[0] == 1
    choice.took(16, 1.0)
    assert choice.next_run()[0] == 1


def test_tokens_do_not_depend_on_changes_of_the_number(
    model: PreTrainedModel, layout: SequenceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, rules, threads = [layout.prompt_ids([7, 8, 9]), layout.prompt_ids([5])], SamplingRules(), 4
    expected = decode_image_tokens(model, layout, prompts, rules, [1, 2])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    used: list[tuple[int, int]] = []

    def every_number_in_turn(self: ThreadChoice) -> tuple[int, int]:
        used.append((1 + len(used) % threads, 1 + len(used) % 3))
        return used[-1]

    monkeypatch.setattr(ThreadChoice, "next_run", every_number_in_turn)
    monkeypatch.setattr(ThreadChoice, "took", lambda *_: None)
    backend = CpuBackend(model, layout)
    assert torch.equal(decode_image_tokens(model, layout, prompts, rules, [1, 2], backend=backend), expected)
    assert {number for number, _ in used} == {1, 2, 3, 4}
