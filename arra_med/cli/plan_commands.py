"""The command that tells what a training costs before it is started."""

from typing import Annotated

import typer

from arra_med.cli.options import SetOption
from arra_med.training.gpus import GpuName


def plan(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped one.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="How many; from two on FSDP2 shards the model.")] = 1,
    gpu: Annotated[GpuName, typer.Option("--gpu", help="Which; cpu is two cores.")] = "h100",
    mfu: Annotated[
        float, typer.Option("--mfu", min=0.01, max=1.0, help="Share of the accelerator's peak assumed to be reached.")
    ] = 0.4,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Tells what a training costs.

    Parameters, tokens, operations, memory of each GPU and hours, from the configuration alone: neither weights nor
    images nor a GPU are needed.

    \b
    Examples:
      arra-med plan mimic_512_arra.yaml --gpus 8 --gpu h100
      arra-med plan my.yaml --gpu rtx4090 --set batch_size=4 --set gradient_checkpointing=true
      arra-med plan mimic_256_arra.yaml --gpus 4 --gpu a100-40 --json
    """
    from arra_med.config import load_config, shipped_config
    from arra_med.training.plan import make_plan
    from arra_med.training.plan_text import plan_lines
    from arra_med.training.settings import TrainConfig

    made = make_plan(load_config(shipped_config(config), TrainConfig, settings or ()), gpu, gpus, mfu)
    typer.echo(made.model_dump_json(indent=2) if as_json else "\n".join(plan_lines(made)))
