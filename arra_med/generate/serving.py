"""Sessions whose images are drawn by worker processes: Ray Serve replicas, on this machine or on a cluster.

A worker that dies is replaced, and what it drew is drawn again by another one: the same seeds give the same pixels, so
whoever waits sees the progress halt, and nothing else. Closing the stream ends a worker's run at its next row.
Source: Ray Serve, streaming responses (docs.ray.io).
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import serve
from ray.exceptions import RayError

from arra_med import errors
from arra_med.config import resolve_device
from arra_med.corpus.ray_engine import connected
from arra_med.errors import ArraMedError, EngineError
from arra_med.generate.decoding import GenerationStopped
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationUpdate, ReportToImage
from arra_med.models.bundle import ModelBundle

_NAME = "arra-med"
_TRIES = 3
_POLL_S = 0.5
_DIED = "three workers in a row died over this picture: look at the memory of the machine they run on"


class Workers:
    """Started workers; `close` ends them.

    Args:
        count: How many images are drawn at the same time.
        address: `local`, or a running cluster's `host:port` or `auto`, whose machines see the bundles at the same paths.

    Raises:
        EngineError: If they cannot be started.
    """

    def __init__(self, count: int, address: str = "local") -> None:
        self.count = count
        self._open = contextlib.ExitStack()
        try:
            self._open.enter_context(connected(address))
            has = ray.cluster_resources()
            needs = {f"num_{kind.lower()}s": min(1.0, has.get(kind, 0) / count) for kind in ("CPU", "GPU")}
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
            self._open.callback(serve.shutdown)
            deployment: Any = serve.deployment(
                _Worker,
                name="worker",
                num_replicas=count,
                max_ongoing_requests=1,
                health_check_period_s=2,
                ray_actor_options=needs,
            )
            threads = max(1, (os.cpu_count() or 1) // count)
            self.handle: Any = serve.run(deployment.bind(threads), name=_NAME, route_prefix=None)
        except (RayError, OSError, ValueError, RuntimeError) as error:
            self.close()
            raise EngineError(
                f"{count} workers could not be started at {address!r} ({type(error).__name__}): give fewer with --workers, "
                "or leave --engine ray out"
            ) from None

    def close(self) -> None:
        """Ends the workers, and Ray if it was started for them."""
        with contextlib.suppress(RayError, OSError, RuntimeError, ValueError):
            self._open.close()


class ServedReportToImage(ReportToImage):
    """A session that draws in `Workers`; prompts and all else are its own.

    Args:
        bundle: The model.
        folder: Its folder, from which each worker opens it.
        workers: Who draws.
    """

    def __init__(self, bundle: ModelBundle, folder: Path, workers: Workers) -> None:
        super().__init__(bundle)
        self._folder, self._workers = folder.resolve(), workers

    def draw_codes(
        self, requests: Sequence[GenerationRequest], should_stop: Callable[[], bool] | None = None
    ) -> torch.Tensor:
        """Draws codes as `ReportToImage.draw_codes` does; an end is asked for twice a second.

        Raises:
            GenerationError: As there.
            GenerationStopped: As there.
            ReportError: As there.
            EngineError: If three workers died over it.
        """
        for _ in range(_TRIES):
            answer = self._workers.handle.draw_codes.remote(str(self._folder), self.bundle.fingerprint, list(requests))
            try:
                while True:
                    if should_stop is not None and should_stop():
                        raise GenerationStopped("generation was stopped between two rows; start it again")
                    with contextlib.suppress(TimeoutError):
                        kind, told = answer.result(timeout_s=_POLL_S)
                        break
                if kind == "error":
                    raise getattr(errors, told[0], ArraMedError)(told[1])
                return torch.from_numpy(told.copy())  # Ray lends it read-only
            except RayError:
                continue
            finally:
                answer.cancel()
        raise EngineError(_DIED)

    def stream(
        self,
        request: GenerationRequest,
        partial_images: bool = True,
        seeds: Sequence[int] = (),
        kept: torch.Tensor | None = None,
    ) -> Iterator[GenerationUpdate]:
        """Makes the images as `ReportToImage.stream` does.

        Raises:
            GenerationError: As there.
            ReportError: As there.
            EngineError: If three workers died over it.
        """
        self.reader.token_ids(self.prompt(request))  # a mistake is told without a worker
        seen = -1.0
        for _ in range(_TRIES):
            answers = self._workers.handle.options(stream=True).draw.remote(
                str(self._folder), self.bundle.fingerprint, request, partial_images, tuple(seeds), kept
            )
            try:
                for kind, told in answers:
                    if kind == "error":
                        raise getattr(errors, told[0], ArraMedError)(told[1])
                    if told.progress >= seen:  # after a death it begins anew
                        seen = told.progress
                        yield told
                return
            except RayError:
                continue
            finally:
                answers.cancel()
        raise EngineError(_DIED)


class _Worker:
    """One process with its own models."""

    def __init__(self, threads: int) -> None:
        logging.disable(logging.CRITICAL)
        torch.set_num_threads(threads)
        self._opened: dict[str, ReportToImage] = {}

    async def draw(
        self,
        folder: str,
        fingerprint: str,
        request: GenerationRequest,
        partial_images: bool,
        seeds: tuple[int, ...],
        kept: torch.Tensor | None,
    ) -> AsyncIterator[tuple[str, Any]]:
        """Yields ("update", a `GenerationUpdate`), or ("error", class and words) once."""
        try:
            session = await asyncio.to_thread(self._session, folder, fingerprint)
            updates: Any = session.stream(request, partial_images, seeds, kept)
            with contextlib.closing(updates):
                while (update := await asyncio.to_thread(next, updates, None)) is not None:
                    yield "update", update
        except ArraMedError as error:
            yield "error", (type(error).__name__, str(error))

    async def draw_codes(self, folder: str, fingerprint: str, requests: Sequence[GenerationRequest]) -> tuple[str, Any]:
        """Returns ("codes", int64 array), or ("error", class and words); cancelled, it ends at the next row."""
        stop = threading.Event()
        try:
            session = await asyncio.to_thread(self._session, folder, fingerprint)
            return "codes", (await asyncio.to_thread(session.draw_codes, requests, stop.is_set)).numpy()
        except ArraMedError as error:
            return "error", (type(error).__name__, str(error))
        finally:
            stop.set()

    def _session(self, folder: str, fingerprint: str) -> ReportToImage:
        session = self._opened.get(folder)
        if session is None or session.bundle.fingerprint != fingerprint:
            session = ReportToImage(ModelBundle.load(Path(folder), device=resolve_device("auto"), dtype="auto"))
            self._opened[folder] = session
        return session
