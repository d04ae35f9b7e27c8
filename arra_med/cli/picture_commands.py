"""Commands about a few generated pictures, as the app's tab Compare asks them: nearest training images, finding scores."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arra_med.cli.options import DeviceOption
from arra_med.config import resolve_device
from arra_med.errors import UserError

if TYPE_CHECKING:
    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders.base import FrozenEncoder
    from arra_med.evaluate.training_search import TrainingSearch
    from arra_med.models.bundle import ModelBundle


def nearest_command(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of generated pictures without marks.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that drew them.")],
    studies: Annotated[Path, typer.Option(help="Study set that the bundle was trained on.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file to write; names training images, mode 0600.")],
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER", help="Proposes candidates beside the directions of edges; slow on a CPU."),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Finds the training images that generated pictures resemble most.

    How much a new image resembles some training image is read off held-out real images; what resembles one more than 99
    in 100 of them is flagged. Look at every flagged pair. Draw the pictures with --no-visible-mark --no-watermark.

    \b
    Example:
      arra-med evaluate nearest out/ --bundle runs/arra/bundle --studies studies/ --out nearest.json
    """
    import numpy as np

    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders import load_encoder
    from arra_med.evaluate.image_folder import read_generated_images
    from arra_med.generate.session import SYNTHETIC_NOTICE
    from arra_med.models.bundle import ModelBundle
    from arra_med.runs import versions, write_json

    where = resolve_device(device or "auto")
    model, study_set = ModelBundle.load(bundle, device=where), StudySet.open(studies)
    views = read_generated_images(images, model.spec, 1)
    search = prepared_search(study_set, model, None if encoder is None else load_encoder(encoder).to(where))
    found = [search.look_up(np.ascontiguousarray(view)) for view in views]
    for number, near in enumerate(found, start=1):
        flag = "; FLAGGED, look at the pair" if near.flagged else ""
        typer.echo(
            f"image {number}: similarity {near.matches[0].similarity:.3f}; {near.num_as_near} of {near.num_held_out} "
            f"held-out images come as near{flag}"
        )
    ids = search.training.image_ids
    rows = [
        {
            "nearest": [{"image_id": ids[match.row], "similarity": match.similarity} for match in near.matches],
            "num_held_out_as_near": near.num_as_near,
            "flagged": near.flagged,
        }
        for near in found
    ]
    settings = {"bundle": model.info.name, "bundle_sha256": model.fingerprint, **search.identity}
    told = {"notice": SYNTHETIC_NOTICE, "settings": settings, "images": rows, "versions": versions()}
    write_json(out, told, mode=0o600)
    typer.echo(f"{sum(near.flagged for near in found)} of {len(found)} flagged; written to {out}")


def prepared_search(
    studies: "StudySet", bundle: "ModelBundle", encoder: "FrozenEncoder | None" = None
) -> "TrainingSearch":
    """Returns `open_training_search`, with a bar on stderr while it takes its minutes."""
    from arra_med.corpus.parquet import progress_bar
    from arra_med.evaluate.training_search import open_training_search

    with progress_bar("preparing the search, in percent", 100, True) as advance:
        shown = 0

        def report(share: float) -> None:
            nonlocal shown
            percent = int(100 * share)
            advance(percent - shown)
            shown = percent

        return open_training_search(studies, bundle, encoder=encoder, report=report)


def scores_command(
    images: Annotated[
        list[str],
        typer.Option("--images", metavar="BUNDLE=FOLDER", help="Pictures of a bundle, without marks; repeatable."),
    ],
    judge: Annotated[Path, typer.Option(help="Encoder folder of a classifier (arra-med encoder train).")],
    finding: Annotated[list[str], typer.Option(help="Finding of the judge's, repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSON file to write.")],
) -> None:
    """Scores findings in a few generated pictures of one or two bundles.

    The pictures of all bundles have the same seeds in the same order, the baseline's come first. A few pictures prove
    nothing; arra-med evaluate agreement and arra-med compare ask many reports.

    \b
    Example:
      arra-med evaluate scores --images runs/finetune/bundle=a/ --images runs/arra/bundle=b/ \\
        --judge runs/judge/encoder --finding effusion --out scores.json
    """
    from arra_med.evaluate.finding_scores import open_picture_judge, score_pictures
    from arra_med.evaluate.image_folder import read_generated_images
    from arra_med.generate.session import SYNTHETIC_NOTICE
    from arra_med.models.bundle import read_bundle_info
    from arra_med.runs import versions, write_json

    opened, pictures, notes = open_picture_judge(judge), {}, dict[str, None]()
    for given in images:
        bundle, separator, folder = given.partition("=")
        if not separator or bundle in pictures:
            raise UserError("--images takes BUNDLE=FOLDER, each bundle once: such as --images runs/arra/bundle=out/")
        info = read_bundle_info(Path(bundle))
        notes |= dict.fromkeys(opened.require_fair(info))
        pictures[bundle] = read_generated_images(Path(folder), info.canonical_view, 1)
    for sentence in notes:
        typer.echo(f"note: {sentence}", err=True)
    rows = score_pictures(opened, pictures, finding)
    for row in rows:
        judged = "not measured" if row.judged is None else f"{row.judged.auroc:.2f}"
        for model, score in row.models.items():
            low, high = score.interval or (float("nan"), float("nan"))
            typer.echo(
                f"{row.finding}, {Path(model).name}: score {score.mean:.2f} [{low:.2f}, {high:.2f}] over "
                f"{len(score.scores)} pictures (held-out AUROC of {opened.name}: {judged})"
            )
    told = {"notice": SYNTHETIC_NOTICE, **opened.identity, "rows": [asdict(row) for row in rows]}
    write_json(out, {**told, "versions": versions()})
    typer.echo(f"written to {out}; a few pictures prove nothing; synthetic images, research use only")
