"""The settings of `arra-med encoder train`: which network, which patients, how long."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from arra_med.config import Device, StrictModel
from arra_med.corpus.folds import PatientFold


def _not_the_judge(initialisation: str | None) -> None:
    if initialisation is not None and "efficientnet_lite2" in initialisation:
        raise ValueError("EfficientNet-Lite2 is kept for judging alone: start from another encoder, or from none")


class VitTower(StrictModel):
    """open_clip's own vision transformer, randomly initialised.

    Attributes:
        patch_px: Side of a patch; it divides the view's.
        width: Of the tokens.
        num_layers: Blocks.
        head_width: Of an attention head; it divides `width`.
    """

    kind: Literal["vit"] = "vit"
    patch_px: int = Field(default=16, gt=0)
    width: int = Field(default=256, gt=0)
    num_layers: int = Field(default=6, gt=0)
    head_width: int = Field(default=64, gt=0)


class TimmTower(StrictModel):
    """A timm network that takes images of any size.

    Attributes:
        model: Its name in timm.
        start_from: An encoder of the same network to take the weights from (a short name or folder); absent: random.
    """

    kind: Literal["timm"] = "timm"
    model: str
    start_from: str | None = None

    @model_validator(mode="after")
    def _starts_from_no_judge(self) -> "TimmTower":
        _not_the_judge(self.start_from)
        return self


class TextTower(StrictModel):
    """open_clip's text transformer over a compact BPE that is learned from the wordings.

    Attributes:
        vocab_size: Tokens of the BPE.
        context_tokens: Longest text; longer ones are cut.
        width: Of the tokens.
        num_layers: Blocks.
        num_heads: Of attention.
    """

    vocab_size: int = Field(default=2048, ge=300)
    context_tokens: int = Field(default=64, gt=1)
    width: int = Field(default=192, gt=0)
    num_layers: int = Field(default=3, gt=0)
    num_heads: int = Field(default=3, gt=0)


class ClipSettings(StrictModel):
    """A contrastive pair of towers over images and report wordings.

    Attributes:
        image: The image tower.
        text: The text tower.
        embed_dim: Width of the shared space.
    """

    kind: Literal["clip"] = "clip"
    image: Annotated[VitTower | TimmTower, Field(discriminator="kind")] = VitTower()
    text: TextTower = TextTower()
    embed_dim: int = Field(default=128, gt=0)


class ClassifierSettings(StrictModel):
    """A timm network with one output for each finding.

    Attributes:
        model: Its name in timm.
        start_from: An encoder of the same network to take the weights from; absent: random.
        image_size: Whether the network has to be told the view's size (vision transformers).
        findings: Harmonised names (`arra_med/records/wording_*.yaml`).
    """

    kind: Literal["classifier"] = "classifier"
    model: str
    start_from: str | None = None
    image_size: bool = False
    findings: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _starts_from_no_judge(self) -> "ClassifierSettings":
        _not_the_judge(self.start_from)
        return self


class AutoencoderSettings(StrictModel):
    """A convolutional autoencoder: no label is looked at.

    Attributes:
        widths: Channels after each halving, the bottleneck's last.
    """

    kind: Literal["autoencoder"] = "autoencoder"
    widths: tuple[int, ...] = Field(default=(32, 64, 96, 16), min_length=1)


class EncoderTrainConfig(StrictModel):
    """Settings of one training of a stand-in teacher or in-house judge.

    Attributes:
        name: What tables call the encoder.
        studies: Folder of the study set; the train split trains, the validation split measures.
        encoder: Which network, and what it learns.
        sources: Only these sources train; empty takes all.
        absent_if_unlisted: Sources whose images do not have the source's other findings when they list some, as their
            own benchmarks read them. Elsewhere a finding that is not listed is unknown, and unknown is not "no".
        fold: Which patients train.
        label_balance: 0 draws images as they come, 1 draws every set of labels equally often; between, a power of it.
        steps: Optimiser steps.
        batch_size: Images a step.
        learning_rate: Peak rate of AdamW, after `warmup_steps`, falling along a cosine to a twentieth.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Of matrices; vectors have none.
        seed: Of the initialisation, the order, the wordings and the augmentation.
        checkpoint_every: Steps between checkpoints and looks at held-out images.
        device: `auto`, `cpu`, `cuda` or `mps`.
        bf16: Autocast to bfloat16; the weights stay float32.
    """

    name: str = Field(min_length=1)
    studies: Path
    encoder: Annotated[ClipSettings | ClassifierSettings | AutoencoderSettings, Field(discriminator="kind")]
    sources: tuple[str, ...] = ()
    absent_if_unlisted: tuple[str, ...] = ()
    fold: PatientFold = PatientFold()
    label_balance: float = Field(default=0.5, ge=0, le=1)
    steps: int = Field(gt=0)
    batch_size: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    seed: int = 0
    checkpoint_every: int = Field(default=200, gt=0)
    device: Device = "auto"
    bf16: bool = False
