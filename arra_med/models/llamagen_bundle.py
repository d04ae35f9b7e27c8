"""A model bundle from LlamaGen's published files, so that `arra-med generate` opens them."""

from collections.abc import Sequence
from pathlib import Path

from arra_med.errors import BundleError
from arra_med.imaging.view import CanonicalView, Modality
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.llamagen_checkpoint import read_llamagen
from arra_med.records.cards import require_card
from arra_med.runs import sha256_file, versions
from arra_med.tokens.protocol import load_image_tokenizer

_CARD = """# {name}

**Synthetic images. Research use only, not for clinical decisions.**

LlamaGen (Sun et al., arXiv 2406.06525), {millions:.0f}M parameters, from the published file `{file}` (SHA-256 `{sha256}`).
It draws {size_px} x {size_px} px photographs from {prompt}. It has seen no medical image: it is a start for training.

LlamaGen's code and weights are under the MIT licence; the images they were trained on are not: {terms}
"""


def import_llamagen(
    weights: Path,
    image_tokenizer: Path,
    out: Path,
    *,
    name: str = "llamagen",
    modality: Modality = "photo",
    text_encoder: str | None = None,
    class_names: Sequence[str] | None = None,
    num_heads: int | None = None,
) -> BundleInfo:
    """Writes a bundle from a published language model and its image tokenizer.

    Args:
        weights: A file such as `c2i_B_256.pt` or `t2i_XL_stage1_256.pt`.
        image_tokenizer: Folder that `arra-med tokenizer import-llamagen` wrote, at the size the weights were trained on.
        out: The bundle's folder.
        name: Of the bundle.
        modality: `photo`; another only for weights that were trained on such images.
        text_encoder: FLAN-T5-XL (folder or hub id) of a caption-conditional file; its encoder goes into the bundle.
        class_names: Of a class-conditional file that is not ImageNet's.
        num_heads: Only for a size that was never published.

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
    parts = read_llamagen(
        weights,
        grid=tokenizer.grid,
        codebook_size=tokenizer.codebook_size,
        text_encoder=text_encoder,
        class_names=class_names,
        num_heads=num_heads,
    )
    is_imagenet = text_encoder is None and class_names is None
    card = require_card("imagenet")
    digest = sha256_file(weights)
    info = BundleInfo(
        name=name,
        variant="imported",
        layout=parts.layout,
        canonical_view=spec,
        licence_class="research-only",
        sources=("imagenet",) if is_imagenet else (),
        attributions={"imagenet": (card.attribution,)} if is_imagenet else {},
        label_counts={},
        training={"imported": "LlamaGen, arXiv 2406.06525", "weights_sha256": digest, "versions": versions()},
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
            file=weights.name,
            sha256=digest,
            size_px=spec.size_px,
            prompt="a caption" if text_encoder else f"one of {parts.layout.num_classes:,} classes",
            terms=card.licence if is_imagenet else "research use.",
        ),
    )
    return info
