"""Commands that judge a bundle."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.agreement_commands import agreement_app, require_fair
from arra_med.cli.options import DeviceOption, OutFolder

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
    from arra_med.evaluate.prompt_effect import measure_prompt_effect
    from arra_med.generate.sampling import SamplingRules
    from arra_med.generate.session import SYNTHETIC_NOTICE, ReportToImage
    from arra_med.models.bundle import ModelBundle
    from arra_med.runs import versions, write_json

    session, study_set, encoder = ReportToImage(ModelBundle.load(bundle)), StudySet.open(studies), load_encoder(judge)
    require_fair(encoder, judge, study_set, "test", source, session.bundle)
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
    write_json(out, {"notice": SYNTHETIC_NOTICE, "settings": settings, "effects": told, "versions": versions()})


@evaluate_app.command("privacy")
def privacy_command(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    studies: Annotated[Path, typer.Option(help="Study set it was trained on.")],
    corpus: Annotated[Path, typer.Option(help="Corpus it was trained on.")],
    out: OutFolder,
    baseline: Annotated[
        Path | None, typer.Option(help="Folder of a bundle trained on the same rows, to compare with.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Whose held-out images calibrate and are told from members; by default the largest source."),
    ] = None,
    encoder: Annotated[str, typer.Option(help="Feature space beside that of the edges.")] = "efficientnet_lite0",
    seeds: Annotated[int, typer.Option(min=1, help="Images drawn for each unique report.")] = 10,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Attack only so many reports, drawn at random; by default all.")
    ] = None,
    false_alarms: Annotated[float, typer.Option(help="Share of held-out images that may count as copies.")] = 0.01,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 3.0,
    allow_other_studies: Annotated[
        bool,
        typer.Option("--allow-other-studies", help="The study set was ingested anew from the files trained on."),
    ] = False,
    device: DeviceOption = None,
) -> None:
    """Looks for copies of training images in what a bundle draws, and for members in its likelihood.

    Every training image with a report of its own is attacked; what counts as a copy is read off held-out real images.
    Start the same command again to go on after a stop. The folder of the result names and shows training images:
    treat it as you treat the study set. Only privacy.json may leave it.

    \b
    Example:
      arra-med evaluate privacy --bundle runs/arra/bundle --baseline runs/finetune/bundle \\
        --studies runs/mini_cxr/studies --corpus runs/mini_cxr/corpus --out runs/privacy
    """
    from arra_med.evaluate.privacy import RESULT_FILE, PrivacySettings, audit_privacy
    from arra_med.evaluate.privacy_report import FLAGGED_FILE, privacy_table

    settings = PrivacySettings(
        source=source,
        encoder=encoder,
        false_alarm_rate=false_alarms,
        num_seeds=seeds,
        max_rows=max_rows,
        guidance_scale=guidance,
        allow_other_studies=allow_other_studies,
        device=device or "auto",
    )
    told = audit_privacy(bundle, studies, corpus, out, baseline=baseline, settings=settings)
    typer.echo("\n".join(privacy_table(told)))
    typer.echo(f"written to {out / RESULT_FILE}; suspected copies to look at, SENSITIVE: {out / FLAGGED_FILE}")
