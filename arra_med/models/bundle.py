"""The model bundle: language model, image tokenizer, layout and provenance in one folder.

The language model's files lie in the folder as `transformers` writes them, so `AutoModelForCausalLM.from_pretrained`
opens a bundle without this package.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arra_med.config import Dtype, StrictModel, resolve_dtype
from arra_med.errors import BundleError, TokenizerError
from arra_med.imaging.view import CanonicalView, Modality
from arra_med.published_weights import TRANSFORMERS_LOADING
from arra_med.records.cards import LicenceClass
from arra_med.runs import atomic_folder, sha256_file, write_json
from arra_med.tokens.chameleon_layout import ChameleonLayout
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.llamagen_layout import LlamaGenLayout
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer

FORMAT_VERSION = 1
DESCRIPTION_FILE, CARD_FILE, IMAGE_TOKENIZER_FOLDER = "bundle.json", "MODEL_CARD.md", "image_tokenizer"
_REQUIRED = (
    DESCRIPTION_FILE,
    "config.json",
    "tokenizer.json",
    f"{IMAGE_TOKENIZER_FOLDER}/config.json",
    f"{IMAGE_TOKENIZER_FOLDER}/model.safetensors",
)


class BundleInfo(StrictModel):
    """What `bundle.json` says.

    Attributes:
        format_version: Of this file.
        name: Shown to users and written into images.
        variant: `finetuned` (the baseline), `arra`, or `imported` (weights that others trained).
        layout: Vocabulary, grid and longest prompt.
        canonical_view: What the image tokenizer was trained on.
        licence_class: The strictest of the sources.
        sources: Data cards behind the weights.
        attributions: Words owed to the sources.
        label_counts: Training images for each finding, for cautions.
        training: What made the weights: config, data hashes, seed, steps, device, versions, held-out losses.
    """

    format_version: int = FORMAT_VERSION
    name: str
    variant: str
    layout: LlamaGenLayout | ChameleonLayout | SequenceLayout
    canonical_view: CanonicalView
    licence_class: LicenceClass
    sources: tuple[str, ...]
    attributions: dict[str, tuple[str, ...]]
    label_counts: dict[str, int]
    training: dict[str, Any]

    @property
    def modality(self) -> Modality:
        """`cxr` or `fundus`."""
        return self.canonical_view.modality


@dataclass
class ModelBundle:
    """An opened bundle.

    Attributes:
        model: A `transformers` causal LM in eval mode, without gradients.
        text_tokenizer: Its tokenizer.
        image_tokenizer: Turns its codes into images.
        info: What `bundle.json` says.
        fingerprint: SHA-256 over the bundle's files, in hex.
    """

    model: Any
    text_tokenizer: Any
    image_tokenizer: ImageTokenizer
    info: BundleInfo
    fingerprint: str

    @property
    def layout(self) -> SequenceLayout:
        """Layout of its sequences."""
        return self.info.layout

    @property
    def spec(self) -> CanonicalView:
        """The canonical view of its images."""
        return self.info.canonical_view

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: Dtype = "float32") -> "ModelBundle":
        """Opens a bundle.

        Args:
            folder: The bundle.
            device: Where the weights go.
            dtype: Number format of the language model; see `resolve_dtype`.

        Raises:
            BundleError: If a part is missing, damaged, or does not fit the others.
        """
        from transformers import AutoModelForCausalLM

        import arra_med.models.chameleon
        import arra_med.models.llamagen  # noqa: F401 - both register their classes

        info = read_bundle_info(folder)
        try:
            with TRANSFORMERS_LOADING:
                model, loading = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=resolve_dtype(dtype, device), local_files_only=True, output_loading_info=True
                )
            text_tokenizer = load_text_tokenizer(folder)
            image_tokenizer = load_image_tokenizer(folder / IMAGE_TOKENIZER_FOLDER, device)
        except (BundleError, TokenizerError) as error:
            raise BundleError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - transformers and safetensors raise many types for a damaged file
            kind = type(error).__name__
            raise BundleError(
                f"{folder}: the language model or its tokenizer cannot be read ({kind}); copy it again"
            ) from None
        _check_parts(folder, info, model, loading, image_tokenizer)
        model = model.to(device).eval().requires_grad_(False)
        return cls(model, text_tokenizer, image_tokenizer, info, bundle_fingerprint(folder))

    @staticmethod
    def save(
        folder: Path, *, model: Any, text_tokenizer: Any, image_tokenizer: ImageTokenizer, info: BundleInfo, card: str
    ) -> None:
        """Writes a bundle atomically, the weights in bfloat16; `model` itself is left as it is.

        Args:
            folder: Where to; an older bundle there is replaced once the new one is complete.
            model: The language model.
            text_tokenizer: Its tokenizer.
            image_tokenizer: Its image tokenizer.
            info: What goes into `bundle.json`.
            card: Markdown text of the model card.
        """
        import copy

        import torch

        slim = copy.deepcopy(model).cpu().to(torch.bfloat16)
        slim.config.use_cache = True
        with atomic_folder(folder) as partial:
            slim.save_pretrained(partial)
            text_tokenizer.save_pretrained(partial)
            image_tokenizer.save_pretrained(partial / IMAGE_TOKENIZER_FOLDER)
            write_json(partial / DESCRIPTION_FILE, info.model_dump(mode="json"))
            (partial / CARD_FILE).write_text(card, encoding="utf-8")
            for file in partial.rglob("*.safetensors"):
                file.chmod(0o644)  # safetensors lets nobody else read it


def read_model_card(folder: Path) -> str:
    """Returns the text of a bundle's model card; empty if it has none that can be read."""
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def read_bundle_info(folder: Path) -> BundleInfo:
    """Reads `bundle.json` and checks that every part is there.

    Raises:
        BundleError: If the folder is no bundle, a part is missing, or `bundle.json` is not valid.
    """
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if not any(folder.glob("model*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise BundleError(
            f"{folder}: is no complete model bundle, {', '.join(missing)} missing; give the folder that `arra-med train` "
            "wrote, or `mini`"
        )
    try:
        values = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        info = BundleInfo.model_validate(values)
    except (OSError, ValueError, ValidationError):
        raise BundleError(
            f"{folder}: {DESCRIPTION_FILE} is damaged or of another format; copy the bundle again"
        ) from None
    if info.format_version != FORMAT_VERSION:
        raise BundleError(f"{folder}: bundle format {info.format_version}, this version reads {FORMAT_VERSION}; update")
    return info


def load_text_tokenizer(folder: Path) -> Any:
    """Opens a bundle's text tokenizer alone.

    Raises:
        BundleError: If it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - transformers raises many types for a damaged file
        raise BundleError(
            f"{folder}: the tokenizer cannot be read ({type(error).__name__}); copy the bundle again"
        ) from None


def bundle_fingerprint(folder: Path) -> str:
    """Returns the SHA-256 over the names and contents of the files that decide what a bundle generates."""
    digest = hashlib.sha256()
    weights = [path.relative_to(folder).as_posix() for path in folder.glob("model*.safetensors")]
    for name in sorted({*_REQUIRED, *weights}):
        digest.update(f"{name} {sha256_file(folder / name)}\n".encode())
    return digest.hexdigest()


def _check_parts(
    folder: Path, info: BundleInfo, model: Any, loading: Mapping[str, Any], image_tokenizer: ImageTokenizer
) -> None:
    if loading["missing_keys"] or loading["unexpected_keys"] or loading["mismatched_keys"]:
        raise BundleError(f"{folder}: model.safetensors does not fit config.json; copy the bundle again")
    vocabulary, spec = info.layout.vocabulary, info.canonical_view
    found = {
        "vocab_size": (model.get_input_embeddings().weight.shape[0], vocabulary.vocab_size),
        "codebook_size": (image_tokenizer.codebook_size, vocabulary.codebook_size),
        "grid": (tuple(image_tokenizer.grid), tuple(info.layout.grid)),
        "size_px": (image_tokenizer.size_px, spec.size_px),
        "channels": (image_tokenizer.channels, spec.channels),
    }
    for name, (part, described) in found.items():
        if part != described:
            raise BundleError(
                f"{folder}: {name} is {part} in a part and {described} in {DESCRIPTION_FILE}; parts of two bundles are mixed"
            )
