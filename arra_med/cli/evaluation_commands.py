"""Commands that judge a bundle."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.agreement_commands import agreement_app

evaluate_app = typer.Typer(help="Judges what a bundle generates.", no_args_is_help=True)
evaluate_app.add_typer(agreement_app)


@evaluate_app.command("prompt-effect")
def prompt_effect_command(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    studies: Annotated[Path, typer.Option(help="Study set with the real images that fit the judge.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    finding: Annotated[list[str] | None, typer.Option(help="Finding, repeatable.")] = None,
    source: Annotated[str, typer.Option(help="Source of the real images.")] = "nih_cxr14",
    judge: Annotated[str, typer.Option(help="Encoder under the judge; not the teacher.")] = "efficientnet_lite2",
    seeds: Annotated[int, typer.Option(min=2, help="Pairs of images for each wording.")] = 64,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 3.0,
) -> None:
    """Measures how far a finding's wording moves the picture, against the spread over seeds.

    The wordings are paraphrases that no training text held; a classifier fitted to real images scores the pictures.

    \b
    Example:
      arra-med evaluate prompt-effect --bundle runs/arra/bundle --studies runs/mini_cxr/studies --out effect.json
    """
    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders import load_encoder
    from arra_med.evaluate.finding_judge import real_features
    from arra_med.evaluate.prompt_effect import measure_prompt_effect, require_no_teacher
    from arra_med.generate.sampling import SamplingRules
    from arra_med.generate.session import ReportToImage
    from arra_med.models.bundle import ModelBundle
    from arra_med.runs import versions, write_json

    session, study_set, encoder = ReportToImage(ModelBundle.load(bundle)), StudySet.open(studies), load_encoder(judge)
    require_no_teacher(session.bundle, encoder)
    effects = measure_prompt_effect(
        session,
        encoder,
        real_features(study_set, source, "train", encoder),
        real_features(study_set, source, "test", encoder),
        findings=tuple(finding or ("effusion", "cardiomegaly")),
        view="PA" if session.bundle.spec.modality == "cxr" else None,
        num_seeds=seeds,
        rules=SamplingRules(guidance_scale=guidance),
    )
    for effect in effects:
        low, high = effect.interval
        typer.echo(
            f"{effect.finding}: {effect.report!r}: shift {effect.shift:+.2f} [{low:+.2f}, {high:+.2f}] log-odds, "
            f"{effect.shift_in_spreads:+.2f} spreads over {effect.num_seeds} seeds (real images: {effect.real_shift:+.2f}, "
            f"the judge's AUROC {effect.auroc_real.estimate:.2f}, {effect.num_real_positives} positives)"
        )
    settings = {"bundle": bundle.name, "source": source, "guidance_scale": guidance}
    told = [dataclasses.asdict(effect) for effect in effects]
    write_json(out, {"settings": settings, "effects": told, "versions": versions()})
