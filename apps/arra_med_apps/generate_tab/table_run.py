"""One table of reports being drawn: what `arra-med generate --prompts` does, in a thread, in the line of all runs.

Between two batches it lets those go first who came meanwhile, so that a long table holds nobody up.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from arra_med.generate.batch import draw_table
from arra_med.generate.batch_plan import PlannedImage
from arra_med.generate.batch_worker import Watcher
from arra_med.generate.decoding import GenerationStopped
from arra_med.generate.export import ExportChoice
from arra_med.generate.prompt_table import PromptRow
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med_apps.choices import ModelChoice
from arra_med_apps.generate_tab import words as own_words
from arra_med_apps.service.run import ModelRun

FIRST_IMAGES = 6
"""Of a table, kept for the session."""

_LATEST_IMAGES = 8

_LINE_POLL_S = 0.5


class TableRun:
    """Draws a table; another thread reads how far it is.

    Args:
        run: Its place in line, and what is counted of it.
        choice: The model.
        session: Opened with it.
        rows: Of the table.
        planned: Its images, in order.
        export: How they are written.

    Attributes:
        total: Images that the table asks for.
        done: Images whose files are written.
        latest: The last finished pictures, uint8, the newest last.
        worked_s: Seconds of work up to the last batch.
        images_per_s: For each second of work, waiting left out; none before the first batch.
    """

    def __init__(
        self,
        run: ModelRun,
        choice: ModelChoice,
        session: ReportToImage,
        rows: Sequence[PromptRow],
        planned: Sequence[PlannedImage],
        export: ExportChoice,
    ) -> None:
        self._run, self._choice, self._session, self._rows, self._export = run, choice, session, rows, export
        self._planned, self._firsts = planned, [_key(image) for image in planned[:FIRST_IMAGES]]
        self._made: dict[tuple[str, int], GenerationResult] = {}
        self._stop = threading.Event()
        self._at_work_since: float | None = None
        self.worked_s = 0.0
        self.total, self.done = len(planned), 0
        self.images_per_s: float | None = None
        self.latest: deque[np.ndarray] = deque(maxlen=_LATEST_IMAGES)

    def draw(self, out: Path) -> bool:
        """Waits for its turn and draws into a folder.

        Returns:
            Whether all images are there; else somebody stopped it, and those that were finished are.

        Raises:
            ArraMedError: As `batch.draw_table`; also if the app is being closed.
        """
        watcher = Watcher(self._session, self._progress, self._image, self._is_to_stop)
        try:
            self._wait(self._run.places())
            draw_table(
                own_words.THE_TABLE, self._rows, self._choice.folder or Path(), out, export=self._export,
                progress=False, watcher=watcher,
            )  # fmt: skip
        except GenerationStopped:
            self._run.end_if_closing()
            self.done = self._run.made = sum(image.record_path(out).exists() for image in self._planned)
            return False
        finally:
            self._run.leave()
        return True

    def stop(self) -> None:
        """Ends it at the next row."""
        self._stop.set()

    @property
    def place(self) -> str:
        """What is said of its place while it waits; empty while it is at work."""
        return self._run.place

    @property
    def first(self) -> list[GenerationResult]:
        """The table's first images that are there, in its order."""
        return [self._made[key] for key in self._firsts if key in self._made]

    def _wait(self, places: Iterator[str]) -> None:
        for _ in places:
            if self._stop.is_set():
                raise GenerationStopped("stopped while waiting")
        self._at_work_since = time.monotonic()

    def _progress(self, done: int, _: int) -> None:
        now = time.monotonic()
        self.worked_s += now - (self._at_work_since or now)
        self._at_work_since = now
        has_drawn, self.done = done > self.done, done
        self._run.made = done
        self.images_per_s = done / self.worked_s if done and self.worked_s else None
        if has_drawn and done < self.total:
            self._wait(self._run.others_first())

    def _image(self, image: PlannedImage, result: GenerationResult) -> None:
        self.latest.append(result.images[0])
        if _key(image) in self._firsts:
            self._made[_key(image)] = result

    def _is_to_stop(self) -> bool:
        return self._stop.is_set() or self._run.is_closing


def _key(image: PlannedImage) -> tuple[str, int]:
    return image.name, image.request.seed
