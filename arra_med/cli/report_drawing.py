"""What `arra-med generate --report` does once all is opened: draw, write what is finished, follow the tokens."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from arra_med.generate.checking import ImageCheck
    from arra_med.generate.session import GenerationRequest, GenerationResult, ReportToImage


def draw_report(
    session: "ReportToImage",
    request: "GenerationRequest",
    gate: "ImageCheck | None",
    tries: int | None,
    out: Path,
    export: dict[str, Any],
) -> "GenerationResult":
    """Draws the images of one report, and writes each as soon as its batch, or its check, is finished.

    Args:
        session: The model, opened.
        request: What to make.
        gate: Judges the images; none: nobody does.
        tries: Images drawn for each place at most under a check; none: as by default.
        out: Folder of the images.
        export: How they are written; settings of `save_images`.

    Returns:
        All images.

    Raises:
        KeyboardInterrupt: On Ctrl-C; how many images were kept has been told.
    """
    from tqdm import tqdm

    from arra_med.generate.checked_images import stream_checked
    from arra_med.generate.checking import DEFAULT_TRIES

    if gate is None:
        updates = session.stream(request, partial_images=False)
    else:
        updates = stream_checked(session, request, gate, DEFAULT_TRIES if tries is None else tries, False)
    write = _writer(out, request.num_images, export)
    num_kept, told = 0, list(session.prompt(request).notices)
    for notice in told:
        typer.echo(f"note: {notice}", err=True)
    try:
        with tqdm(total=100, desc="drawing", unit="%", bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}") as bar:
            for update in updates:
                bar.update(round(100 * update.progress) - bar.n)
                for notice in update.prompt.notices:
                    if notice not in told:
                        told.append(notice)
                        bar.write(f"note: {notice}", file=sys.stderr)
                if update.finished is not None:
                    for index in range(len(update.finished.images)):
                        files = write(update.finished.only(index))
                        num_kept += 1
                        bar.write("\n".join(map(str, files)))
                if update.result is not None:
                    return update.result
    except KeyboardInterrupt:
        typer.echo(f"note: {num_kept} of {request.num_images} images are finished and kept in {out}", err=True)
        raise
    raise AssertionError("a stream ends with a result")


def _writer(out: Path, total: int, export: dict[str, Any]) -> Callable[["GenerationResult"], list[Path]]:
    """Returns the function that writes the next images, all of them into one series."""
    from arra_med.generate.export import SeriesPart, save_images
    from arra_med.generate.export_dicom import NewSeries

    part = SeriesPart(NewSeries.fresh(), 0, total)

    def write(result: "GenerationResult") -> list[Path]:
        nonlocal part
        files = save_images(result, out, part=part, **export)
        part = part._replace(num_before=part.num_before + len(result.images))
        return files

    return write
