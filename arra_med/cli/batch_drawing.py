"""What `arra-med generate --prompts` does: wiring of a table of prompts to its folder of images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from arra_med.config import Device, Dtype
from arra_med.records.study import Modality

if TYPE_CHECKING:
    from arra_med.generate.batch_checked import TableCheck
    from arra_med.models.bundle import BundleInfo

_CAUTIONS_SHOWN = 5


def draw_table(
    prompts: Path,
    out: Path,
    *,
    rules: Mapping[str, Any],
    cells: Mapping[str, Any],
    seed: int,
    bundle: Callable[[Modality | None], Path],
    batch_size: int,
    device: Device,
    engine: Literal["local", "ray"],
    address: str,
    backend: str,
    dtype: Dtype,
    export: tuple[str, bool, bool, bool],
    check: "Callable[[Path, BundleInfo], TableCheck | None]",
) -> None:
    """Draws a table's images and says what became of them.

    Args:
        prompts: The table.
        out: Folder of the images.
        rules: Settings of the sampling.
        cells: What an empty or missing cell means, by column; none: what the report says.
        seed: Base of the seeds that the table does not give.
        bundle: Returns the bundle's folder, given the modality that all rows name.
        batch_size: Images drawn together.
        device: Where the model runs.
        engine: Which machines draw.
        address: Of the cluster.
        backend: Decoder.
        dtype: Number format of the language model.
        export: File formats, whether to keep reports beside the images, and whether to draw the visible and the
            invisible mark.
        check: Returns the check that was asked for, given the bundle's folder and what it is.
    """
    from arra_med.corpus.engine import EngineChoice
    from arra_med.generate.batch import draw_table as draw
    from arra_med.generate.export import ExportChoice
    from arra_med.generate.marks import Marks
    from arra_med.generate.prompt_table import read_prompt_table, table_modality
    from arra_med.generate.request import GenerationRequest, request_from_settings
    from arra_med.models.bundle import read_bundle_info

    image_format, include_report, visible_mark, watermark = export
    folder = bundle(table_modality(prompts))
    info = read_bundle_info(folder)
    modality = info.modality
    defaults: GenerationRequest = request_from_settings(report="", modality=modality, **cells, **rules)
    rows = read_prompt_table(prompts, modality=modality, seed=seed, rules=defaults.rules, **cells)
    quiet_transformers()
    gate = check(folder, info)
    report = draw(
        prompts,
        rows,
        folder,
        out,
        batch_size=batch_size,
        device=device,
        engine=EngineChoice(kind=engine, address=address),
        backend=backend,
        dtype=dtype,
        check=gate,
        export=ExportChoice(image_format, include_report, Marks(visible=visible_mark, watermark=watermark)),
        tell=lambda sentence: typer.echo(f"note: {sentence}", err=True),
    )
    for caution, count in list(report.cautions.items())[:_CAUTIONS_SHOWN]:
        typer.echo(f"note: {count:,} images: {caution}", err=True)
    if len(report.cautions) > _CAUTIONS_SHOWN:
        typer.echo(f"note: {len(report.cautions) - _CAUTIONS_SHOWN} further notes, see cautions in the list", err=True)
    if report.check is not None:
        typer.echo(f"check: {report.check.sentence()}", err=True)
    if report.num_repeats:
        typer.echo(
            f"warning: images that repeat a picture of an earlier row: {report.num_repeats:,} of {report.total:,} "
            "(check.repeats in the list names it)",
            err=True,
        )
    typer.echo(
        f"{report.total - report.kept:,} synthetic images written to {out}, {report.kept:,} kept from an earlier run; "
        f"list: {report.index}"
    )


def quiet_transformers() -> None:
    """Lets `transformers` show no progress bar of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
