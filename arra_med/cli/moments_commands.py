"""Commands for sites that may share no image: moments export, merge, distance."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from arra_med.cli.options import DeviceOption
from arra_med.config import resolve_device
from arra_med.errors import UserError
from arra_med.records.study import Modality, Split

moments_app = typer.Typer(help="Judges across sites that may not share images.", no_args_is_help=True)

MomentsFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="The safetensors file to write.")]
ProjectionOption = Annotated[
    Path | None,
    typer.Option(
        "--projection",
        metavar="FILE",
        help="Full-width moments of real training images, whose main directions to keep.",
    ),
]
DimsOption = Annotated[int, typer.Option("--dims", min=1, max=64, help="Directions of the projection.")]


@moments_app.command("export")
def export_command(
    judge: Annotated[str, typer.Option(metavar="ENCODER", help="The judge; as for `arra-med features`.")],
    out: MomentsFile,
    studies: Annotated[Path | None, typer.Option(metavar="STUDIES", help="A study set.")] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="A folder of views of one size.")] = None,
    split: Annotated[Split | None, typer.Option(help="Part of the study set; by default all.")] = None,
    source: Annotated[str | None, typer.Option(help="Source in the study set; by default all.")] = None,
    modality: Annotated[Modality, typer.Option(help="Of the images in the folder.")] = "cxr",
    feature: Annotated[Literal["cls", "mean", "trunk-cls"], typer.Option(help="Of the judge.")] = "mean",
    generated: Annotated[bool, typer.Option("--generated", help="The images are synthetic.")] = False,
    projection: ProjectionOption = None,
    dims: DimsOption = 64,
    public: Annotated[
        bool, typer.Option("--public", help="Anyone may have these images: export them whatever their number.")
    ] = False,
    device: DeviceOption = None,
) -> None:
    """Writes mean and covariance of a judge's features, and nothing of single images.

    Few images can be recognised in their moments, so a set needs 100 of them and five for each dimension. A smaller one
    can be projected onto few dimensions of real training images, whose moments come from a large or a public set.

    \b
    Examples:
      arra-med moments export --studies studies/ --split train --judge efficientnet_lite2 --public \\
          --out train.safetensors
      arra-med moments export --studies studies/ --split test --judge efficientnet_lite2 \\
          --projection train.safetensors --out site.safetensors
      arra-med moments export --images out/ --generated --judge efficientnet_lite2 --out synthetic.safetensors
    """
    if (studies is None) == (images is None):
        raise UserError("give the images once: --studies STUDIES or --images FOLDER")
    if images is not None and (split or source):
        raise UserError("--split and --source choose from a study set: leave them out with --images")
    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders import load_encoder
    from arra_med.evaluate.image_folder import read_view_folder
    from arra_med.evaluate.site_export import site_moments, study_views
    from arra_med.evaluate.site_moments import read_site_moments, write_site_moments

    training = None if projection is None else read_site_moments(projection)
    if studies is not None:
        study_set = StudySet.open(studies)
        views, spec = study_views(study_set, split, source), study_set.spec
    else:
        folder = read_view_folder(images or Path(), modality)
        views, spec = folder.views, folder.spec
    encoder = load_encoder(judge).to(resolve_device(device or "auto"))
    site = site_moments(
        views,
        spec,
        encoder,
        feature=feature,
        generated=generated,
        training=training,
        num_dims=dims,
        public=public,
        progress=True,
    )
    write_site_moments(site, out)
    typer.echo(f"moments of {site.info.num_images} images, {len(site.moments.mean)} dimensions, written to {out}")


@moments_app.command("merge")
def merge_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Moments of two or more sites.")],
    out: MomentsFile,
) -> None:
    """Adds up the moments of sites, exactly as if their images had been in one set.

    \b
    Example:
      arra-med moments merge site_a.safetensors site_b.safetensors --out all.safetensors
    """
    from arra_med.evaluate.site_moments import merged_sites, read_site_moments, write_site_moments

    merged = merged_sites([read_site_moments(file) for file in files])
    write_site_moments(merged, out)
    typer.echo(f"moments of {len(files)} sites, {merged.info.num_images} images, written to {out}")


@moments_app.command("distance")
def distance_command(
    first: Annotated[Path, typer.Argument(metavar="REAL", help="Moments of real images.")],
    second: Annotated[Path, typer.Argument(metavar="GENERATED", help="Moments of generated (or other real) images.")],
    projection: ProjectionOption = None,
    dims: DimsOption = 64,
    allow_unequal: Annotated[
        bool, typer.Option("--allow-unequal", help="Compare different numbers of images, which biases the distance.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
) -> None:
    """Measures the Fréchet distance between two files of moments.

    \b
    Examples:
      arra-med moments distance real.safetensors synthetic.safetensors
      arra-med moments distance real.safetensors synthetic.safetensors --projection train.safetensors
    """
    from arra_med.evaluate.site_moments import read_site_moments, site_distance
    from arra_med.runs import versions, write_json

    training = None if projection is None else read_site_moments(projection)
    sides = [read_site_moments(path) for path in (first, second)]
    found = site_distance(sides[0], sides[1], training=training, num_dims=dims, allow_unequal=allow_unequal)
    kinds = ["generated" if synthetic else "real" for synthetic in found.generated]
    width = f"projected on {found.num_dims} dimensions" if found.projected else f"full width ({found.num_dims})"
    typer.echo(
        f"Fréchet distance {found.value:.4f}: {found.num_images[0]} {kinds[0]} against {found.num_images[1]} {kinds[1]} "
        f"images, {found.judge} {found.feature}, {width}"
    )
    if min(found.num_images) <= found.num_dims:
        typer.echo("note: fewer images than dimensions: most of this value is estimation error", err=True)
    if found.num_images[0] != found.num_images[1]:
        typer.echo("note: the numbers of images differ: compare this value with no other", err=True)
    if json_file is not None:
        write_json(json_file, {**dataclasses.asdict(found), "versions": versions()})
