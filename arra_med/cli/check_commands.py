"""Commands of the quality gate: fit its reference to a study set, and what `generate --check` needs of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from arra_med.cli.options import DeviceOption, StudiesArgument
from arra_med.config import resolve_device
from arra_med.errors import UserError

if TYPE_CHECKING:
    from arra_med.evaluate.quality_gate import QualityGate
    from arra_med.generate.batch_checked import TableCheck
    from arra_med.generate.session import GenerationResult
    from arra_med.models.bundle import BundleInfo

check_app = typer.Typer(help="The quality gate of arra-med generate --check.")

CheckOption = Annotated[
    bool, typer.Option("--check", help="Score every image; draw those anew that are implausible, empty or repeats.")
]
CheckTriesOption = Annotated[
    int | None, typer.Option("--check-tries", metavar="N", help="Images drawn for each place at most; by default 3.")
]
CheckReferenceOption = Annotated[
    Path | None,
    typer.Option("--check-reference", metavar="FILE", help="From arra-med check fit; by default the bundle's own."),
]
CheckEncoderOption = Annotated[
    str | None,
    typer.Option("--check-encoder", metavar="NAME|FOLDER", help="Where the reference's encoder lies, if not by name."),
]
CheckTrainingOption = Annotated[
    Path | None,
    typer.Option("--check-training", metavar="STUDIES", help="Also look for near copies of the training images."),
]


@check_app.command("fit")
def fit(
    studies: StudiesArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The reference; check.safetensors in a bundle is found there.")
    ],
    encoder: Annotated[
        str, typer.Option(metavar="NAME|FOLDER", help="Frozen encoder; one that judges a study should not be used up.")
    ] = "efficientnet_lite0",
    feature: Annotated[Literal["cls", "mean", "trunk-cls"], typer.Option(help="Of the encoder.")] = "mean",
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From arra-med features, instead of encoding again.")
    ] = None,
    pass_rate: Annotated[float, typer.Option(metavar="SHARE", help="Of real images that shall pass.")] = 0.99,
    with_test: Annotated[
        bool, typer.Option("--with-test", help="Read the thresholds off the test split, too: a few hundred are rough.")
    ] = False,
    copies: Annotated[
        bool, typer.Option("--copies", help="Also read off what a near copy of a training image is (minutes).")
    ] = False,
    device: DeviceOption = None,
) -> None:
    """Learns what real images look like: the reference of arra-med generate --check.

    Means and main directions of the train split, thresholds from the validation split; no image and no feature of a
    single one. The file takes the licence class of the study set.

    \b
    Examples:
      arra-med check fit runs/mini_cxr/studies --out runs/arra/bundle/check.safetensors
      arra-med check fit studies/ --features teacher.parquet --copies --out check.safetensors
    """
    from arra_med.corpus.study_set import StudySet
    from arra_med.encoders import load_encoder
    from arra_med.evaluate.check_fit import fit_check_reference
    from arra_med.evaluate.check_reference import write_check_reference

    loaded = load_encoder(encoder).to(resolve_device(device or "auto"))
    reference = fit_check_reference(
        StudySet.open(studies),
        loaded,
        feature=feature,
        features=features,
        pass_rate=pass_rate,
        with_test=with_test,
        copies=copies,
        progress=True,
    )
    write_check_reference(reference, out)
    info = reference.info
    typer.echo(
        f"{info.num_training} training images; {info.num_held_out - info.num_held_out_above} of {info.num_held_out} "
        f"held-out images pass at novelty {info.novelty:.3f}; licence class {info.licence_class}; written to {out}"
    )


def open_gate(
    check: bool,
    folder: Path,
    info: "BundleInfo",
    device: str,
    *,
    reference: Path | None,
    encoder: str | None,
    training: Path | None,
    tries: int | None,
) -> "QualityGate | None":
    """Returns the gate that the options of `generate` ask for; none without --check.

    Raises:
        UserError: If an option of the check was given without --check.
        EvaluationError: If the gate cannot be opened.
    """
    if not check:
        if any(option is not None for option in (reference, encoder, training, tries)):
            raise UserError("an option of the check was given without --check: add --check, or leave it out")
        return None
    from arra_med.evaluate.check_reference import CHECK_FILE
    from arra_med.evaluate.quality_gate import open_quality_gate

    path = reference or folder / CHECK_FILE
    return open_quality_gate(path, info, encoder=encoder, training=training, device=device, progress=True)


def open_table_gate(
    check: bool,
    folder: Path,
    info: "BundleInfo",
    device: str,
    *,
    on_cluster: bool,
    reference: Path | None,
    encoder: str | None,
    training: Path | None,
    tries: int | None,
) -> "TableCheck | None":
    """Returns what `open_gate` would, for a table; each machine of a cluster opens the gate itself.

    Raises:
        UserError: As `open_gate`.
        EvaluationError: As `open_gate`.
    """
    gate = open_gate(check, folder, info, device, reference=reference, encoder=encoder, training=training, tries=tries)
    if gate is None:
        return None
    from arra_med.evaluate.check_reference import CHECK_FILE
    from arra_med.evaluate.quality_gate import open_quality_gate, thumbnail
    from arra_med.generate.batch_checked import TableCheck
    from arra_med.generate.checking import DEFAULT_TRIES
    from arra_med.generate.table_repeats import RepeatTest

    path = (reference or folder / CHECK_FILE).resolve()

    def open_there(device: str) -> "QualityGate":
        return open_quality_gate(path, info, encoder=encoder, training=training, device=device)

    opened = open_there if on_cluster else lambda _: gate
    repeats = RepeatTest(thumbnail, gate.reference.info.duplicate)
    return TableCheck(opened, gate.identity, DEFAULT_TRIES if tries is None else tries, repeats)


def tell_check(result: "GenerationResult") -> None:
    """Says on standard error what the check did, and warns of images that are kept with a mark."""
    from arra_med.generate.checking import CheckTally

    typer.echo(f"check: {CheckTally.of(result.checked).sentence()}", err=True)
    marked = [str(result.seed(index)) for index, one in enumerate(result.checked) if not one.passed]
    if marked:
        typer.echo(
            f"warning: no try of {len(marked)} passed the check; kept with a mark in the JSON file, seed "
            f"{', '.join(marked[:10])}{', ...' if len(marked) > 10 else ''}",
            err=True,
        )
