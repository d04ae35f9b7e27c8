"""Tasks that several processes share: nothing is done twice, and whoever dies holds up nobody."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import Timeout

from arra_med.errors import EvaluationError
from arra_med.evaluate.shared_tasks import Task, lock, read_result, share_tasks

_PATIENCE_S = 300
_WORKER = """
import os, sys, time
from pathlib import Path
from arra_med.evaluate.shared_tasks import Task, share_tasks

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def task(number):
    def work():
        with (folder / "done.txt").open("a") as stream:
            stream.write(f"{number} {os.getpid()}\\n")
        time.sleep(seconds)
        (folder / f"result{number}").touch()
    return Task(f"task{number}", folder / f"result{number}", work)

(folder / f"ready{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
share_tasks("tasks", [task(number) for number in range(8)], folder / "locks", lambda line: None, wait_s=0.05)
"""


def start(folder: Path, seconds: float) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", _WORKER, str(folder), str(seconds)])
    wait_for(folder / f"ready{process.pid}")
    return process


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


def done(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "done.txt").read_text().splitlines()]


def make(folder: Path, number: int, log: list[int]) -> Task:
    def work() -> None:
        log.append(number)
        (folder / f"result{number}").touch()

    return Task(f"task{number}", folder / f"result{number}", work)


def test_two_processes_do_everything_once(tmp_path: Path) -> None:
    both = [start(tmp_path, 0.1) for _ in range(2)]
    (tmp_path / "go").touch()
    assert [process.wait(_PATIENCE_S) for process in both] == [0, 0]
    assert sorted(number for number, _ in done(tmp_path)) == [str(number) for number in range(8)]
    assert {int(process) for _, process in done(tmp_path)} == {process.pid for process in both}


def test_the_lock_of_a_killed_process_is_free_and_its_task_is_done_by_another(tmp_path: Path) -> None:
    first = start(tmp_path, 1000)
    (tmp_path / "go").touch()
    wait_for(tmp_path / "done.txt")
    with pytest.raises(Timeout), lock(tmp_path / "locks", "task0", timeout=0):
        pass
    os.kill(first.pid, signal.SIGKILL)
    first.wait(_PATIENCE_S)
    log: list[int] = []
    share_tasks("tasks", [make(tmp_path, number, log) for number in range(8)], tmp_path / "locks", lambda line: None)
    assert log == list(range(8))


def test_what_is_done_is_left_and_a_failure_keeps_the_rest(tmp_path: Path) -> None:
    log: list[int] = []
    said: list[str] = []
    (tmp_path / "result1").touch()

    def fails() -> None:
        raise ValueError("planted")

    tasks = [make(tmp_path, number, log) for number in range(3)]
    broken = Task("task2", tmp_path / "result2", fails)
    with pytest.raises(ValueError, match="planted"):
        share_tasks("tasks", [*tasks[:2], broken], tmp_path / "locks", said.append)
    assert log == [0]
    share_tasks("tasks", tasks, tmp_path / "locks", said.append)
    assert log == [0, 2]
    assert said == ["tasks: task0 (2 of 3)", "tasks: task2 (3 of 3)", "tasks: task2 (3 of 3)"]


def test_the_last_task_of_another_process_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    held = lock(tmp_path / "locks", "task0")
    held.acquire()

    def say(line: str) -> None:
        said.append(line)
        (tmp_path / "result0").touch()  # the other process ends
        held.release()

    share_tasks("tasks", [make(tmp_path, 0, [])], tmp_path / "locks", say, wait_s=0.01)
    assert said == ["tasks: other processes are at the last 1 of 1; waiting for them"]


def test_a_damaged_result_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"seconds": 3}', encoding="utf-8")
    assert read_result(path) == {"seconds": 3}
    path.write_text('{"seconds"', encoding="utf-8")
    with pytest.raises(
        EvaluationError, match=r"result\.json: is damaged or cannot be read: delete it and start the same"
    ):
        read_result(path)
