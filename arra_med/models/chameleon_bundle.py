"""A model bundle from a published model of Chameleon's family, so that `arra-med generate` opens it."""

from pathlib import Path

from arra_med.errors import BundleError
from arra_med.imaging.view import CanonicalView, Modality
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.chameleon_checkpoint import read_chameleon
from arra_med.runs import sha256_file, sha256_json, versions
from arra_med.tokens.chameleon_vocabulary import ImageLayout
from arra_med.tokens.protocol import load_image_tokenizer

_CARD = """# {name}

**Synthetic images. Research use only, not for clinical decisions.**

A published model of Chameleon's family (arXiv 2405.09818), {millions:.0f}M parameters, imported as it was (SHA-256 of its
files `{digest}`), image layout `{image_layout}`. It draws {size_px} x {size_px} px images from a text. It has seen no medical
image unless its authors say so: it is a start for training.

Chameleon's weights, and those derived from them, are under the Chameleon Research License: non-commercial research only.
"""


def import_chameleon(
    model: Path,
    image_tokenizer: Path,
    out: Path,
    *,
    image_layout: ImageLayout = "plain",
    max_text_tokens: int = 256,
    name: str = "chameleon",
    modality: Modality = "photo",
) -> BundleInfo:
    """Writes a bundle from a published folder and the image tokenizer.

    Args:
        model: Folder of Chameleon, Anole or Lumina-mGPT in the layout of `transformers`.
        image_tokenizer: Folder that `arra-med tokenizer import-chameleon` wrote.
        out: The bundle's folder.
        image_layout: `plain` (Chameleon, Anole) or `lumina` (Lumina-mGPT).
        max_text_tokens: Longest prompt.
        name: Of the bundle.
        modality: `photo`; another only for weights that were trained on such images.

    Returns:
        What `bundle.json` says.

    Raises:
        BundleError: If the files do not fit each other.
        TokenizerError: If the image tokenizer cannot be opened.
    """
    tokenizer = load_image_tokenizer(image_tokenizer)
    spec = CanonicalView(modality=modality, size_px=tokenizer.size_px)
    if tokenizer.channels != spec.channels:
        raise BundleError(
            f"{image_tokenizer}: makes images of {tokenizer.channels} channel(s), {modality} images have {spec.channels}: "
            f"import the image tokenizer with --channels {spec.channels}"
        )
    parts = read_chameleon(
        str(model),
        grid=tokenizer.grid,
        codebook_size=tokenizer.codebook_size,
        max_text_tokens=max_text_tokens,
        image_layout=image_layout,
    )
    digest = sha256_json({file.name: sha256_file(file) for file in sorted(model.glob("*.safetensors"))})
    info = BundleInfo(
        name=name,
        variant="imported",
        layout=parts.layout,
        canonical_view=spec,
        licence_class="research-only",
        sources=(),
        attributions={},
        label_counts={},
        training={"imported": "Chameleon, arXiv 2405.09818", "weights_sha256": digest, "versions": versions()},
    )
    ModelBundle.save(
        out,
        model=parts.model,
        text_tokenizer=parts.text_tokenizer,
        image_tokenizer=tokenizer,
        info=info,
        card=_CARD.format(
            name=name,
            millions=sum(value.numel() for value in parts.model.parameters()) / 1e6,
            digest=digest,
            image_layout=image_layout,
            size_px=spec.size_px,
        ),
    )
    return info
