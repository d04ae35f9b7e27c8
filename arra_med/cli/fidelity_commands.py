"""The command that judges how near generated images are to real ones."""

from pathlib import Path
from typing import Annotated

import typer

from arra_med.cli.options import ConfigOption, DeviceOption, OutFolder, SetOption, all_overrides


def fidelity_command(
    out: OutFolder,
    config: ConfigOption = "fidelity.yaml",
    bundle: Annotated[str | None, typer.Option(metavar="PATH|NAME", help="The model; by default the config's.")] = None,
    studies: Annotated[
        Path | None, typer.Option(metavar="STUDIES", help="The study set; by default the config's.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Already generated images in place of drawing.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="Encoder that judges, repeatable, in place of the config's; see docs/fidelity.md."),
    ] = None,
    settings: SetOption = None,
    device: DeviceOption = None,
) -> None:
    """Judges generated images against held-out real ones.

    Draws one image for each held-out report, or takes a folder of images; measures Fréchet distance, KID, CMMD,
    precision, recall, density, coverage and diversity, each with the judge's name, floors and intervals. Writes
    fidelity.json, fidelity.md and fidelity.html. Start the same command again to go on after a stop.

    \b
    Examples:
      arra-med evaluate fidelity --bundle runs/arra/bundle --studies runs/mini_cxr/studies --out fidelity/
      arra-med evaluate fidelity --images drawn/ --judge efficientnet_lite2 --judge rad-dino --out fidelity/
      arra-med evaluate fidelity --config chexgenbench.yaml --bundle runs/arra/bundle --out chexgenbench/
    """
    import yaml

    from arra_med.config import load_config, shipped_config
    from arra_med.evaluate.fidelity import RESULT_FILE, measure_fidelity
    from arra_med.evaluate.fidelity_settings import FidelityConfig

    named = {"bundle": bundle, "studies": studies, "images": images, "judges": judge}
    if images is not None and bundle is None:
        named["bundle"] = "null"  # the config's bundle did not draw them
    options = [
        f"{key}={value if value == 'null' else yaml.safe_dump(value if isinstance(value, list) else str(value))}"
        for key, value in named.items()
        if value
    ]
    loaded = load_config(shipped_config(config), FidelityConfig, [*options, *all_overrides(settings, device)])
    result = measure_fidelity(loaded, out)
    for judged in result["judges"]:
        for row in judged["rows"]:
            interval = row["interval"]
            bounds = f" [{interval['low']:.3g}, {interval['high']:.3g}]" if interval else ""
            floor = "" if row["reconstruction_floor"] is None else f" (floor {row['reconstruction_floor']:.3g})"
            typer.echo(f"{judged['judge']} {row['metric']}: {row['value']:.3g}{bounds}{floor}")
    for told in result["missing_judges"]:
        typer.echo(f"missing: {told['reason']}")
    typer.echo(f"written to {out / RESULT_FILE}, fidelity.md and fidelity.html; synthetic images, research use only")
