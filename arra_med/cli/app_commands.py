"""`arra-med app`: the page in a browser."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.batch_drawing import quiet_transformers
from arra_med.cli.model_commands import bundle_folder
from arra_med.cli.options import AcknowledgeOption, AddressOption, EngineOption
from arra_med.config import load_config


def app_command(
    bundle: Annotated[
        str, typer.Option(metavar="PATH|mini", help="A bundle's folder; by default the bundled models.")
    ] = "mini",
    bundles: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Offers every bundle in this folder's subfolders instead.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(metavar="STUDIES", help="Study set that trained the models, to look for copies.")
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Encoder folder of a classifier, to score the findings in pictures."),
    ] = None,
    study: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Result of arra-med compare, to be shown beside the models.")
    ] = None,
    service: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Log-in, HTTPS, limits and the path behind a proxy.")
    ] = None,
    engine: EngineOption = "local",
    workers: Annotated[int, typer.Option(min=1, help="With --engine ray: images drawn at the same time.")] = 2,
    address: AddressOption = "local",
    acknowledge_credentialed: AcknowledgeOption = False,
    host: Annotated[str, typer.Option(help="Address to serve on; the default is this computer alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 7860,
    open_browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open a browser; by default where there is a screen.")
    ] = None,
) -> None:
    """Opens the app in a browser.

    Paste a report, watch an image appear; works offline.

    \b
    Examples:
      arra-med app
      arra-med app --bundle runs/arra/bundle --port 8000 --no-open
      arra-med app --service service.yaml --host 0.0.0.0 --engine ray --workers 2
      arra-med app --bundles models/ --training studies/ --judge runs/judge/encoder --study runs/compare
    """
    quiet_transformers()
    from arra_med_apps.app import launch
    from arra_med_apps.choices import bundle_choice, bundled_choices, found_choices
    from arra_med_apps.service.settings import ServiceSettings
    from arra_med_apps.settings import AppSettings

    if bundles is not None:
        choices, damaged = found_choices(bundles)
        for sentence in damaged:
            typer.echo(f"left out: {sentence}", err=True)
    else:
        choices = bundled_choices() if bundle == "mini" else [bundle_choice(bundle_folder(bundle, None))]
    settings = AppSettings(training=training, judge=judge, study=study, acknowledged=acknowledge_credentialed)
    served = load_config(service, ServiceSettings) if service is not None else ServiceSettings()
    shown = _has_screen() if open_browser is None else open_browser
    with contextlib.ExitStack() as open_workers:
        drawing = None
        if engine == "ray":
            from arra_med.generate.serving import Workers

            drawing = open_workers.enter_context(contextlib.closing(Workers(workers, address)))
        launch(choices, host, port, shown, settings, served, drawing)


users_app = typer.Typer(help="Who may log in to the app.", no_args_is_help=True)
_UsersFile = Annotated[Path, typer.Option("--file", metavar="FILE", help="The users file.")]
_UserName = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]


@users_app.command("add")
def add_command(name: _UserName, file: _UsersFile) -> None:
    """Adds a user, or changes a password, which is asked for.

    \b
    Example:
      arra-med users add reader1 --file users.txt
    """
    from arra_med_apps.service.users import add_user

    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    add_user(file, name, password)
    typer.echo(f"{file}: user added")


@users_app.command("remove")
def remove_command(name: _UserName, file: _UsersFile) -> None:
    """Takes a user out.

    \b
    Example:
      arra-med users remove reader1 --file users.txt
    """
    from arra_med_apps.service.users import remove_user

    remove_user(file, name)
    typer.echo(f"{file}: user removed")


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
