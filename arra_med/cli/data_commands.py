"""Commands that turn studies into training data: ingest, tokenize, features; and the list of data cards."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from arra_med.cli.options import (
    AddressOption,
    BatchOption,
    BurnedInOption,
    DeviceOption,
    EngineOption,
    ForProcessingOption,
    OrientationOption,
    OutFolder,
    QualityOption,
    SeedOption,
    StudiesArgument,
    ViewsOption,
)
from arra_med.config import overridden
from arra_med.errors import UserError
from arra_med.records.study import Modality
from arra_med.sources import Layout

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
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the study set goes; made if missing.")
    ] = None,
    modality: Annotated[Modality, typer.Option(help="What the images are.")] = "cxr",
    size: Annotated[int, typer.Option("--size", min=16, help="Side of the canonical view in pixels.")] = 256,
    redistributable_only: Annotated[
        bool, typer.Option("--redistributable-only", help="Only rows whose weights may be passed on.")
    ] = False,
    layout: Annotated[Layout | None, typer.Option(help="Of the folder; by default what its files tell.")] = None,
    allow_for_processing: ForProcessingOption = False,
    allow_burned_in: BurnedInOption = False,
    correct_orientation: OrientationOption = False,
    quality: QualityOption = None,
    duplicate_distance: Annotated[
        int, typer.Option(min=0, max=64, help="Bits of 64 in which the perceptual hashes of duplicates may differ.")
    ] = 2,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Quarantine duplicates; by default they are only listed.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the contents of known files, not size and time of change alone.")
    ] = False,
    engine: EngineOption = "local",
    address: AddressOption = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes; by default one a core.")] = None,
    time_limit: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="For one file.")] = 120,
    memory_limit: Annotated[float, typer.Option(min=1, metavar="GIB", help="Of one decoding process.")] = 8.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many studies.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read every file, write no study set, and tell what would become of it.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: read only this many files, drawn at random.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="With --dry-run: one entry for each file, as JSON.")
    ] = None,
    table_file: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="With --dry-run: one row for each file, as CSV.")
    ] = None,
) -> None:
    """Reads studies into a study set.

    It holds the records and their canonical views, as Parquet. A file that cannot be read goes to quarantine.jsonl
    with its reason, and the others are done all the same. Start the same command again to go on after a stop, or after
    files were added: what is there already is not read again. report.html shows what the set holds.

    \b
    Examples:
      arra-med ingest studies.csv --out studies/
      arra-med ingest dicom_folder/ --dry-run --table would_be.csv
      arra-med ingest dicom_folder/ --out studies/ --quality inverted=0.6 --quality wrong_body_part=0.2
      arra-med ingest fundus.csv --modality fundus --out studies/
      arra-med ingest /shared/archive --out /shared/studies --engine ray --address auto
    """
    from arra_med.corpus.decoding import DecodingSettings
    from arra_med.corpus.dry_run import dry_run as run_dry
    from arra_med.corpus.engine import EngineChoice
    from arra_med.corpus.ingest import ingest as run_ingest
    from arra_med.corpus.ingest_report import REPORT_FILE, write_ingest_report
    from arra_med.imaging.quality import QualityThresholds
    from arra_med.imaging.rules import ReadingRules
    from arra_med.imaging.view import CanonicalView

    rules = ReadingRules(
        allow_for_processing=allow_for_processing,
        allow_burned_in=allow_burned_in,
        correct_orientation=correct_orientation,
        quality=overridden(QualityThresholds(), quality or (), "--quality"),
    )
    settings = DecodingSettings(
        spec=CanonicalView(modality=modality, size_px=size),
        rules=rules,
        time_limit_s=time_limit,
        memory_limit_gib=memory_limit,
    )
    if dry_run:
        told = run_dry(
            source,
            settings,
            layout=layout,
            redistributable_only=redistributable_only,
            duplicate_distance=duplicate_distance,
            drop_duplicates=drop_duplicates,
            workers=workers,
            limit=limit,
            sample=sample,
        )
        if json_file:
            told.write_json(json_file)
        if table_file:
            told.write_table(table_file)
        typer.echo("\n".join(told.lines()))
        return
    if out is None or sample or json_file or table_file:
        raise UserError("give --out FOLDER to write a study set, or --dry-run; --sample, --json and --table need it")
    report = run_ingest(
        source,
        out,
        settings,
        layout=layout,
        redistributable_only=redistributable_only,
        duplicate_distance=duplicate_distance,
        drop_duplicates=drop_duplicates,
        verify=verify,
        engine=EngineChoice(kind=engine, address=address),
        workers=workers,
        limit=limit,
    )
    write_ingest_report(out, out / REPORT_FILE)
    typer.echo(f"{report.written} studies written to {out}, {report.kept} of all rows kept from an earlier run")
    _echo_reasons("rows quarantined (see quarantine.jsonl)", report.quarantined, report.reasons)
    _echo_reasons("rows left out", report.skipped, report.skip_reasons)
    _echo_reasons("notes on the source (see source_notes.jsonl)", sum(report.notes.values()), report.notes)
    if report.num_duplicates and not drop_duplicates:
        typer.echo(f"{report.num_duplicates} images show the same picture as an earlier one (see duplicates.jsonl)")
    typer.echo(f"what the set holds: {out / REPORT_FILE} (it shows patients' images)")


def tokenize(
    studies: StudiesArgument,
    tokenizer: Annotated[Path, typer.Option(metavar="FOLDER", help="The image tokenizer.")],
    out: OutFolder,
    views: ViewsOption = 1,
    seed: SeedOption = 0,
    batch_size: BatchOption = 32,
    device: DeviceOption = None,
    engine: EngineOption = "local",
    address: AddressOption = "auto",
) -> None:
    """Turns a study set into a corpus.

    It holds image codes, reports and labels, as Parquet.

    \b
    Example:
      arra-med tokenize studies/ --tokenizer runs/tokenizer/tokenizer --views 4 --out corpus/
    """
    from arra_med.corpus.engine import EngineChoice
    from arra_med.corpus.tokenize import tokenize as run_tokenize

    run_tokenize(
        studies,
        tokenizer,
        out,
        views=views,
        seed=seed,
        batch_size=batch_size,
        device=device or "auto",
        engine=EngineChoice(kind=engine, address=address),
    )
    typer.echo(f"corpus written to {out}")


def features(
    studies: StudiesArgument,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="ENCODER",
            help="biomedclip, efficientnet_lite0, timm:NAME, transformers:ID, or a local folder. Controls: permuted:ENCODER "
            "(another image's features), random:ENCODER (the network before any training).",
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
    engine: EngineOption = "local",
    address: AddressOption = "auto",
) -> None:
    """Computes a frozen teacher's features.

    One Parquet file for each teacher. Give the same --views and --seed as to tokenize, so that codes and features are
    of the same pixels.

    \b
    Examples:
      arra-med features studies/ --teacher efficientnet_lite0 --out efficientnet_lite0.parquet
      arra-med features studies/ --teacher biomedclip --kind cls --out biomedclip.parquet
    """
    from arra_med.corpus.engine import EngineChoice
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
        engine=EngineChoice(kind=engine, address=address),
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
        typer.echo(f"{count} {what}: {named}")
