"""Same seed, edited report: two pictures that differ by the report alone, and a map of where.

Both are drawn with the same random numbers, so what differs comes from the report. But it comes from it by way of every
code drawn after the first that differs: the map shows pixels, not what the edited words mean.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.generate.content_credentials import ContentSigner
from arra_med.generate.export import image_provenance, image_stem, save_images
from arra_med.generate.export_png import write_png
from arra_med.generate.marks import Marks
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import SYNTHETIC_NOTICE, GenerationResult, ReportToImage
from arra_med.reporting.pictures import Panel, draw_board
from arra_med.runs import atomic_file, write_json

LIMIT = (
    "The map shows which pixels differ between the two pictures, and by how much. It shows no cause: after the first image "
    "token that differs, all later ones are drawn anew, so pixels far from what was edited differ as well."
)
SAME_PROMPT = "Both reports become the same prompt, so the model reads no difference: the pictures are the same."

MIN_SCALE = 32
"""The map's scale ends at no less than this difference, of 255, so that rounding does not look like a finding."""

_PALETTE = "RdBu_r"  # ColorBrewer's, whose two sides people with colour-blindness tell apart
_ALL_MARKS = Marks()


@dataclass(frozen=True)
class Counterfactual:
    """Images of two reports, pair by pair of the same seed.

    Attributes:
        before: Of the report.
        after: Of the edited report.
        differences: int16 (n, H, W), `after` minus `before` in grey levels, -255 to 255; of colours their mean.
        tokens_changed: float64 (n,), share of the image tokens that differ.
    """

    before: GenerationResult
    after: GenerationResult
    differences: np.ndarray
    tokens_changed: np.ndarray

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should be told."""
        return (SAME_PROMPT,) if self.before.prompt.text == self.after.prompt.text else ()

    @property
    def scale(self) -> int:
        """The difference, in grey levels, at both ends of the map's colours; one for all pairs."""
        return max(MIN_SCALE, int(np.abs(self.differences).max()))

    def told(self, index: int) -> dict[str, Any]:
        """Returns what the record says of a pair."""
        difference = np.abs(self.differences[index])
        return {
            "compares": "same seed, edited report",
            "report_before_keyed_hash": self.before.provenance["report_keyed_hash"],
            "report_after_keyed_hash": self.after.provenance["report_keyed_hash"],
            "prompt_before_keyed_hash": self.before.provenance["prompt_keyed_hash"],
            "prompt_after_keyed_hash": self.after.provenance["prompt_keyed_hash"],
            "share_of_tokens_changed": float(self.tokens_changed[index]),
            "mean_absolute_difference": float(difference.mean()),
            "largest_difference": int(difference.max()),
            "scale": [-self.scale, self.scale],
            "limit": LIMIT,
        }


@dataclass(frozen=True)
class CounterfactualUpdate:
    """State of a pair in progress: the share of the work that is done, and in the last update the pairs."""

    progress: float
    result: Counterfactual | None = None


def stream_counterfactual(
    session: ReportToImage, request: GenerationRequest, edited_report: str
) -> Iterator[CounterfactualUpdate]:
    """Draws both reports with the request's seeds and rules.

    Args:
        session: The model.
        request: With the first report; view, eye and age group that it states hold for both.
        edited_report: The second one.

    Raises:
        GenerationError: If a request does not fit the bundle, or the model is damaged.
        ReportError: If a report holds nothing that can become a prompt.
    """
    edited = GenerationRequest(**{**request.model_dump(), "report": edited_report})
    session.prompt(request), session.prompt(edited)  # a mistake in either is told before anything is drawn
    results: list[GenerationResult] = []
    for one in (request, edited):
        for update in session.stream(one, partial_images=False):
            yield CounterfactualUpdate((len(results) + update.progress) / 2)
            if update.result is not None:
                results.append(update.result)
                break
    yield CounterfactualUpdate(1.0, compared(*results))


def counterfactual(session: ReportToImage, request: GenerationRequest, edited_report: str) -> Counterfactual:
    """Draws both reports without updates; arguments and errors as `stream_counterfactual`."""
    for update in stream_counterfactual(session, request, edited_report):
        if update.result is not None:
            return update.result
    raise AssertionError("a stream ends with a result")


def compared(before: GenerationResult, after: GenerationResult) -> Counterfactual:
    """Sets two results with the same seeds side by side."""
    differences = after.images.astype(np.int16) - before.images
    if differences.ndim == 4:
        differences = np.rint(differences.mean(axis=-1)).astype(np.int16)
    changed = (before.codes != after.codes).flatten(1).double().mean(dim=1)
    return Counterfactual(before, after, differences, changed.numpy())


def difference_picture(difference: np.ndarray, scale: int) -> np.ndarray:
    """Draws a map of differences: darker is blue, brighter is red, unchanged is near white.

    Args:
        difference: int (H, W).
        scale: The difference at both ends of the colours, so that zero is always in the middle.

    Returns:
        uint8 (H, W, 3).
    """
    import matplotlib

    shares = (difference.astype(float) / scale).clip(-1, 1) / 2 + 0.5
    return np.asarray(matplotlib.colormaps[_PALETTE](shares, bytes=True)[..., :3])


def save_counterfactual(
    pairs: Counterfactual,
    folder: Path,
    format: str = "png",  # noqa: A002 (the command line's word)
    *,
    include_report: bool = False,
    marks: Marks = _ALL_MARKS,
    signer: ContentSigner | None = None,
) -> list[Path]:
    """Writes each picture as `save_images` does, and for each pair a board of both and their map, with its record.

    Args:
        pairs: The pairs.
        folder: Where to; made if missing.
        format: Of the single pictures; the board is a PNG.
        include_report: Also store reports and prompts in the JSON files; real reports are sensitive.
        marks: What to draw into the pixels of the pictures.
        signer: Gives each PNG its content credentials.

    Returns:
        The files: of all first pictures, of all second ones, then board and record of each pair.

    Raises:
        GenerationError: As `save_images`.
    """
    written = []
    for name, result in (("before", pairs.before), ("after", pairs.after)):
        written += save_images(
            result, folder, format, name=name, include_report=include_report, marks=marks, signer=signer
        )
    for index in range(len(pairs.differences)):
        board = pair_board(pairs, index, marks)
        provenance = {**image_provenance(pairs.after, index, board), "pair": pairs.told(index)}
        stem = folder / image_stem(pairs.after.request.modality, pairs.after.seed(index), "pair")
        picture, record = stem.with_suffix(".png"), stem.with_suffix(".json")
        with atomic_file(picture) as partial:
            write_png(partial, board, provenance)
            if signer is not None:
                signer.sign(partial, provenance)
        write_json(record, {"file": picture.name, **provenance})
        written += [picture, record]
    return written


def pair_board(pairs: Counterfactual, index: int, marks: Marks = _ALL_MARKS) -> np.ndarray:
    """Draws a pair and its map side by side, with words; uint8 (H, W, 3)."""
    from PIL import Image

    scale = pairs.scale
    changed = f"{pairs.tokens_changed[index]:.0%} of the image tokens differ"
    map_lines = (f"blue: darker, red: brighter, up to {scale} of 255 grey levels", changed)
    seed = f"seed {pairs.before.seed(index)}"
    panels = [
        Panel("Report", marks.draw(pairs.before.images[index])[0], (seed,)),
        Panel("Edited report", marks.draw(pairs.after.images[index])[0], (seed,)),
        Panel("Difference: edited minus first", difference_picture(pairs.differences[index], scale), map_lines),
    ]
    png = draw_board("Same seed, edited report", panels, notes=(LIMIT, *pairs.notices), warning=SYNTHETIC_NOTICE)
    with Image.open(io.BytesIO(png)) as board:
        return np.asarray(board.convert("RGB"))
