"""Drawing under a check: what it rejects is drawn anew with another seed, up to a limit.

An image that no try could replace is handed out with a mark in its record, not left out: a request for n images gets
n, a study does not lose the prompts that the model is worst at, and whoever reads the record can leave them out.
"""

import dataclasses
from collections.abc import Generator, Iterator

import numpy as np

from arra_med.generate.checking import (
    DEFAULT_TRIES,
    CheckedImage,
    CheckTally,
    ImageCheck,
    Try,
    asked_check,
    require_tries,
    retry_seed,
)
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationResult, GenerationUpdate, ReportToImage

_FIRST_ROUND = 0.9  # of the progress; how many rounds follow is not known before


def generate_checked(
    session: ReportToImage, request: GenerationRequest, check: ImageCheck, tries: int = DEFAULT_TRIES
) -> GenerationResult:
    """Makes images like `ReportToImage.generate`, and draws anew what the check rejects; see `stream_checked`."""
    for update in stream_checked(session, request, check, tries, partial_images=False):
        if update.result is not None:
            return update.result
    raise AssertionError("a stream ends with a result")


def stream_checked(
    session: ReportToImage,
    request: GenerationRequest,
    check: ImageCheck,
    tries: int = DEFAULT_TRIES,
    partial_images: bool = True,
) -> Iterator[GenerationUpdate]:
    """Makes images like `ReportToImage.stream`, and draws anew what the check rejects.

    Try k of an image has the seed `retry_seed(seed, k)`. Images are judged in the order of their places, first all
    first tries, then all second ones, so that the same request always ends with the same images.

    Args:
        session: The model, opened.
        request: What to make.
        check: Judges the images.
        tries: Images drawn for each place at most, the first one included.
        partial_images: Show what is there of the first tries.

    Yields:
        Updates; the result's `seeds` are those of the images handed out, `checks` what its provenance says of each.

    Raises:
        GenerationError: As `ReportToImage.stream`, or if `tries` is no possible limit.
        EvaluationError: If an image cannot be judged.
    """
    result = None
    places = CheckedPlaces(request, check, tries)
    for update in session.stream(request, partial_images):
        result = update.result
        progress = _FIRST_ROUND * update.progress
        yield dataclasses.replace(update, progress=progress, done=False, result=None, finished=None)
    assert result is not None
    places.take(result)
    while places.seeds:
        result = yield from _drawn(session, request, places.seeds, places.images, (places.round - 1, tries - 1))
        places.take(result)
    finished = places.result()
    yield GenerationUpdate(1.0, finished.images.copy(), finished.prompt, True, result=finished, finished=finished)


class CheckedPlaces:
    """The places of one request on their way: what was drawn for each, and what is to be drawn next.

    Args:
        request: What to make.
        check: Judges the images.
        tries: Images drawn for each place at most, the first one included.

    Attributes:
        seeds: Of the images that `take` waits for; empty: every place has its image.
        round: 0 while the first tries are awaited.

    Raises:
        GenerationError: If `tries` is no possible limit.
    """

    def __init__(self, request: GenerationRequest, check: ImageCheck, tries: int) -> None:
        require_tries(tries)
        self._request, self._check, self._tries = request, check, tries
        self._asked = [request.seed + index for index in range(request.num_images)]
        self._made: list[list[Try]] = [[] for _ in self._asked]
        self._kept: list[np.ndarray] = []
        self._rejected = list(range(len(self._asked)))
        self._first: GenerationResult | None = None
        self.seeds = list(self._asked)
        self.round = 0

    @property
    def images(self) -> np.ndarray:
        """What stands at each place so far; there once the first round was taken."""
        assert self._first is not None
        return self._first.images

    def take(self, result: GenerationResult) -> None:
        """Judges one round, an image for each of `seeds` in their order.

        Raises:
            EvaluationError: If an image cannot be judged; the round can be given once more.
        """
        verdicts = self._check.judge(result.images, self._request, self._kept)
        if self._first is None:
            self._first = dataclasses.replace(result, images=result.images.copy(), codes=result.codes.clone())
        for row, (place, verdict) in enumerate(zip(self._rejected, verdicts, strict=True)):
            self._made[place].append(Try(self.seeds[row], verdict))
            if verdict.passed:
                self._kept.append(result.images[row])
                self._first.images[place], self._first.codes[place] = result.images[row], result.codes[row]
        self._rejected = [place for place, tries in enumerate(self._made) if not tries[-1].verdict.passed]
        self.round += 1
        again = self._rejected if self.round < self._tries else []
        self.seeds = [retry_seed(self._asked[place], self.round) for place in again]

    def result(self) -> GenerationResult:
        """Returns the finished images, with what the check did for each."""
        assert self._first is not None
        checked = tuple(CheckedImage(tuple(tries)) for tries in self._made)
        told = {**asked_check(self._check, self._tries), "request": CheckTally.of(checked).record()}
        seeds = tuple(one.tries[one.chosen].seed for one in checked)
        return dataclasses.replace(self._first, request=self._request, seeds=seeds, checked=checked, check=told)


def _drawn(
    session: ReportToImage, request: GenerationRequest, seeds: list[int], images: np.ndarray, round_of: tuple[int, int]
) -> Generator[GenerationUpdate, None, GenerationResult]:
    """Draws one round of retries; returns its result. Updates go on showing the images that are there."""
    number, rounds = round_of
    for update in session.stream(request, partial_images=False, seeds=seeds):
        if update.result is not None:
            return update.result
        progress = _FIRST_ROUND + (1 - _FIRST_ROUND) * (number + update.progress) / rounds
        yield GenerationUpdate(progress, images.copy(), update.prompt)
    raise AssertionError("a stream ends with a result")
