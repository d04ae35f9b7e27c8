"""Partial pictures while the tokens arrive: decoded beside the drawing, for a bounded share of its time.

One thread decodes the newest row it is offered while the model goes on; on a machine that has no processor to spare it
takes time from the model all the same, so what it took is counted against the time since the start, over all batches.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import torch

from arra_med.errors import is_out_of_memory
from arra_med.imaging.view import to_uint8

MID_GREY = 128
"""Stands where there is no picture yet."""

SHARE = 0.12  # of the time since the start, at most; 15% is promised, and decoding slows the tokens beside it, too (measured)


@dataclass
class PreviewCost:
    """What a session has learned: seconds that the last preview took for each image; none before the first."""

    seconds_an_image: float | None = None


@dataclass
class _Job:
    numbers: list[int]
    stop: threading.Event = field(default_factory=threading.Event)
    pictures: Future[np.ndarray] = field(default_factory=Future)


class Previews:
    """Decodes partial pictures of one request in a thread of its own, while it is entered.

    Args:
        picture: Codes so far of one image, int64 (1, r, w), -> its picture, uint8 (1, H, W) or (1, H, W, 3).
        cost: Kept from request to request; foresees what a preview will take.
        share: Of the time since the start that previews may take; 0: there are none.
    """

    def __init__(self, picture: Callable[[torch.Tensor], np.ndarray], cost: PreviewCost, share: float = SHARE) -> None:
        self._picture, self._cost, self._share = picture, cost, share
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preview")
        self._job: _Job | None = None
        self._turn = 0
        self._spent_s, self._began_s = 0.0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drop()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def offer(self, codes: torch.Tensor, first: int) -> None:
        """Begins a preview of as many images as their share of the time allows, in turn, unless one is in work.

        Args:
            codes: int64 (B, r, w), the rows so far; nobody changes them.
            first: Number of the first image.
        """
        if self._job is not None:
            return
        cost_s, left_s = self._cost.seconds_an_image, self._allowed_s() - self._spent_s
        count = int(min(len(codes), left_s / cost_s)) if cost_s else len(codes)
        if count > 0 and left_s > 0:
            chosen = [(self._turn + at) % len(codes) for at in range(count)]
            self._turn += count
            self._job = job = _Job([first + image for image in chosen])
            job.pictures = self._worker.submit(self._decode, codes[chosen], job.stop)

    def show(self, images: np.ndarray) -> None:
        """Puts the pictures that were finished since the last call into uint8 (n, H, W) or (n, H, W, 3)."""
        if self._job is None or not self._job.pictures.done():
            return
        job, self._job = self._job, None
        if not job.stop.is_set():
            try:
                pictures = job.pictures.result()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._share = 0.0  # the memory is needed for the images themselves
                return
            images[job.numbers[: len(pictures)]] = pictures

    def drop(self) -> None:
        """Ends what is in work, after the image at hand: its images are finished, or nobody waits for them."""
        if self._job is not None:
            self._job.stop.set()

    def _allowed_s(self) -> float:
        return self._share * (time.monotonic() - self._began_s)

    def _decode(self, codes: torch.Tensor, stop: threading.Event) -> np.ndarray:
        """Makes pictures of the first images, of all of them where the cost is as foreseen; of one in any case."""
        began_s, pictures = time.monotonic(), []
        for image in codes:
            pictures.append(self._picture(image[None]))
            took_s = time.monotonic() - began_s
            self._cost.seconds_an_image = took_s / len(pictures)
            if stop.is_set() or self._spent_s + took_s + self._cost.seconds_an_image > self._allowed_s():
                break
        self._spent_s += time.monotonic() - began_s
        return np.concatenate(pictures)


def partial_pictures(decode: Callable[[torch.Tensor], np.ndarray], codes: torch.Tensor, num_rows: int) -> np.ndarray:
    """Makes pictures whose missing part is mid-grey, below a soft edge of one grid row.

    The last row is repeated before decoding, so that the decoder finds plausible surroundings.

    Args:
        decode: Codes of whole images, int64 (B, h, w), -> float32 (B, H, W, C) in [0, 1].
        codes: The rows so far, int64 (B, r, w).
        num_rows: h.

    Returns:
        uint8 (B, H, W) or (B, H, W, 3).
    """
    num_made = codes.shape[1]
    filled = torch.cat([codes, codes[:, -1:].expand(-1, num_rows - num_made, -1)], dim=1)
    pictures = decode(filled)
    row_px = pictures.shape[1] // num_rows
    depth = (np.arange(pictures.shape[1]) - num_made * row_px + 1) / row_px
    weight = (1 - depth).clip(0, 1)[None, :, None, None]
    grey = MID_GREY / 255
    return uint8_pictures(grey + weight * (pictures - grey))


def uint8_pictures(decoded: np.ndarray) -> np.ndarray:
    """Floats (B, H, W, C) in [0, 1] -> uint8 (B, H, W) or (B, H, W, 3)."""
    pictures = to_uint8(decoded)
    return pictures[..., 0] if pictures.shape[-1] == 1 else pictures
