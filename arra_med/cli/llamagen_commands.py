"""Commands that turn LlamaGen's published files into folders of this package."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from arra_med.cli.options import OutFolder
from arra_med.records.study import Modality

_WeightsArgument = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="The downloaded file.")]


def import_tokenizer(
    weights: _WeightsArgument,
    out: OutFolder,
    size_px: Annotated[int, typer.Option("--size-px", min=16, help="Side of the images: 256, 384 or 512.")] = 256,
    channels: Annotated[Literal["1", "3"], typer.Option(help="1 reads and makes grayscale images.")] = "3",
) -> None:
    """Turns LlamaGen's published image tokenizer into an image tokenizer's folder.

    \b
    Examples:
      arra-med tokenizer import-llamagen vq_ds16_c2i.pt --size-px 256 --out vq16
      arra-med tokenizer import-llamagen vq_ds16_t2i.pt --size-px 512 --channels 1 --out vq16-gray
    """
    from arra_med.tokens.llamagen_vq import read_llamagen_vq

    tokenizer = read_llamagen_vq(weights, size_px, 1 if channels == "1" else 3)
    tokenizer.save_pretrained(out)
    rows, columns = tokenizer.grid
    typer.echo(f"image tokenizer written to {out}: {rows} x {columns} tokens of {tokenizer.codebook_size:,} codes")


def import_bundle(
    weights: _WeightsArgument,
    image_tokenizer: Annotated[
        Path, typer.Option(metavar="FOLDER", help="What tokenizer import-llamagen wrote, at the size of these weights.")
    ],
    out: OutFolder,
    text_encoder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="FLAN-T5-XL, for weights that read captions.")
    ] = None,
    class_names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One name a line, for classes that are not ImageNet's.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "llamagen",
    modality: Annotated[Modality, typer.Option(help="What the weights draw.")] = "photo",
    num_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads, for a size that was never published.")
    ] = None,
) -> None:
    """Turns LlamaGen's published language model into a bundle, to generate from or to start a training from.

    \b
    Examples:
      arra-med bundle import-llamagen c2i_B_256.pt --image-tokenizer vq16 --out llamagen-b
      arra-med generate --bundle llamagen-b --report "golden retriever" --guidance 4 --top-k 2000 --out out/
      arra-med bundle import-llamagen t2i_XL_stage1_256.pt --image-tokenizer vq16-t2i --text-encoder flan-t5-xl --out llamagen-t2i
    """
    from arra_med.models.llamagen_bundle import import_llamagen
    from arra_med.models.llamagen_prompts import read_class_names

    info = import_llamagen(
        weights,
        image_tokenizer,
        out,
        name=name,
        modality=modality,
        text_encoder=text_encoder,
        class_names=read_class_names(class_names) if class_names is not None else None,
        num_heads=num_heads,
    )
    typer.echo(f"bundle written to {out}; licence class: {info.licence_class}")
