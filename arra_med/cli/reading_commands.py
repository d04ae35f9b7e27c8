"""Commands for people who judge images: reading export, import; studies in the app are `study_commands`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arra_med.cli.options import SeedOption
from arra_med.cli.study_commands import study_app
from arra_med.errors import UserError
from arra_med.records.study import Modality, Split

if TYPE_CHECKING:
    from arra_med.evaluate.intervals import Interval

reading_app = typer.Typer(help="Blinded reading of real and synthetic images by people.", no_args_is_help=True)
reading_app.add_typer(study_app, name="study")


@reading_app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The readers' folder; it must not be there yet.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="What tells the arms apart; outside that folder.")],
    studies: Annotated[Path | None, typer.Option(metavar="STUDIES", help="A study set: the arm `real`.")] = None,
    split: Annotated[Split | None, typer.Option(help="Part of the study set; by default all.")] = None,
    source: Annotated[str | None, typer.Option(help="Source in the study set; by default all.")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Views of one arm, reports in .txt files beside them; may be repeated."
        ),
    ] = None,
    modality: Annotated[Modality, typer.Option(help="Of the images in the folders.")] = "cxr",
    per_arm: Annotated[int | None, typer.Option(min=1, help="Images of each arm; by default all it can be.")] = None,
    seed: SeedOption = 0,
    reports: Annotated[
        bool,
        typer.Option("--reports/--no-reports", help="Show the reports and ask whether the image shows the finding."),
    ] = True,
) -> None:
    """Mixes images of several arms for blinded reading.

    An arm called real holds patients' images and one called reconstructed the same after the image tokenizer; all
    others are synthetic. The folder holds patients' images and is sensitive; readers open reading.html in it.

    \b
    Example:
      arra-med reading export --studies studies/ --split test --arm reconstructed=recon/ --arm baseline=drawn_a/ \\
          --arm arra=drawn_b/ --per-arm 25 --out reading/ --key reading_key.json
    """
    if studies is None and (split or source):
        raise UserError("--split and --source choose from a study set: give --studies")
    from arra_med.corpus.study_set import StudySet
    from arra_med.evaluate.reading_set import PAGE_FILE, arm_of_folder, arm_of_studies, export_reading_set

    arms = [] if studies is None else [arm_of_studies(StudySet.open(studies), split, source)]
    for text in arm or ():
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UserError("an --arm is written NAME=FOLDER, such as baseline=drawn/")
        arms.append(arm_of_folder(name, Path(folder), modality))
    described = export_reading_set(arms, out, key, per_arm=per_arm, seed=seed, with_reports=reports)
    typer.echo(f"{len(described.images)} images of {len(arms)} arms written; readers open {out / PAGE_FILE}")
    if set(described.arms.values()) - {"synthetic"}:
        typer.echo(
            "SENSITIVE: the folder holds patients' images; keep and pass it on only where these may be", err=True
        )
    typer.echo(f"the key {key} breaks the blinding: keep it from the readers", err=True)


@reading_app.command("import")
def import_command(
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="The CSV file of each reader.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="The set's key.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON file to write.")],
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Take files in which images have no answer.")
    ] = False,
) -> None:
    """Tells what readers saw, by arm, with intervals over images, and how far readers agree.

    \b
    Example:
      arra-med reading import answers_*.csv --key reading_key.json --out reading.json
    """
    from arra_med.evaluate.reading_answers import read_answers
    from arra_med.evaluate.reading_results import reading_results
    from arra_med.evaluate.reading_set import read_key
    from arra_med.runs import versions, write_json

    opened = read_key(key)
    results = reading_results(opened, read_answers(answers, opened, allow_missing=allow_missing))
    for its in (results.pooled, *(results.readers if results.num_readers > 1 else ())):
        for row in its.arms:
            typer.echo(
                f"{its.reader}: {row.arm} ({row.role}, {row.num_images} images): called synthetic "
                f"{_shown(row.called_synthetic)}, quality {_shown(row.quality)}, shows the finding {_shown(row.shows_finding)}"
            )
        typer.echo(
            f"{its.reader}: sensitivity for synthetic images {_shown(its.sensitivity)}, specificity {_shown(its.specificity)}"
        )
    for pair in results.agreement:
        values = (pair.real_or_synthetic, pair.quality, pair.shows_finding)
        shown = ["-" if value is None else f"{value:.2f}" for value in values]
        typer.echo(f"kappa, {pair.readers}: real or synthetic {shown[0]}, quality {shown[1]}, finding {shown[2]}")
    write_json(out, {"notice": "Research use only.", **dataclasses.asdict(results), "versions": versions()})


def _shown(interval: "Interval | None") -> str:
    return "-" if interval is None else f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
