"""`arra-med compare`: a registered study, from teacher features to the report."""

from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.options import OutFolder, SetOption


def compare(
    config: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A study's YAML file, or the name of one that ships with the package."),
    ],
    out: OutFolder,
    settings: SetOption = None,
    also_judge: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable: a further judge of secondary rows, which say that it was not registered."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Also write FOLDER/<study>.md and small figures, without pictures that may not be passed on."
        ),
    ] = None,
) -> None:
    """Runs a study: did alignment help?

    Teacher features, trainings, guidance sweeps on validation images, then the test images, once; at the end
    comparison.json, report.html, tables.md and plots. A stopped study goes on where it was; the same command, started
    several times with one --out, shares the work out.

    \b
    Examples:
      arra-med compare study_cxr.yaml --out runs/study_cxr
      arra-med compare study_cxr.yaml --out runs/study_cxr --page docs/results
      arra-med compare study_cxr.yaml --set exploratory=true --set training.steps=20 --out runs/rehearsal
    """
    from arra_med.config import load_config, shipped_config
    from arra_med.evaluate.study_comparison import compare as write_comparison
    from arra_med.evaluate.study_page import write_page
    from arra_med.evaluate.study_report import write_report
    from arra_med.evaluate.study_run import Study
    from arra_med.evaluate.study_samples import sample_pairs
    from arra_med.evaluate.study_settings import StudyConfig

    study = Study(load_config(shipped_config(config), StudyConfig, settings or []), out, typer.echo, also_judge or ())
    told = write_comparison(study)
    samples = sample_pairs(study)
    report = write_report(out, told, samples)
    for verdict in told["primary"]["verdicts"]:
        typer.echo(f"{verdict['arm']}: {verdict['tier']}: {verdict['reason']}")
    typer.echo(f"report: {report}")
    if page:
        typer.echo(f"page: {write_page(page, out, told, samples)}")
