"""Frees what Gradio keeps of every session, about half a megabyte each, once nobody uses it any more.

Gradio marks a session as closed when its browser is, empties its states an hour later, and keeps the rest until ten
thousand sessions have come.
"""

import datetime
import threading
from typing import Any

PAGE_KEPT_S = 3600
"""As long as the page's files."""

PROGRAM_KEPT_S = 60
_EVERY_S = 20


class Sessions:
    """Which sessions are a program's, and when each is dropped."""

    def __init__(self) -> None:
        self._programs: set[str] = set()
        self._lock = threading.Lock()

    def is_programs(self, session: str) -> None:
        """Notes that a session made one call and has no page."""
        with self._lock:
            self._programs.add(session)

    def sweep(self, holder: Any, now: datetime.datetime | None = None) -> int:
        """Drops the sessions that have not been used for long.

        Args:
            holder: Gradio's `StateHolder`.
            now: The time.

        Returns:
            How many were dropped.
        """
        now, dropped = now or datetime.datetime.now(), 0
        for session, used in list(holder.time_last_used.items()):
            with self._lock:
                kept_s = PROGRAM_KEPT_S if session in self._programs else PAGE_KEPT_S
            if (now - used).total_seconds() <= kept_s:
                continue
            with holder.lock:
                holder.session_data.pop(session, None)
                holder.time_last_used.pop(session, None)
            with self._lock:
                self._programs.discard(session)
            dropped += 1
        return dropped

    def sweep_until(self, closing: threading.Event, holder: Any) -> None:
        """Sweeps in a thread of its own until `closing` is set."""

        def run() -> None:
            while not closing.wait(_EVERY_S):
                self.sweep(holder)

        threading.Thread(target=run, daemon=True, name="sessions").start()
