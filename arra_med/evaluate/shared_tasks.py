"""Tasks that are done once, by whichever process comes first: the same command on the same folder shares them out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from arra_med.errors import EvaluationError

_WAIT_S = 5.0


@dataclass(frozen=True)
class Task:
    """Something to do once.

    Attributes:
        name: Of its lock, and for messages.
        result: The file that is there when it is done.
        work: Does it; what it had done before it was stopped it finds again.
    """

    name: str
    result: Path
    work: Callable[[], None]


def lock(folder: Path, name: str, timeout: float = -1) -> FileLock:
    """Returns the lock of a name; the operating system lets go of it when its process ends, however it ends.

    Args:
        folder: Where the locks lie.
        name: Which one.
        timeout: Seconds to wait for it; below 0 for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock", timeout=timeout)


def read_result(path: Path) -> Any:
    """Reads the JSON file that a task wrote.

    Raises:
        EvaluationError: If it is damaged or missing.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EvaluationError(
            f"{path}: is damaged or cannot be read: delete it and start the same command again, which makes it anew"
        ) from None


def share_tasks(
    what: str, tasks: Sequence[Task], locks: Path, say: Callable[[str], None], wait_s: float = _WAIT_S
) -> None:
    """Does every task whose result is missing, leaves those that another process does to it, and waits for them.

    Args:
        what: The tasks' name for messages.
        tasks: In the order wanted.
        locks: Where the locks lie.
        say: Receives a line for each task, and one when there is nothing but waiting.
        wait_s: Seconds between looks at the others' results.
    """
    told = False
    while pending := [task for task in tasks if not task.result.is_file()]:
        worked = False
        for task in pending:
            try:
                with lock(locks, task.name, timeout=0):
                    if not task.result.is_file():
                        done = sum(other.result.is_file() for other in tasks)
                        say(f"{what}: {task.name} ({done + 1} of {len(tasks)})")
                        task.work()
                        worked = True
            except Timeout:
                continue
        if not worked:
            if not told:
                say(f"{what}: other processes are at the last {len(pending)} of {len(tasks)}; waiting for them")
            told = True
            time.sleep(wait_s)
