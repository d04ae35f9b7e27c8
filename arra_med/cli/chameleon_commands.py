"""Commands that turn the published files of Chameleon's family into folders of this package."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from arra_med.cli.options import OutFolder
from arra_med.records.study import Modality


def import_tokenizer(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Meta's vqgan.ckpt.")],
    out: OutFolder,
    size_px: Annotated[int, typer.Option("--size-px", min=16, help="Side of the images; 512 as published.")] = 512,
    channels: Annotated[Literal["1", "3"], typer.Option(help="1 reads and makes grayscale images.")] = "3",
) -> None:
    """Turns Chameleon's published image tokenizer into an image tokenizer's folder.

    \b
    Examples:
      arra-med tokenizer import-chameleon vqgan.ckpt --out chameleon-vq
      arra-med tokenizer import-chameleon vqgan.ckpt --channels 1 --out chameleon-vq-gray
    """
    from arra_med.tokens.chameleon_vq import read_chameleon_vq

    tokenizer = read_chameleon_vq(weights, size_px, 1 if channels == "1" else 3)
    tokenizer.save_pretrained(out)
    rows, columns = tokenizer.grid
    typer.echo(f"image tokenizer written to {out}: {rows} x {columns} tokens of {tokenizer.codebook_size:,} codes")


def import_bundle(
    model: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Chameleon, Anole or Lumina-mGPT as transformers writes it.")
    ],
    image_tokenizer: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="What tokenizer import-chameleon wrote, at the size of these weights."),
    ],
    out: OutFolder,
    image_layout: Annotated[
        Literal["plain", "lumina"],
        typer.Option(help="plain: Chameleon, Anole; lumina: with Lumina-mGPT's tokens for size and rows."),
    ] = "plain",
    max_text_tokens: Annotated[int, typer.Option(min=1, help="Longest prompt.")] = 256,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "chameleon",
    modality: Annotated[Modality, typer.Option(help="What the weights draw.")] = "photo",
) -> None:
    """Turns a published model of Chameleon's family into a bundle, to generate from or to start a training from.

    \b
    Examples:
      arra-med bundle import-chameleon Anole-7b-v0.1-hf --image-tokenizer chameleon-vq --out anole
      arra-med bundle import-chameleon Lumina-mGPT-7B-512 --image-tokenizer chameleon-vq --image-layout lumina --out lumina
      arra-med generate --bundle lumina --report "a red bird on the sea" --guidance 4 --top-k 2000 --out out/
    """
    from arra_med.models.chameleon_bundle import import_chameleon

    info = import_chameleon(
        model,
        image_tokenizer,
        out,
        image_layout=image_layout,
        max_text_tokens=max_text_tokens,
        name=name,
        modality=modality,
    )
    typer.echo(f"bundle written to {out}; licence class: {info.licence_class}")
