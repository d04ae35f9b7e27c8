"""The command that looks for reports that do not go with their images: score."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.options import BatchOption, DeviceOption, SeedOption, StudiesArgument
from arra_med.config import resolve_device
from arra_med.records.study import Split


def score(
    studies: StudiesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .csv or .parquet table to write.")],
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="A bundle's folder, or the bundled model of the modality.")
    ] = "mini",
    split: Annotated[Split | None, typer.Option(help="Part of the study set; by default all.")] = None,
    threshold: Annotated[
        float, typer.Option(metavar="NATS", help="Pairs that score below it are flagged, in nats for each image token.")
    ] = 0.0,
    shuffled_check: Annotated[
        bool, typer.Option("--shuffled-check", help="Also tell how well true and shuffled pairs are told apart.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write settings and the check as JSON.")
    ] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 16,
    device: DeviceOption = None,
) -> None:
    """Finds reports that do not fit their image.

    Ranks the pairs by how much the report makes the image likelier; rank 1 is the likeliest mismatch. Start the same
    command again to go on after a stop. A bundle that was trained on the images scores them too high.

    \b
    Example:
      arra-med score studies/ --split test --out scores.csv --shuffled-check --json check.json
    """
    from transformers.utils import logging

    from arra_med.corpus.study_set import StudySet
    from arra_med.evaluate.pair_run import score_archive, shuffled_checks
    from arra_med.models.bundle import ModelBundle
    from arra_med.models.bundled import find_bundle
    from arra_med.runs import versions, write_json

    logging.disable_progress_bar()
    study_set = StudySet.open(studies)
    model = ModelBundle.load(find_bundle(bundle, study_set.spec.modality), device=resolve_device(device or "auto"))
    if split in (None, "train") and model.info.training.get("study_set_sha256") == study_set.content_sha256:
        typer.echo("note: the bundle was trained on these images: their scores are too high", err=True)
    pairs = score_archive(study_set, model, out, split=split, threshold=threshold, batch_size=batch_size)
    scores = pairs.likelihoods.scores
    num_flagged, num_without = int((scores < threshold).sum()), len(pairs.records) - len(scores)
    typer.echo(
        f"{len(scores)} pairs scored, {num_flagged} flagged below {threshold:g} nats a token, {num_without} without a "
        f"report; written to {out}"
    )
    checks = []
    if shuffled_check:
        checks = shuffled_checks(model, pairs, threshold=threshold, seed=seed, batch_size=batch_size)
    for check in checks:
        told = "not estimable"
        if check.auroc is not None:
            told = f"AUROC {check.auroc.estimate:.3f} [{check.auroc.low:.3f}, {check.auroc.high:.3f}]"
        typer.echo(
            f"true against shuffled reports ({check.drawn_from}): {told}, {check.num_pairs} pairs of "
            f"{check.num_patients} patients, {check.num_left_out} images without another report"
        )
    if json_file is not None:
        settings = {
            "bundle": model.info.name,
            "bundle_sha256": model.fingerprint,
            "study_set_sha256": study_set.content_sha256,
            "split": split,
            "threshold_nats_per_token": threshold,
            "seed": seed,
            "batch_size": batch_size,
        }
        counts = {"scored": len(scores), "flagged": num_flagged, "no_report": num_without}
        told_checks = [dataclasses.asdict(check) for check in checks]
        write_json(json_file, {"settings": settings, "counts": counts, "shuffled": told_checks, "versions": versions()})
