"""Commands that ask whether generated images show what their reports say."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from arra_med.records.study import Split

if TYPE_CHECKING:
    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders.base import FrozenEncoder
    from arra_med.evaluate.agreement import FindingAgreement, LabelledFeatures
    from arra_med.evaluate.intervals import Interval
    from arra_med.models.bundle import ModelBundle

agreement_app = typer.Typer()

RESULT_FILE = "agreement.json"
IMAGES_FOLDER = "images"

BundleOption = Annotated[Path, typer.Option("--bundle", help="Folder of the bundle.")]
StudiesOption = Annotated[Path, typer.Option("--studies", help="Study set with the real images that fit the judge.")]
ResultFolder = Annotated[Path, typer.Option("--out", help="Folder for the drawn images and agreement.json.")]
FindingOption = Annotated[list[str] | None, typer.Option("--finding", help="Finding, repeatable; all by default.")]
SourceOption = Annotated[str, typer.Option("--source", help="Source of the real images.")]
JudgeOption = Annotated[str, typer.Option("--judge", help="Encoder under the judge; not the teacher.")]
GuidanceOption = Annotated[float, typer.Option("--guidance", help="Guidance scale.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of the first image and of the shuffles.")]


@agreement_app.command("agreement")
def agreement_command(
    bundle: BundleOption,
    studies: StudiesOption,
    out: ResultFolder,
    finding: FindingOption = None,
    source: SourceOption = "nih_cxr14",
    split: Annotated[Literal["validation", "test"], typer.Option(help="Whose reports are drawn.")] = "validation",
    judge: JudgeOption = "efficientnet_lite2",
    guidance: GuidanceOption = 3.0,
    seed: SeedOption = 0,
) -> None:
    """Draws an image for each held-out report of one source and reads the findings from it.

    A probe on real training images reads the drawn images; the real images of the same reports are the ceiling, reports
    shuffled across patients the floor. Interrupted, the same command goes on.

    \b
    Example:
      arra-med evaluate agreement --bundle runs/arra/bundle --studies studies/ --split test --out runs/agreement
    """
    from arra_med.evaluate.agreement import measure_agreement
    from arra_med.evaluate.drawing import draw_images
    from arra_med.evaluate.features import judged_features
    from arra_med.generate.sampling import SamplingRules

    model, encoder, fit, real = _opened(bundle, studies, source, split, judge)
    rules = SamplingRules(guidance_scale=guidance)
    images = draw_images(model, real.records, rules, seed=seed, out=out / IMAGES_FOLDER, name="Drawing reports")
    rows = measure_agreement(fit, real, judged_features(encoder, images), findings=finding, seed=seed)
    _tell(rows)
    settings = {"bundle": bundle.name, "source": source, "split": split, "guidance_scale": guidance, "seed": seed}
    _write(out, settings, {"rows": [dataclasses.asdict(row) for row in rows]})


@agreement_app.command("reports")
def reports_command(
    bundle: BundleOption,
    studies: StudiesOption,
    out: ResultFolder,
    reports: Annotated[
        Path | None,
        typer.Option(help="NLMCXR_reports.tgz or its folder; by default that of an installed torchxrayvision."),
    ] = None,
    num_reports: Annotated[int, typer.Option(min=4, help="Reports to draw.")] = 400,
    finding: FindingOption = None,
    source: SourceOption = "nih_cxr14",
    judge: JudgeOption = "efficientnet_lite2",
    guidance: GuidanceOption = 3.0,
    seed: SeedOption = 0,
) -> None:
    """Draws an image for each of some real reports of Open-i and reads its MeSH findings from it.

    The reports (CC BY-NC-ND) are read where they lie and no word of them is written. Up to half of those drawn hold one
    of the findings. Interrupted, the same command goes on.

    \b
    Example:
      arra-med evaluate reports --bundle runs/arra/bundle --studies studies/ --finding effusion --out runs/openi
    """
    from arra_med.errors import EvaluationError
    from arra_med.evaluate.report_prompts import choose_reports, measure_report_agreement, shared_findings
    from arra_med.generate.sampling import SamplingRules
    from arra_med.sources.openi import find_openi_reports, read_openi_reports

    archive = reports or find_openi_reports()
    if archive is None:
        raise EvaluationError(
            "Open-i's reports are not at hand: pip install torchxrayvision, which carries them, or give --reports"
        )
    records = read_openi_reports(archive)
    model, encoder, fit, real = _opened(bundle, studies, source, "test", judge)
    findings = tuple(finding or shared_findings(records, fit))
    agreement = measure_report_agreement(
        model,
        choose_reports(records, findings, num_reports, seed=seed),
        encoder,
        fit,
        real,
        findings=findings,
        rules=SamplingRules(guidance_scale=guidance),
        out=out / IMAGES_FOLDER,
        view="PA",
        seed=seed,
    )
    _tell(agreement.rows)
    for name, area in agreement.judge_on_real.items():
        typer.echo(f"the judge on real test images of {source}: {name} {_words(area)}")
    settings = {"bundle": bundle.name, "source": source, "guidance_scale": guidance, "seed": seed, "view": "PA"}
    _write(out, settings, dataclasses.asdict(agreement))


def _opened(
    bundle: Path, studies: Path, source: str, split: Literal["validation", "test"], judge: str
) -> tuple[Any, Any, "LabelledFeatures", "LabelledFeatures"]:
    """Opens bundle and judge, and encodes the real images that fit the probe and those that are held out."""
    import numpy as np

    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders import load_encoder
    from arra_med.evaluate.finding_judge import real_features
    from arra_med.evaluate.held_out import trained_on
    from arra_med.models.bundle import ModelBundle

    model, study_set, encoder = ModelBundle.load(bundle), StudySet.open(studies), load_encoder(judge)
    require_fair(encoder, judge, study_set, split, source, model)
    fit, real = (real_features(study_set, source, part, encoder) for part in ("train", split))
    trained = trained_on(model.info)
    fresh = np.array([not trained(record) for record in fit.records])
    if fresh.any():  # a probe that learned from the bundle's own images would read what it knows by heart
        fit = fit.take(fresh)
    else:
        typer.echo(
            "note: all real images that fit the probe trained the bundle, too; train with a fold to keep some apart"
        )
    return model, encoder, fit, real


def require_fair(
    encoder: "FrozenEncoder", judge: str, studies: "StudySet", split: Split, source: str, bundle: "ModelBundle"
) -> None:
    """Makes sure that a judge was near neither the bundle's training nor the held-out images, and says what nobody knows."""
    from arra_med.corpus.contents import image_contents
    from arra_med.evaluate.held_out import one_source, require_fair_judge

    held_out = image_contents(one_source(studies, split, source))
    for unknown in require_fair_judge(encoder, judge, studies, held_out, bundle.info):
        typer.echo(f"note: {unknown}", err=True)


def _tell(rows: "list[FindingAgreement]") -> None:
    for row in rows:
        where = "" if row.group == "all" else f", {row.group}"
        if row.auroc is None:
            typer.echo(f"{row.finding}{where} ({row.num_images} images): {row.reason}")
        elif row.group == "all":
            typer.echo(
                f"{row.finding} ({row.num_images} synthetic images, {row.num_positives or len(row.findings)} "
                f"{'findings' if row.findings else 'positives'}): AUROC {_words(row.auroc)}, "
                f"real {_words(row.ceiling)}, shuffled reports {_words(row.floor)}"
            )
        else:
            typer.echo(f"{row.finding}{where} ({row.num_images} images): AUROC {_words(row.auroc)}")


def _words(area: "Interval | None") -> str:
    return f"{area.estimate:.2f} [{area.low:.2f}, {area.high:.2f}]" if area else "none"


def _write(out: Path, settings: dict[str, Any], result: dict[str, Any]) -> None:
    from arra_med.generate.session import SYNTHETIC_NOTICE
    from arra_med.runs import versions, write_json

    write_json(out / RESULT_FILE, {"notice": SYNTHETIC_NOTICE, "settings": settings, **result, "versions": versions()})
    typer.echo(f"written to {out / RESULT_FILE}; synthetic images, research use only")
