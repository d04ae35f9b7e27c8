"""Commands that turn studies into training data: ingest, tokenize, features; and the list of data cards."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from arra_med.cli.options import (
    BatchOption,
    DeviceOption,
    OutFolder,
    SeedOption,
    StudiesArgument,
    ViewsOption,
)
from arra_med.records.study import Modality

if TYPE_CHECKING:
    from arra_med.encoders.base import Feature


class FeatureKind(StrEnum):
    """The words of `arra_med.encoders.base.Feature`: Typer reads a repeatable choice from an enumeration only."""

    CLS = "cls"
    MEAN = "mean"
    PATCH = "patch"
    TRUNK_CLS = "trunk-cls"


def ingest(
    source: Annotated[
        Path, typer.Argument(metavar="PATH|MANIFEST", help="A CSV, JSONL or Parquet manifest, or a folder of images.")
    ],
    out: OutFolder,
    modality: Annotated[Modality, typer.Option(help="What the images are.")] = "cxr",
    size: Annotated[int, typer.Option("--size", min=16, help="Side of the canonical view in pixels.")] = 256,
    redistributable_only: Annotated[
        bool, typer.Option("--redistributable-only", help="Only rows whose weights may be passed on.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; by default one a core.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many studies.")] = None,
) -> None:
    """Reads studies into a study set.

    It holds the records and their canonical views, as Parquet. A file that cannot be read goes to quarantine.jsonl
    with its reason, and the others are done all the same. Start the same command again to go on after a stop.

    \b
    Examples:
      arra-med ingest studies.csv --out studies/
      arra-med ingest dicom_folder/ --out studies/ --size 256
      arra-med ingest fundus.csv --modality fundus --out studies/
    """
    from arra_med.corpus.ingest import ingest as run_ingest
    from arra_med.imaging.view import CanonicalView

    spec = CanonicalView(modality=modality, size_px=size)
    report = run_ingest(
        source, out, spec, redistributable_only=redistributable_only, workers=workers, limit=limit, progress=True
    )
    typer.echo(f"{report.written} studies written to {out}, {report.kept} of all rows kept from an earlier run")
    _echo_reasons("quarantined (see quarantine.jsonl)", report.quarantined, report.reasons)
    _echo_reasons("left out", report.skipped, report.skip_reasons)


def tokenize(
    studies: StudiesArgument,
    tokenizer: Annotated[Path, typer.Option(metavar="FOLDER", help="The image tokenizer.")],
    out: OutFolder,
    views: ViewsOption = 1,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = None,
) -> None:
    """Turns a study set into a corpus.

    It holds image codes, reports and labels, as Parquet.

    \b
    Example:
      arra-med tokenize studies/ --tokenizer runs/tokenizer/tokenizer --views 4 --out corpus/
    """
    from arra_med.corpus.tokenize import tokenize as run_tokenize

    run_tokenize(studies, tokenizer, out, views=views, seed=seed, batch_size=batch_size, device=device or "auto")
    typer.echo(f"corpus written to {out}")


def features(
    studies: StudiesArgument,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="ENCODER",
            help="biomedclip, efficientnet_lite0, timm:NAME, transformers:ID, or a local folder.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The Parquet file to write.")],
    kind: Annotated[
        list[FeatureKind] | None,
        typer.Option(
            "--kind", metavar="cls|mean|patch|trunk-cls", help="Feature to keep, by default mean; may be repeated."
        ),
    ] = None,
    views: ViewsOption = 1,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = None,
) -> None:
    """Computes a frozen teacher's features.

    One Parquet file for each teacher. Give the same --views and --seed as to tokenize, so that codes and features are
    of the same pixels.

    \b
    Examples:
      arra-med features studies/ --teacher efficientnet_lite0 --out efficientnet_lite0.parquet
      arra-med features studies/ --teacher biomedclip --kind cls --out biomedclip.parquet
    """
    from arra_med.corpus.features import extract_features

    extract_features(
        studies,
        teacher,
        out,
        views=views,
        seed=seed,
        kinds=cast("list[Feature]", [each.value for each in kind or [FeatureKind.MEAN]]),
        batch_size=batch_size,
        device=device or "auto",
    )
    typer.echo(f"features written to {out}")


def cards(source: Annotated[str | None, typer.Argument(help="Show this source's card in full.")] = None) -> None:
    """Lists the data cards.

    Where each source comes from, what may be done with it, and what it cannot show.

    \b
    Examples:
      arra-med cards
      arra-med cards nih_cxr14
    """
    from arra_med.records.cards import list_cards, load_card

    if source is not None:
        _echo_fields(load_card(source).model_dump())
        return
    for card in list_cards():
        num_images = "-" if card.num_images is None else f"{card.num_images:,}"
        typer.echo(f"{card.source:18} {card.modality:8} {card.licence_class:14} {num_images:>10}  {card.title}")


def _echo_fields(fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        if isinstance(value, tuple):
            typer.echo(f"{name}:")
            for item in value:
                typer.echo(f"  - {item}")
        elif value not in (None, ""):
            typer.echo(f"{name}: {value}")


def _echo_reasons(what: str, count: int, reasons: Mapping[str, int]) -> None:
    if count:
        named = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
        typer.echo(f"{count} rows {what}: {named}")
