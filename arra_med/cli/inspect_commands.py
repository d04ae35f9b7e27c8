"""Commands to look at data before anything is trained on them: one file at every stage, and a study set's report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arra_med.cli.options import (
    BurnedInOption,
    ForProcessingOption,
    OrientationOption,
    QualityOption,
    SeedOption,
    StudiesArgument,
)
from arra_med.config import overridden
from arra_med.errors import ImageError
from arra_med.records.study import Modality

if TYPE_CHECKING:
    import numpy as np

    from arra_med.imaging.read import Stages
    from arra_med.imaging.rules import ReadingRules
    from arra_med.imaging.view import CanonicalView
    from arra_med.reporting.pictures import Panel

_PICTURE_MODE = 0o600  # the pixels of one patient, and perhaps letters in them
_WARNING = "Research use only, not for clinical decisions. Contains a patient image."
_FLAG_WORDS = {
    "percentile_window": "no window in the file: one from the percentiles of the image",
    "several_windows": "several windows in the file: the first",
    "voi_lut_before_window": "VOI LUT and window in the file: the LUT",
    "resampled_to_square_pixels": "resampled to square pixels",
    "overlay_ignored": "overlay not drawn",
}


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM, PNG or JPEG file.")],
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture to write.")] = Path("inspect.png"),
    modality: Annotated[Modality, typer.Option(help="What the image is.")] = "cxr",
    size: Annotated[int, typer.Option("--size", min=16, help="Side of the canonical view in pixels.")] = 256,
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="Whose image tokenizer draws the last panel.")
    ] = "mini",
    tokens: Annotated[bool, typer.Option("--tokens/--no-tokens", help="Encode the view and decode it back.")] = True,
    allow_for_processing: ForProcessingOption = False,
    allow_burned_in: BurnedInOption = False,
    correct_orientation: OrientationOption = False,
    quality: QualityOption = None,
) -> None:
    """Draws one file at every stage.

    One PNG shows the stored values, the image as displayed, the canonical view, and the view that its image tokens
    give back. What was decided on the way is printed too; header values never are. Exit code 2 and one sentence say
    why a file is refused; its stored values are drawn where they can be read.

    \b
    Examples:
      arra-med inspect chest.dcm --out inspect.png
      arra-med inspect eye.jpg --modality fundus --out eye.png
      arra-med inspect chest.dcm --size 512 --no-tokens --out inspect.png
    """
    from arra_med.imaging.quality import QualityThresholds
    from arra_med.imaging.read import read_stages
    from arra_med.imaging.rules import ReadingRules
    from arra_med.imaging.view import CanonicalView

    spec = CanonicalView(modality=modality, size_px=size)
    rules = ReadingRules(
        allow_for_processing=allow_for_processing,
        allow_burned_in=allow_burned_in,
        correct_orientation=correct_orientation,
        quality=overridden(QualityThresholds(), quality or (), "--quality"),
    )
    try:
        stages = read_stages(file, spec, rules)
    except ImageError as refused:
        if _draw_refused(file, spec, refused, out):
            typer.echo(f"the stored values are drawn in {out}; they may show a patient and text")
        raise
    panels = _panels(stages, spec, rules)
    if tokens:
        panels.append(_tokens_panel(stages, spec, bundle))
    notes = [f"flags: {', '.join(stages.flags) or 'none'}"]
    if stages.scores:
        notes.append("scores: " + ", ".join(f"{name} {score:.3g}" for name, score in stages.scores.items()))
    refusal = _quality_refusal(stages, rules)
    refused_for = [f"refused ({refusal.reason}): {refusal}"] if refusal else []
    _write_board(out, "From the file to what the model sees", panels, notes + refused_for)
    for panel in panels:
        typer.echo(f"{panel.heading}: {'; '.join(panel.lines)}")
    for note in notes:
        typer.echo(note)
    typer.echo(f"picture written to {out}; it shows a patient's image")
    if refusal:
        raise refusal


def report(
    studies: StudiesArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The HTML file; by default report.html in STUDIES.")
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Writes the report of a study set.

    One HTML file without scripts: counts, what was left out and why, a contact sheet, intensities by source.
    `arra-med ingest` writes it at its end.

    \b
    Examples:
      arra-med report studies/
      arra-med report studies/ --seed 7 --out second_sample.html
    """
    from arra_med.corpus.ingest_report import REPORT_FILE, write_ingest_report

    target = out or studies / REPORT_FILE
    write_ingest_report(studies, target, seed=seed)
    typer.echo(f"report written to {target}; it shows patients' images")


def _panels(stages: "Stages", spec: "CanonicalView", rules: "ReadingRules") -> "list[Panel]":
    from arra_med.reporting.pictures import Panel

    is_photograph = _same(stages.raw, stages.displayed)
    decisions = [_FLAG_WORDS.get(flag, flag.replace("_", " ")) for flag in stages.flags]
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
        Panel("Displayed", _for_people(stages.displayed), (*steps, *decisions)),
        Panel("Canonical view", _for_people(stages.view), tuple(to_view)),
    ]


def _tokens_panel(stages: "Stages", spec: "CanonicalView", bundle: str) -> "Panel":
    import numpy as np
    import torch

    from arra_med.imaging.view import canonical_view, from_uint8, to_uint8
    from arra_med.models.bundle import IMAGE_TOKENIZER_FOLDER
    from arra_med.models.bundled import find_bundle
    from arra_med.reporting.pictures import Panel
    from arra_med.tokens.protocol import load_image_tokenizer

    tokenizer = load_image_tokenizer(find_bundle(bundle, spec.modality) / IMAGE_TOKENIZER_FOLDER)
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


def _quality_refusal(stages: "Stages", rules: "ReadingRules") -> ImageError | None:
    """Returns why ingestion would refuse an image that can be read, if it would."""
    from arra_med.imaging.quality import check_quality

    try:
        check_quality(stages.scores, rules.accepted_quality)
    except ImageError as refusal:
        return refusal
    return None


def _draw_refused(file: Path, spec: "CanonicalView", refused: ImageError, out: Path) -> bool:
    """Draws the stored values of a file that a check refused; returns whether they could be decoded at all."""
    from arra_med.imaging.read import read_stages
    from arra_med.imaging.rules import ReadingRules
    from arra_med.reporting.pictures import Panel

    permissive = ReadingRules(allow_for_processing=True, allow_burned_in=True)
    try:
        raw = read_stages(file, spec, permissive).raw
    except ImageError:
        return False
    panels = [
        Panel("Stored values", _for_people(raw), _raw_lines(raw)),
        Panel(f"Refused: {refused.reason}", None, (str(refused),)),
    ]
    _write_board(out, "A refused file", panels, [])
    return True


def _write_board(out: Path, title: str, panels: "list[Panel]", notes: list[str]) -> None:
    from arra_med.reporting.pictures import draw_board
    from arra_med.runs import atomic_file

    board = draw_board(title, panels, notes=notes, warning=_WARNING)
    with atomic_file(out, _PICTURE_MODE) as partial:
        partial.write_bytes(board)


def _raw_lines(raw: "np.ndarray") -> tuple[str, ...]:
    return f"{raw.shape[0]:,} x {raw.shape[1]:,} px", "smallest value black, largest white"


def _for_people(pixels: "np.ndarray") -> "np.ndarray":
    """Returns uint8 (H, W) or (H, W, 3) of a float image in [0, 1], or of a uint8 view (C, S, S)."""
    import numpy as np

    from arra_med.imaging.view import as_picture, to_uint8

    return as_picture(pixels) if pixels.dtype == np.uint8 else to_uint8(pixels)


def _same(one: "np.ndarray", other: "np.ndarray") -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _inverted(stages: "Stages") -> bool:
    """Whether dark stored values are displayed bright: the two images fall together."""
    import numpy as np

    if stages.raw.shape != stages.displayed.shape:
        return False
    return float(np.corrcoef(stages.raw.ravel()[::16], stages.displayed.ravel()[::16])[0, 1]) < 0
