"""Redrawing a part of a picture: the codes of a marked region are drawn anew, all others stay.

An autoregressive model draws codes in raster order and sees what stands before a code alone: above it, and to its left.
It cannot know the kept codes that follow. So several edits are drawn, and ranked by how likely the model finds the kept
codes behind the first new one: the best of them fits what is below and to the right.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from arra_med.errors import GenerationError
from arra_med.generate.decoding import FREE
from arra_med.generate.likelihood import code_log_likelihoods
from arra_med.generate.marks import EDITED_SOURCE_TYPE
from arra_med.generate.prompting import keyed_hash
from arra_med.generate.region import cell_pixels, laid_into
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.imaging.read import load_view
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import as_picture, from_uint8

LIMIT = (
    "The model draws from top left to bottom right and sees only what stands before a place. It cannot see what was kept "
    "below and to the right; of several tries, the first is the one after which the model finds those parts likeliest."
)
EDITED_NOTICE = (
    "Picture that a machine-learning model changed in part; the rest is, or is made from, an image that was given to it. "
    "Research use only, not for clinical use."
)

_NO_PERMISSIONS = ReadingRules()


@dataclass(frozen=True)
class Original:
    """A picture to be edited.

    Attributes:
        codes: int64 (h, w).
        pixels: uint8 (H, W) or (H, W, 3): what was drawn, or the canonical view of the file.
        kind: `generated` by this bundle, or a `file`, whose pixels may be a patient's.
        told: What the record says of it; no file name.
    """

    codes: torch.Tensor
    pixels: np.ndarray
    kind: Literal["generated", "file"]
    told: dict[str, Any]


@dataclass(frozen=True)
class EditUpdate:
    """State of an edit in progress.

    Attributes:
        progress: Share of the work that is done, 0 to 1.
        result: The edits, best first, in the last update; `details` of each tells its rank.
    """

    progress: float
    result: GenerationResult | None = None


def generated_original(result: GenerationResult, index: int = 0) -> Original:
    """Returns an image that was just drawn, to be edited."""
    told = {
        "kind": "generated",
        "seed": result.seed(index),
        "prompt_keyed_hash": result.provenance["prompt_keyed_hash"],
        "rules": result.provenance["rules"],
    }
    return Original(result.codes[index], result.images[index], "generated", told)


def file_original(session: ReportToImage, file: Path, rules: ReadingRules = _NO_PERMISSIONS) -> Original:
    """Reads a DICOM, PNG or JPEG file and encodes its canonical view with the bundle's image tokenizer.

    Args:
        session: Whose bundle draws the edit.
        file: The file.
        rules: What may be read.

    Raises:
        ImageError: If the file cannot be read, or shows another kind of image.
    """
    view, tokenizer = load_view(file, session.bundle.spec, rules), session.bundle.image_tokenizer
    with torch.no_grad():
        codes = tokenizer.encode(torch.from_numpy(from_uint8(view))[None].to(session.bundle.model.device))[0].cpu()
    pixels = as_picture(view)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    return Original(codes, pixels, "file", {"kind": "file", "view_sha256": digest})


def stream_edits(
    session: ReportToImage,
    request: GenerationRequest,
    original: Original,
    cells: np.ndarray,
    *,
    keep_outside: bool = True,
) -> Iterator[EditUpdate]:
    """Draws the marked codes anew, as often as the request has images, and ranks the results.

    A kept code never changes. A pixel outside the region can differ as far as the image decoder looks, unless
    `keep_outside` puts the original ones there.

    Args:
        session: The model.
        request: The report that the region is to follow, number of tries, seed of the first, and rules. The seed that
            drew the original from the same prompt would only draw it again, so it is left out and one more follows.
        original: What is edited.
        cells: bool (h, w), the codes to draw anew; see `region.touched_cells`.
        keep_outside: Lay the redrawn region into the original pixels, with a soft edge inside the region.

    Raises:
        GenerationError: If nothing is marked, the original is of another bundle, or the request does not fit.
        ReportError: If the report holds nothing that can become a prompt.
    """
    layout, size_px = session.bundle.layout, session.bundle.spec.size_px
    if cells.shape != tuple(layout.grid) or tuple(original.codes.shape) != tuple(layout.grid):
        raise GenerationError(
            f"the picture has {tuple(original.codes.shape)} codes and the region {cells.shape}, the bundle draws "
            f"{tuple(layout.grid)}: edit a picture with the bundle that drew it"
        )
    if not cells.any():
        raise GenerationError("nothing is marked, so nothing would be drawn anew: mark a region of the picture")
    redrawn = torch.from_numpy(cells)
    drawn: GenerationResult | None = None
    drawing_share = request.num_images / (request.num_images + 1)
    kept, seeds = original.codes.masked_fill(redrawn, FREE), _new_seeds(session, request, original)
    for update in session.stream(request, partial_images=False, seeds=seeds, kept=kept):
        drawn = update.result or drawn
        yield EditUpdate(drawing_share * update.progress)
    assert drawn is not None  # a stream ends with a result
    prompt_ids = session.reader.token_ids(drawn.prompt)
    likelihoods = code_log_likelihoods(session.bundle.model, layout, prompt_ids, drawn.codes)
    following = ~redrawn.flatten() & (redrawn.flatten().cumsum(0) > 0)
    scores = likelihoods.flatten(1)[:, following].sum(dim=1)
    order = sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))
    region = cell_pixels(cells, size_px)
    feather_px = max(1, size_px // layout.grid[0] // 2)
    images = drawn.images
    if keep_outside:
        images = np.stack([laid_into(original.pixels, image, region, feather_px) for image in images])
    details = []
    for rank, index in enumerate(order, start=1):
        changed = drawn.codes[index] != original.codes
        details.append(
            {
                "edit": {
                    "of": original.told,
                    "rank": rank,
                    "tries": len(order),
                    "log_likelihood_of_kept_codes_behind": float(scores[index]),
                    "num_kept_codes_behind": int(following.sum()),
                    "num_codes_redrawn": int(cells.sum()),
                    "num_codes_changed": int(changed.sum()),
                    "codes_redrawn": np.flatnonzero(cells).tolist(),
                    "grid": list(layout.grid),
                    "original_pixels_outside": keep_outside,
                    "feather_px": feather_px if keep_outside else None,
                    "limit": LIMIT,
                }
            }
        )
    provenance = dict(drawn.provenance)
    if original.kind == "file":
        provenance |= {"notice": EDITED_NOTICE, "digital_source_type": EDITED_SOURCE_TYPE}
    result = replace(
        drawn,
        images=images[order],
        codes=drawn.codes[order],
        provenance=provenance,
        seeds=tuple(drawn.seed(index) for index in order),
        details=tuple(details),
    )
    yield EditUpdate(1.0, result)


def _new_seeds(session: ReportToImage, request: GenerationRequest, original: Original) -> list[int]:
    seeds = [request.seed + index for index in range(request.num_images)]
    asked = keyed_hash(session.prompt(request).text), request.rules.model_dump(mode="json")
    if original.kind == "generated" and asked == (original.told["prompt_keyed_hash"], original.told["rules"]):
        return [seed for seed in [*seeds, seeds[-1] + 1] if seed != original.told["seed"]][: len(seeds)]
    return seeds


def edit_image(
    session: ReportToImage,
    request: GenerationRequest,
    original: Original,
    cells: np.ndarray,
    *,
    keep_outside: bool = True,
) -> GenerationResult:
    """Draws an edit without updates; arguments and errors as `stream_edits`."""
    for update in stream_edits(session, request, original, cells, keep_outside=keep_outside):
        if update.result is not None:
            return update.result
    raise AssertionError("a stream ends with a result")
