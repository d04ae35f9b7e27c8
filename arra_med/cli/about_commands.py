"""`arra-med about`: what this installation is, holds and is for."""

import typer

from arra_med.config import intended_use


def about() -> None:
    """Shows intended use, versions, models and data.

    \b
    Example:
      arra-med about
    """
    from arra_med.generate.content_credentials import configured_signer
    from arra_med.models.bundle import read_bundle_info
    from arra_med.models.bundled import bundled_folders
    from arra_med.records.cards import list_cards
    from arra_med.runs import versions

    typer.echo(intended_use())
    typer.echo("Versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()))
    for folder in bundled_folders():
        info = read_bundle_info(folder)
        typer.echo(f"Model {info.name}: {info.modality}, {info.variant}, licence class {info.licence_class}; {folder}")
    for card in list_cards():
        typer.echo(f"Data {card.source}: {card.licence_class}; {card.licence}")
    signed = (
        "are signed with your certificate" if configured_signer() else "are not signed: no certificate is configured"
    )
    typer.echo(f"Content credentials (C2PA): exported PNG files {signed}")
