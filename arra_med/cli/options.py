"""Options that several commands share, so that one word means one thing everywhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from arra_med.config import Device, Dtype

ConfigOption = Annotated[
    str,
    typer.Option("--config", metavar="NAME|PATH", help="A YAML file, or the name of one that ships with the package."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as seed=3; may be repeated."),
]
DeviceOption = Annotated[
    Device | None, typer.Option("--device", help="Where to compute; by default what the config says, else auto.")
]
DtypeOption = Annotated[
    Dtype,
    typer.Option("--dtype", help="Number format of the language model; auto: bfloat16 on a GPU of CUDA, else float32."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint in --out where there is one.")
]
OutFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the result goes; made if missing.")]
StudiesArgument = Annotated[Path, typer.Argument(metavar="STUDIES", help="A study set written by arra-med ingest.")]
ViewsOption = Annotated[
    int,
    typer.Option("--views", min=1, help="Views of each training study: the plain one and seeded augmented ones."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the random choices.")]
VisibleMarkOption = Annotated[
    bool,
    typer.Option(
        "--visible-mark/--no-visible-mark",
        help="Draw SYNTHETIC into a corner; leave out only what is to be judged or read blind.",
    ),
]
WatermarkOption = Annotated[
    bool, typer.Option("--watermark/--no-watermark", help="Put the invisible watermark into the pixels.")
]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images computed at once.")]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="This machine, or a Ray cluster that sees the same files.")
]
AddressOption = Annotated[
    str, typer.Option("--address", metavar="auto|local|HOST:PORT", help="The Ray cluster; auto is this machine's own.")
]
ForProcessingOption = Annotated[
    bool, typer.Option("--allow-for-processing", help="Read detector signal that is not meant for display.")
]
BurnedInOption = Annotated[
    bool, typer.Option("--allow-burned-in", help="Read images that declare text in their pixels, or look like it.")
]
OrientationOption = Annotated[
    bool, typer.Option("--correct-orientation", help="Turn or mirror as PatientOrientation suggests.")
]
QualityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quality", metavar="NAME=VALUE", help="Threshold of a quality check, null for none; may be repeated."
    ),
]

AcknowledgeOption = Annotated[
    bool,
    typer.Option(
        "--acknowledge-credentialed",
        help="For a bundle of credentialed data: you have signed its agreement, and keep its images to those who have.",
    ),
]


def all_overrides(settings: list[str] | None, device: Device | None) -> list[str]:
    """Returns the `--set` overrides, with `--device` as the last of them."""
    return [*(settings or []), *([f"device={device}"] if device else [])]
