"""`arra-med send`: synthetic DICOM files to a research system."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from arra_med.errors import SendingError


def send(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="DICOM files that arra-med made, or folders of them.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="A destination on the list.")],
    destinations: Annotated[
        Path | None,
        typer.Option(
            "--destinations",
            metavar="FILE",
            help="The list; by default $ARRA_MED_DESTINATIONS, else ~/.config/arra-med/destinations.yaml.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
) -> None:
    """Sends synthetic DICOM files to a research system.

    By C-STORE or DICOMweb (STOW-RS), to a destination on the list. Only unchanged DICOM files that arra-med made are sent; one other
    file, and nothing is. Never send to a system that patient care reads from.

    \b
    Example:
      arra-med send out/ --to research-pacs
    """
    from arra_med.generate.destinations import find_destination, list_path
    from arra_med.generate.sending import dicom_files, send_files

    destination = find_destination(to, destinations or list_path())
    files = dicom_files(paths)
    question = f"Send {len(files)} synthetic {'image' if len(files) == 1 else 'images'} to {destination.address}?"
    if not yes:
        if not sys.stdin.isatty():
            raise SendingError(f"{question} Nobody can be asked here, so nothing was sent: say --yes")
        typer.confirm(question, abort=True, err=True)
    for file in send_files(files, destination):
        typer.echo(str(file))
