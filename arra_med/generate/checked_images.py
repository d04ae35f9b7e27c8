"""Drawing under a check: what it rejects is drawn anew with another seed, up to a limit.

An image that no try could replace is handed out with a mark in its record, not left out: a request for n images gets
n, a study does not lose the prompts that the model is worst at, and whoever reads the record can leave them out.
"""

import dataclasses
from collections.abc import Generator, Iterator

import numpy as np
import torch

from arra_med.generate.checking import (
    DEFAULT_TRIES,
    CheckedImage,
    CheckTally,
    ImageCheck,
    Try,
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
    require_tries(tries)
    result = None
    for update in session.stream(request, partial_images):
        result = update.result
        yield dataclasses.replace(update, progress=_FIRST_ROUND * update.progress, done=False, result=None)
    assert result is not None
    asked = [result.seed(index) for index in range(len(result.images))]
    images, codes = result.images.copy(), result.codes.clone()
    made: list[list[Try]] = [[] for _ in asked]
    kept: list[np.ndarray] = []
    rejected = list(range(len(asked)))
    for attempt in range(tries):
        seeds = [retry_seed(asked[place], attempt) for place in rejected]
        if attempt:
            result = yield from _drawn(session, request, seeds, images, (attempt - 1, tries - 1))
        drawn = result.images
        verdicts = check.judge(drawn, request, kept)
        kept += [image for image, verdict in zip(drawn, verdicts, strict=True) if verdict.passed]
        for row, (place, verdict) in enumerate(zip(rejected, verdicts, strict=True)):
            made[place].append(Try(seeds[row], verdict))
            if attempt and verdict.passed:
                images[place], codes[place] = drawn[row], result.codes[row]
        rejected = [place for place, verdict in zip(rejected, verdicts, strict=True) if not verdict.passed]
        if not rejected:
            break
    yield _finished(result, request, images, codes, [CheckedImage(tuple(one)) for one in made], check, tries)


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


def _finished(
    last: GenerationResult,
    request: GenerationRequest,
    images: np.ndarray,
    codes: torch.Tensor,
    checked: list[CheckedImage],
    check: ImageCheck,
    tries: int,
) -> GenerationUpdate:
    told = {"gate": check.identity, "tries_at_most": tries, "request": CheckTally.of(checked).record()}
    result = GenerationResult(
        images,
        codes,
        last.prompt,
        request,
        last.provenance,
        seeds=tuple(one.tries[one.chosen].seed for one in checked),
        checked=tuple(checked),
        check=told,
    )
    return GenerationUpdate(1.0, images.copy(), last.prompt, done=True, result=result)
