"""One file at every stage, as ingestion sees it: the stored values, the displayed image, the view, its tokens decoded back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from arra_med.corpus.header_changes import HeaderChanges, header_changes
from arra_med.errors import ImageError
from arra_med.imaging.quality import check_quality
from arra_med.imaging.read import Stages, read_stages
from arra_med.imaging.reasons import Flag
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView, as_picture, canonical_view, from_uint8, to_uint8
from arra_med.reporting.pictures import Panel
from arra_med.tokens.protocol import ImageTokenizer

FLAG_WORDS: dict[Flag, str] = {
    "percentile_window": "no window in the file: one from the percentiles of the image was used",
    "several_windows": "several windows in the file: the first was used",
    "voi_lut_before_window": "a VOI LUT and a window in the file: the LUT was used",
    "polarity_contradiction": "two attributes disagree whether low values are bright: the presentation LUT shape was followed",
    "for_processing": "a detector signal FOR PROCESSING, allowed for this run",
    "burned_in_declared": "the header declares text in the pixels, allowed for this run",
    "overlay_ignored": "the file has an overlay: it was not drawn",
    "resampled_to_square_pixels": "pixels that are not square: the image was resampled",
    "aspect_ratio_ignored": "an implausible pixel aspect ratio in the file: it was ignored",
    "orientation_suggests_mirror": "the header suggests a mirror image",
    "orientation_suggests_rotation_90": "the header suggests an image turned by 90 degrees",
    "orientation_suggests_rotation_180": "the header suggests an image turned by 180 degrees",
    "orientation_suggests_rotation_270": "the header suggests an image turned by 270 degrees",
    "orientation_suggests_mirror_and_rotation_90": "the header suggests a mirror image turned by 90 degrees",
    "orientation_suggests_mirror_and_rotation_180": "the header suggests a mirror image turned by 180 degrees",
    "orientation_suggests_mirror_and_rotation_270": "the header suggests a mirror image turned by 270 degrees",
    "orientation_contradicts_view": "the orientation in the header does not fit the view that it names",
    "orientation_unusable": "the orientation in the header fits neither a frontal nor a lateral image",
    "collimation_border": "black or white borders take up much of the frame",
}
"""What a flag says to people; after a colon, what was done."""

_NO_PERMISSIONS = ReadingRules()


@dataclass(frozen=True)
class Inspection:
    """What became of a file.

    Attributes:
        panels: Its stages; of a file that a check refused the stored values, where they can be decoded, and the reason.
        flags: What had to be decided or was noticed; `FLAG_WORDS` says it.
        scores: What the quality checks measured.
        refusal: Why ingestion would refuse the file, if it would.
        view: The canonical view, uint8 (C, S, S); none of a file that could not be read.
        header: What a de-identified copy of a DICOM file would lose; none of other files, and of one that cannot be read.
    """

    panels: tuple[Panel, ...]
    flags: tuple[Flag, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    refusal: ImageError | None = None
    view: np.ndarray | None = None
    header: HeaderChanges | None = None


def inspect_file(
    file: Path,
    spec: CanonicalView,
    rules: ReadingRules = _NO_PERMISSIONS,
    tokenizer: ImageTokenizer | None = None,
) -> Inspection:
    """Reads a DICOM, PNG or JPEG file and keeps what it looked like at every stage.

    Never raises because of the file: a refusal is a result. No header value is in it, and nothing is written.

    Args:
        file: The file; its content says what it is.
        spec: Of the canonical view.
        rules: What may be read.
        tokenizer: Encodes the view and decodes it back; none leaves that panel out.
    """
    try:
        stages = read_stages(file, spec, rules)
    except ImageError as refused:
        return Inspection(_of_refused(file, spec, refused), refusal=refused, header=_header(file, refused))
    panels = _panels(stages, spec, rules)
    if tokenizer is not None:
        panels.append(_tokens_panel(stages, spec, tokenizer))
    refusal = _quality_refusal(stages, rules)
    return Inspection(tuple(panels), stages.flags, stages.scores, refusal, stages.view, _header(file, refusal))


def _panels(stages: Stages, spec: CanonicalView, rules: ReadingRules) -> list[Panel]:
    is_photograph = _same(stages.raw, stages.displayed)
    if is_photograph:
        steps = ["as stored"]
    else:
        steps = [
            "modality LUT, VOI LUT or window, as the file says",
            *(["inverted: air is dark"] if _inverted(stages) else []),
        ]
    if rules.correct_orientation and any(flag.startswith("orientation_suggests") for flag in stages.flags):
        steps.append("turned or mirrored as asked for")
    to_view = ["cut to its field of view"] if spec.modality == "fundus" else []
    to_view += ["centre square", f"antialiased resize to {spec.size_px} x {spec.size_px} px, 8 bits"]
    return [
        Panel("Stored values", _for_people(stages.raw), _raw_lines(stages.raw)[: 1 if is_photograph else 2]),
        Panel("Displayed", _for_people(stages.displayed), tuple(steps)),
        Panel("Canonical view", _for_people(stages.view), tuple(to_view)),
    ]


def _tokens_panel(stages: Stages, spec: CanonicalView, tokenizer: ImageTokenizer) -> Panel:
    its_spec = spec.model_copy(update={"size_px": tokenizer.size_px})
    view = to_uint8(canonical_view(stages.displayed, its_spec))
    with torch.inference_mode():
        codes = tokenizer.encode(torch.from_numpy(from_uint8(view))[None])
        decoded = to_uint8(tokenizer.decode(codes)[0].numpy())
    error = float(np.abs(decoded.astype(np.int16) - view).mean())
    rows, columns = tokenizer.grid
    lines = (
        f"from a view of {tokenizer.size_px} x {tokenizer.size_px} px",
        f"{rows} x {columns} codes, {len(codes.unique()):,} different ones of {tokenizer.codebook_size:,}",
        f"mean absolute difference {error:.1f} of 255",
    )
    return Panel("Tokens decoded back", _for_people(decoded), lines)


def _header(file: Path, refused: ImageError | None) -> HeaderChanges | None:
    """What de-identification does to a header, unless all there is to say is that the file is damaged, again."""
    found = header_changes(file)
    if found is None or found.refusal is None:
        return found
    return None if refused is not None and refused.reason == found.refusal.reason else found


def _quality_refusal(stages: Stages, rules: ReadingRules) -> ImageError | None:
    """Returns why ingestion would refuse an image that can be read, if it would."""
    try:
        check_quality(stages.scores, rules.accepted_quality)
    except ImageError as refusal:
        return refusal
    return None


def _of_refused(file: Path, spec: CanonicalView, refused: ImageError) -> tuple[Panel, ...]:
    """The stored values of a file that a check refused, and why; nothing if they cannot be decoded."""
    permissive = ReadingRules(allow_for_processing=True, allow_burned_in=True)
    try:
        raw = read_stages(file, spec, permissive).raw
    except ImageError:
        return ()
    return (
        Panel("Stored values", _for_people(raw), _raw_lines(raw)),
        Panel(f"Refused: {refused.reason}", None, (str(refused),)),
    )


def _raw_lines(raw: np.ndarray) -> tuple[str, ...]:
    return f"{raw.shape[0]:,} x {raw.shape[1]:,} px", "smallest value black, largest white"


def _for_people(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 (H, W) or (H, W, 3) of a float image in [0, 1], or of a uint8 view (C, S, S)."""
    return as_picture(pixels) if pixels.dtype == np.uint8 else to_uint8(pixels)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _inverted(stages: Stages) -> bool:
    """Whether dark stored values are displayed bright: the two images fall together."""
    if stages.raw.shape != stages.displayed.shape:
        return False
    return float(np.corrcoef(stages.raw.ravel()[::16], stages.displayed.ravel()[::16])[0, 1]) < 0
