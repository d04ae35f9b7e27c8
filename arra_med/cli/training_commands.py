"""Commands that train: the image tokenizer, and the language model with or without ARRA."""

import dataclasses

import typer

from arra_med.cli.options import ConfigOption, DeviceOption, OutFolder, ResumeOption, SetOption, all_overrides

tokenizer_app = typer.Typer(help="Trains and imports image tokenizers.", no_args_is_help=True)


@tokenizer_app.command("train")
def train_tokenizer_command(
    config: ConfigOption,
    out: OutFolder,
    settings: SetOption = None,
    device: DeviceOption = None,
    resume: ResumeOption = True,
) -> None:
    """Trains an image tokenizer.

    Trained on a study set, measured on its held-out images.

    \b
    Examples:
      arra-med tokenizer train --config mini_cxr_tokenizer.yaml --out runs/tokenizer
      arra-med tokenizer train --config my.yaml --set steps=2000 --set losses.adversarial=0 --out runs/short
    """
    from arra_med.config import load_config, shipped_config
    from arra_med.training.tokenizer_run import TokenizerTrainConfig, train_tokenizer

    loaded = load_config(shipped_config(config), TokenizerTrainConfig, all_overrides(settings, device))
    fidelity = train_tokenizer(loaded, out, resume)
    typer.echo(f"tokenizer written to {out / 'tokenizer'}; on held-out images:")
    for name, value in dataclasses.asdict(fidelity).items():
        typer.echo(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")


def train(
    config: ConfigOption,
    out: OutFolder,
    settings: SetOption = None,
    device: DeviceOption = None,
    resume: ResumeOption = True,
) -> None:
    """Fine-tunes a language model, or trains it with ARRA.

    Which of the two is one block of the config: the alignment.

    \b
    Examples:
      arra-med train --config mini_cxr_finetune.yaml --out runs/finetune
      arra-med train --config mini_cxr_arra.yaml --set seed=1 --out runs/arra-seed1
      torchrun --nproc-per-node 8 -m arra_med.cli train --config my.yaml --out runs/large
    """
    from arra_med.config import load_config, shipped_config
    from arra_med.training.processes import is_first_process, leave
    from arra_med.training.run import train as run_train
    from arra_med.training.settings import TrainConfig

    loaded = load_config(shipped_config(config), TrainConfig, all_overrides(settings, device))
    bundle = run_train(loaded, out, resume)
    leave()
    if is_first_process():
        typer.echo(f"bundle written to {bundle}")
