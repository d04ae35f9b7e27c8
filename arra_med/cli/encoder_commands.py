"""Commands about frozen encoders that are trained here: stand-in teachers and in-house judges."""

import typer

from arra_med.cli.options import ConfigOption, DeviceOption, OutFolder, ResumeOption, SetOption, all_overrides

encoder_app = typer.Typer(help="Trains stand-in teachers and in-house judges.", no_args_is_help=True)


@encoder_app.command("train")
def train_encoder_command(
    config: ConfigOption,
    out: OutFolder,
    settings: SetOption = None,
    device: DeviceOption = None,
    resume: ResumeOption = True,
) -> None:
    """Trains an encoder on a study set.

    A small CLIP, a classifier of findings or an autoencoder; the folder `encoder` can be a teacher or a judge.

    \b
    Examples:
      arra-med encoder train --config cxr_clip_mini.yaml --out runs/cxr_clip
      arra-med features studies/ --teacher runs/cxr_clip/encoder --kind cls --kind mean --out teacher.parquet
      arra-med encoder train --config cxr_classifier.yaml --set fold.index=1 --out runs/judge
    """
    from arra_med.config import load_config, shipped_config
    from arra_med.training.encoder_run import ENCODER_FOLDER, headline_words, train_encoder
    from arra_med.training.encoder_settings import EncoderTrainConfig

    loaded = load_config(shipped_config(config), EncoderTrainConfig, all_overrides(settings, device))
    measures = train_encoder(loaded, out, resume)
    typer.echo(f"{loaded.name} written to {out / ENCODER_FOLDER}; on held-out images:")
    for group, told in measures["held_out"].items():
        typer.echo(f"  {group} ({told['num_images']} images): {headline_words(told['headline'])}")
