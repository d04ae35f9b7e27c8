"""`arra-med watermark`: finds the invisible watermark of exported images."""

from pathlib import Path
from typing import Annotated

import typer

watermark_app = typer.Typer(help="Finds the invisible watermark of exported images.")


@watermark_app.command("detect")
def detect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PNG, JPEG or DICOM files.")],
) -> None:
    """Tells which images carry the watermark of arra-med, also after JPEG or resizing.

    The exit code is 0 if all of them do, 1 if not. No watermark does not mean that an image is real.

    \b
    Example:
      arra-med watermark detect out/*.png
    """
    from arra_med.generate.watermark import THRESHOLD, detect_watermark, false_alarm_bound

    all_found = True
    for path in files:
        statistic = detect_watermark(path)
        found = statistic >= THRESHOLD
        all_found &= found
        chance = f", by chance in fewer than {false_alarm_bound(statistic):.0e} of other images" if found else ""
        typer.echo(f"{path}: {'watermark' if found else 'no watermark'} (statistic {statistic:.1f}{chance})")
    raise typer.Exit(0 if all_found else 1)


@watermark_app.callback()
def _group() -> None:
    """Keeps `detect` a word of its own."""
