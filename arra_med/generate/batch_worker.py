"""Draws batches of planned images and writes them: the same work in this process and on the machines of a cluster.

While the model draws the codes of one batch, a second thread makes pictures of the one before and writes them. At most
two batches wait for it, which bounds the memory.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from arra_med.config import Device, resolve_device
from arra_med.errors import GenerationError
from arra_med.generate.batch_plan import PlannedImage, chunks, finished_record
from arra_med.generate.content_credentials import configured_signer
from arra_med.generate.export import ExportChoice, save_images
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle

_MOST_WAITING = 2
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class BatchRun(NamedTuple):
    """What decides the files of a run.

    Attributes:
        bundle: Folder of the bundle.
        out: Folder of the images.
        batch_size: Images drawn together.
        device: Where the model runs.
        export: How images are written.
        backend: Decoder; see `open_backend`.
    """

    bundle: Path
    out: Path
    batch_size: int
    device: Device
    export: ExportChoice
    backend: str = "auto"


class BatchWorker:
    """Draws tasks, each a JSON list of batches of `PlannedImage`; the same for every engine.

    Args:
        run: What to do.
        open_bundle: Opens the bundle of a run, on the machine that does the work.
    """

    def __init__(self, run: BatchRun, open_bundle: Callable[[BatchRun], ModelBundle] | None = None) -> None:
        self.run = run
        self._open_bundle = open_bundle or _open_bundle

    def __enter__(self) -> Self:
        self._session = ReportToImage(self._open_bundle(self.run), backend=self.run.backend)
        self._signer = configured_signer()
        self._batch_size = self.run.batch_size
        self._pictures = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pictures")
        self._waiting: deque[tuple[Sequence[PlannedImage], torch.Tensor, Future[None]]] = deque()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pictures.shutdown(wait=True)  # codes that were drawn before a stop still become pictures
        del self._session, self._pictures, self._waiting

    def work(self, tasks: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        """Draws the images of `tasks` that are not finished yet; tells `advance` of each batch that is written.

        Yields:
            For each task the `batch_size` that memory allowed; its last images may still be in work until the end.

        Raises:
            GenerationError: If there is not enough memory for one image, the model is damaged, or a file cannot be
                written.
        """
        for task in tasks:
            for batch in (unpack_batch(images) for images in json.loads(task)):
                unfinished = [image for image in batch if finished_record(image, self.run.out, self.run.export) is None]
                advance(len(batch) - len(unfinished))
                self._draw(unfinished, advance)
            yield {"batch_size": self._batch_size}
        self._settle(0, advance)

    def _draw(self, images: Sequence[PlannedImage], advance: Callable[[int], None]) -> None:
        """Draws some images, in smaller batches where the memory is full, and hands them to the second thread."""
        parts = deque(chunks(images, self._batch_size))
        while parts:
            part = parts.popleft()
            codes = self._codes_if_memory_allows(part)
            if codes is None:
                self._settle(0, advance)  # pictures in work take memory, too
                _free_memory()
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
            return self._session.draw_codes([image.request for image in images])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _settle(self, most_waiting: int, advance: Callable[[int], None]) -> None:
        """Waits until no more than so many batches wait for the second thread."""
        while len(self._waiting) > most_waiting:
            images, codes, written = self._waiting.popleft()
            try:
                written.result()
                full = False
            except (MemoryError, RuntimeError) as error:
                full = is_out_of_memory(error)
                if not full:
                    raise
            if full:  # the model's memory is free now, so the pictures have all of it
                _free_memory()
                self._write(images, codes)
            advance(len(images))

    def _write(self, images: Sequence[PlannedImage], codes: torch.Tensor) -> None:
        run = self.run
        for image, its_codes in zip(images, codes, strict=True):
            result = self._session.finish(image.request, its_codes[None])
            save_images(
                result,
                run.out,
                run.export.format,
                name=image.name,
                include_report=run.export.include_report,
                marks=run.export.marks,
                signer=self._signer,
            )


def pack_batches(batches: Sequence[Sequence[PlannedImage]]) -> bytes:
    """Returns batches as a task; it holds reports, and no message shows it."""
    return json.dumps([[image.model_dump(mode="json") for image in batch] for batch in batches]).encode()


def unpack_batch(images: Sequence[dict[str, Any]]) -> list[PlannedImage]:
    """Returns one batch of a task."""
    return [PlannedImage.model_validate(image) for image in images]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its accelerator is full."""
    full = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return full or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _open_bundle(run: BatchRun) -> ModelBundle:
    return ModelBundle.load(run.bundle, device=resolve_device(run.device))


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
