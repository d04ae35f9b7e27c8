"""Draws batches of planned images and writes them: the same work in this process and on the machines of a cluster.

While the model draws the codes of one batch, a second thread makes pictures of the one before, judges them if there is
a check, and writes them. At most two batches wait for it, which bounds the memory.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from arra_med.config import Device, Dtype, resolve_device
from arra_med.errors import GenerationError, is_out_of_memory
from arra_med.generate.batch_checked import CheckedRows, TableCheck
from arra_med.generate.batch_plan import PlannedImage, chunks, finished_record
from arra_med.generate.content_credentials import configured_signer
from arra_med.generate.decoding import free_memory
from arra_med.generate.export import ExportChoice, save_images
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.models.bundle import ModelBundle

_MOST_WAITING = 2


_Written = tuple[int, list[PlannedImage]]
"""Images written, and those to be drawn with another seed."""


class BatchRun(NamedTuple):
    """What decides the files of a run.

    Attributes:
        bundle: Folder of the bundle.
        out: Folder of the images.
        batch_size: Images drawn together.
        device: Where the model runs.
        export: How images are written.
        backend: Decoder; see `open_backend`.
        dtype: Number format of the language model; see `resolve_dtype`.
        check: Judges the images; none: nobody does.
    """

    bundle: Path
    out: Path
    batch_size: int
    device: Device
    export: ExportChoice
    backend: str = "auto"
    dtype: Dtype = "auto"
    check: TableCheck | None = None

    def unfinished(self, images: Sequence[PlannedImage]) -> list[PlannedImage]:
        """Returns the images that are to be made; under a check, all of a row if one is."""
        missing = [image for image in images if finished_record(image, self.out, self.export) is None]
        if self.check is None:
            return missing
        rows = {image.row for image in missing}
        return [image for image in images if image.row in rows]


class Watcher(NamedTuple):
    """Who watches a run in its own process, and lends it a model; a cluster knows none.

    Attributes:
        session: Draws; none: the bundle is opened.
        progress: Is told how many images are finished, and how many there will be, after each batch; the next one waits
            for its return.
        image: Is shown each image when its files are written, in another thread than `progress`.
        should_stop: Asked after each grid row: whether the run is to end with `GenerationStopped`.
    """

    session: ReportToImage | None = None
    progress: Callable[[int, int], None] = lambda _done, _total: None
    image: Callable[[PlannedImage, GenerationResult], None] = lambda _image, _result: None
    should_stop: Callable[[], bool] | None = None


NOBODY = Watcher()


class BatchWorker:
    """Draws tasks, each a JSON list of batches of `PlannedImage`; the same for every engine.

    Args:
        run: What to do.
        open_bundle: Opens the bundle of a run, on the machine that does the work.
        watcher: Of a run in this process.
    """

    def __init__(
        self,
        run: BatchRun,
        open_bundle: Callable[[BatchRun], ModelBundle] | None = None,
        watcher: Watcher = NOBODY,
    ) -> None:
        self.run = run
        self._open_bundle = open_bundle or _open_bundle
        self._watcher = watcher

    def __enter__(self) -> Self:
        check = self.run.check
        self._session = self._watcher.session or ReportToImage(self._open_bundle(self.run), backend=self.run.backend)
        self._signer = configured_signer()
        self._checked = None
        if check is not None:
            opened = check.opened(self._session.bundle.model.device.type)
            self._checked = CheckedRows(self._session, opened, check.tries, self._save)
        self._again: list[PlannedImage] = []
        self._batch_size = self.run.batch_size
        self._pictures = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._waiting: deque[tuple[Sequence[PlannedImage], torch.Tensor, Future[_Written]]] = deque()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pictures.shutdown(wait=True)  # codes that were drawn before a stop still become pictures
        del self._session, self._pictures, self._waiting

    def work(self, tasks: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Draws the images of `tasks` that are not finished yet; tells `advance` of each batch that is written.

        Yields:
            For each task the `batch_size` that memory allowed; its last images may still be in work until the end, so
            the last task's is yielded after them, retries included.

        Raises:
            GenerationError: If there is not enough memory for one image, the model is damaged, or a file cannot be
                written.
        """
        has_worked = False
        for task in tasks:
            if has_worked:
                yield {"batch_size": self._batch_size}
            for batch in (unpack_batch(images) for images in json.loads(task)):
                unfinished = self.run.unfinished(batch)
                advance(len(batch) - len(unfinished))
                if self._checked is not None:
                    self._checked.start(unfinished)
                self._draw(unfinished, advance)
                if len(self._again) >= self._batch_size:
                    self._draw_again(advance)
            has_worked = True
        self._settle(0, advance)
        while self._again:
            self._draw_again(advance)
            self._settle(0, advance)
        if has_worked:
            yield {"batch_size": self._batch_size}

    def _draw_again(self, advance: Callable[[int], None]) -> None:
        rejected, self._again = self._again, []
        self._draw(rejected, advance)

    def _draw(self, images: Sequence[PlannedImage], advance: Callable[[int], None]) -> None:
        """Draws some images, in smaller batches where the memory is full, and hands them to the second thread."""
        parts = deque(chunks(images, self._batch_size))
        while parts:
            part = parts.popleft()
            codes = self._codes_if_memory_allows(part)
            if codes is None:
                self._settle(0, advance)  # pictures in work take memory, too
                free_memory()
                if len(part) > 1:
                    self._batch_size = len(part) // 2
                    parts = deque(chunks([*part, *(image for later in parts for image in later)], self._batch_size))
                    continue
                codes = self._codes_if_memory_allows(part)
            if codes is None:
                raise GenerationError(
                    "the memory is full with one image at a time; finished images are kept: close other programs, or "
                    "choose another --device or a smaller bundle, and start the same command again"
                )
            self._waiting.append((part, codes, self._pictures.submit(self._write, part, codes)))
            self._settle(_MOST_WAITING, advance)

    def _codes_if_memory_allows(self, images: Sequence[PlannedImage]) -> torch.Tensor | None:
        try:
            return self._session.draw_codes([image.request for image in images], self._watcher.should_stop)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _settle(self, most_waiting: int, advance: Callable[[int], None]) -> None:
        """Tells of the batches that the second thread has written; waits until it has no more than so many left."""
        while len(self._waiting) > most_waiting or (self._waiting and self._waiting[0][2].done()):
            images, codes, written = self._waiting.popleft()
            told = None
            try:
                told = written.result()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if told is None:  # the model's memory is free now, so the pictures have all of it
                free_memory()
                told = self._pictures.submit(self._write, images, codes).result()
            num_written, again = told
            self._again += again
            advance(num_written)

    def _write(self, images: Sequence[PlannedImage], codes: torch.Tensor) -> _Written:
        if self._checked is not None:
            return self._checked.take(images, codes)
        for image, its_codes in zip(images, codes, strict=True):
            self._save(image, self._session.finish(image.request, its_codes[None]))
        return len(images), []

    def _save(self, image: PlannedImage, result: GenerationResult) -> None:
        export = self.run.export
        save_images(
            result,
            self.run.out,
            export.format,
            name=image.name,
            include_report=export.include_report,
            marks=export.marks,
            signer=self._signer,
        )
        self._watcher.image(image, result)


def pack_batches(batches: Sequence[Sequence[PlannedImage]]) -> bytes:
    """Returns batches as a task; it holds reports, and no message shows it."""
    return json.dumps([[image.model_dump(mode="json") for image in batch] for batch in batches]).encode()


def unpack_batch(images: Sequence[dict[str, Any]]) -> list[PlannedImage]:
    """Returns one batch of a task."""
    return [PlannedImage.model_validate(image) for image in images]


def _open_bundle(run: BatchRun) -> ModelBundle:
    return ModelBundle.load(run.bundle, device=resolve_device(run.device), dtype=run.dtype)
