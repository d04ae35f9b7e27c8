"""Commands to look at data before anything is trained on them: one file at every stage, and a study set's report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arra_med.cli.batch_drawing import quiet_transformers
from arra_med.cli.options import (
    BurnedInOption,
    ForProcessingOption,
    OrientationOption,
    QualityOption,
    SeedOption,
    StudiesArgument,
)
from arra_med.cli.picture_commands import prepared_search
from arra_med.config import overridden
from arra_med.records.study import Modality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arra_med.corpus.inspection import Inspection
    from arra_med.imaging.rules import ReadingRules
    from arra_med.models.bundle import ModelBundle
    from arra_med.reporting.pictures import Panel
    from arra_med.tokens.protocol import ImageTokenizer

_PICTURE_MODE = 0o600  # the pixels of one patient, and perhaps letters in them
_WARNING = "Research use only, not for clinical decisions. Contains a patient image."


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM, PNG or JPEG file.")],
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture to write.")] = Path("inspect.png"),
    modality: Annotated[Modality, typer.Option(help="What the image is.")] = "cxr",
    size: Annotated[int, typer.Option("--size", min=16, help="Side of the canonical view in pixels.")] = 256,
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="Whose image tokenizer draws the last panel.")
    ] = "mini",
    training: Annotated[
        Path | None,
        typer.Option(metavar="STUDIES", help="Study set that trained the bundle: shows the nearest training image."),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens/--no-tokens", help="Encode the view and decode it back.")] = True,
    allow_for_processing: ForProcessingOption = False,
    allow_burned_in: BurnedInOption = False,
    correct_orientation: OrientationOption = False,
    quality: QualityOption = None,
) -> None:
    """Draws one file at every stage.

    One PNG shows the stored values, the image as displayed, the canonical view, and the view that its image tokens
    give back. What was decided on the way is printed too, and which attributes of a DICOM header a de-identified copy
    would lose; header values never are. With --training, a file that ingestion would take is looked up among the images
    that trained the bundle (minutes the first time). Exit code 2 and one sentence say why a file is refused; its stored
    values are drawn where they can be read.

    \b
    Examples:
      arra-med inspect chest.dcm --out inspect.png
      arra-med inspect eye.jpg --modality fundus --out eye.png
      arra-med inspect chest.dcm --size 512 --no-tokens --out inspect.png
      arra-med inspect chest.dcm --bundle runs/arra/bundle --training studies/ --out inspect.png
    """
    from arra_med.corpus.inspection import inspect_file
    from arra_med.imaging.quality import QualityThresholds
    from arra_med.imaging.rules import ReadingRules
    from arra_med.imaging.view import CanonicalView

    spec = CanonicalView(modality=modality, size_px=size)
    rules = ReadingRules(
        allow_for_processing=allow_for_processing,
        allow_burned_in=allow_burned_in,
        correct_orientation=correct_orientation,
        quality=overridden(QualityThresholds(), quality or (), "--quality"),
    )
    model = _opened_model(bundle, modality) if training is not None else None
    tokenizer = None
    if tokens:
        tokenizer = _opened_tokenizer(bundle, modality) if model is None else model.image_tokenizer
    seen = inspect_file(file, spec, rules, tokenizer)
    panels, refused, notes = seen.panels, seen.refusal, _notes(seen)
    if model is not None and training is not None and refused is None:
        nearest, remarks = _nearest(file, rules, model, training)
        panels, notes = (*panels, nearest), [*notes, *remarks]
    if seen.view is None:
        if panels:
            _write_board(out, "A refused file", panels, ())
            typer.echo(f"the stored values are drawn in {out}; they may show a patient and text")
    else:
        refused_for = [f"refused ({refused.reason}): {refused}"] if refused else []
        _write_board(out, "From the file to what the model sees", panels, (*notes, *refused_for))
        for panel in panels:
            typer.echo(f"{panel.heading}: {'; '.join(panel.lines)}")
        for note in notes:
            typer.echo(note)
        shows = "patients' images" if len(panels) > len(seen.panels) else "a patient's image"
        typer.echo(f"picture written to {out}; it shows {shows}")
    if seen.header is not None:
        typer.echo(seen.header.sentence)
        for action in seen.header.actions:
            typer.echo(f"  {action.action}: {'; '.join(action.attributes)}")
    if refused is not None:
        raise refused


def _notes(seen: "Inspection") -> list[str]:
    from arra_med.corpus.inspection import FLAG_WORDS

    flags = [f"flag {flag}: {FLAG_WORDS[flag]}" for flag in seen.flags] or ["flags: none"]
    scores = ", ".join(f"{name} {score:.3g}" for name, score in seen.scores.items())
    return [*flags, *([f"scores: {scores}"] if scores else [])]


def _opened_model(bundle: str, modality: Modality) -> "ModelBundle":
    from arra_med.models.bundle import ModelBundle
    from arra_med.models.bundled import find_bundle

    quiet_transformers()
    return ModelBundle.load(find_bundle(bundle, modality))


def _opened_tokenizer(bundle: str, modality: Modality) -> "ImageTokenizer":
    from arra_med.models.bundle import IMAGE_TOKENIZER_FOLDER
    from arra_med.models.bundled import find_bundle
    from arra_med.tokens.protocol import load_image_tokenizer

    return load_image_tokenizer(find_bundle(bundle, modality) / IMAGE_TOKENIZER_FOLDER)


def _nearest(file: Path, rules: "ReadingRules", model: "ModelBundle", training: Path) -> "tuple[Panel, list[str]]":
    """Looks a file up as the model sees it, whatever the size of the panels; returns the picture and remarks on it."""
    from arra_med.corpus.study_set import StudySet
    from arra_med.evaluate.training_search import MAY_HAVE_TRAINED
    from arra_med.imaging.read import load_view

    search = prepared_search(StudySet.open(training), model)
    near = search.look_up(load_view(file, model.spec, rules))
    flag = [MAY_HAVE_TRAINED] if near.flagged else []
    return search.panel(near), [f"note: {remark}" for remark in (*flag, *search.notes)]


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


def _write_board(out: Path, title: str, panels: "Sequence[Panel]", notes: "Sequence[str]") -> None:
    from arra_med.reporting.pictures import draw_board
    from arra_med.runs import atomic_file

    board = draw_board(title, panels, notes=notes, warning=_WARNING)
    with atomic_file(out, _PICTURE_MODE) as partial:
        partial.write_bytes(board)
