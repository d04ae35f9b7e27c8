"""Models of Chameleon's family from the folders that were published: Chameleon, Anole, Lumina-mGPT.

A folder holds `config.json` (with `vocabulary_map`), `tokenizer.json` and safetensors, in one file or several. What it holds
of the image tokenizer (`model.vqmodel...`) is not read. Every other tensor is kept as it is, the image head's rows included.
"""

from typing import Any, NamedTuple

import torch

from arra_med.errors import BundleError
from arra_med.models.chameleon import ChameleonForCausalLM
from arra_med.published_weights import TRANSFORMERS_LOADING
from arra_med.tokens.chameleon_layout import ChameleonLayout, read_chameleon_layout
from arra_med.tokens.chameleon_vocabulary import MARKS, ImageLayout

_LISTED = 4  # names that a message lists


class ChameleonParts(NamedTuple):
    """A float32 model on the CPU, its text tokenizer and layout."""

    model: ChameleonForCausalLM
    text_tokenizer: Any
    layout: ChameleonLayout


def read_chameleon(
    location: str,
    *,
    grid: tuple[int, int],
    codebook_size: int,
    max_text_tokens: int,
    image_layout: ImageLayout = "plain",
    rep: bool = False,
) -> ChameleonParts:
    """Opens a published model.

    Args:
        location: A folder, or a hub id that is in the cache or can be reached.
        grid: Rows and columns of image tokens.
        codebook_size: Codes of the image tokenizer.
        max_text_tokens: Longest prompt.
        image_layout: `plain` (Chameleon, Anole) or `lumina` (Lumina-mGPT); the files do not tell.
        rep: Whether the sequence holds the `<REP>` token.

    Raises:
        BundleError: If a file is missing or of another architecture, or the parts do not fit each other.
    """
    from transformers import ChameleonConfig, PreTrainedTokenizerFast

    if model_type_of(location) != "chameleon":
        raise BundleError(
            f"{location}: is no folder with a Chameleon model ({model_type_of(location) or 'no config.json'}); give the "
            "downloaded folder of Chameleon, Anole or Lumina-mGPT in the layout of transformers"
        )
    try:
        config = ChameleonConfig.from_pretrained(location)
        text_tokenizer = PreTrainedTokenizerFast.from_pretrained(location)
    except Exception as error:  # noqa: BLE001 - transformers raises many types for a damaged file
        kind = type(error).__name__
        raise BundleError(
            f"{location}: config.json or tokenizer.json cannot be read ({kind}); download it again"
        ) from None
    layout = read_chameleon_layout(
        location,
        config.vocabulary_map,
        image_layout=image_layout,
        grid=grid,
        codebook_size=codebook_size,
        vocab_size=config.vocab_size,
        max_text_tokens=max_text_tokens,
        rep=rep,
    )
    if layout.max_tokens > config.max_position_embeddings:
        raise BundleError(
            f"{location}: a sequence has up to {layout.max_tokens} tokens, the model holds "
            f"{config.max_position_embeddings}: lower max_text_tokens or use a smaller image"
        )
    if other := [name for name in MARKS if text_tokenizer.convert_tokens_to_ids(name) != config.vocabulary_map[name]]:
        raise BundleError(f"{location}: tokenizer.json and vocabulary_map differ on {other[0]}; download it again")
    return ChameleonParts(_model(location, config).requires_grad_(True), text_tokenizer, layout)


def model_type_of(location: str) -> str | None:
    """Returns the architecture that a folder's or cached hub id's `config.json` names; none where there is no such file."""
    from transformers import PreTrainedConfig

    try:
        values, _ = PreTrainedConfig.get_config_dict(location)
    except (OSError, ValueError):
        return None
    found = values.get("model_type")
    return str(found) if found else None


def _model(location: str, config: Any) -> ChameleonForCausalLM:
    config.use_cache = False
    try:
        with TRANSFORMERS_LOADING:
            model, loading = ChameleonForCausalLM.from_pretrained(
                location,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # named below, with all the others
                output_loading_info=True,
            )
    except Exception as error:  # noqa: BLE001 - transformers and safetensors raise many types for a damaged file
        kind = type(error).__name__
        raise BundleError(
            f"{location}: its safetensors files cannot be read ({kind}); download the folder again"
        ) from None
    problems = [f"{name} is missing" for name in sorted(loading["missing_keys"])]
    problems += [f"{name} is not expected" for name in sorted(loading["unexpected_keys"])]
    problems += [
        f"{name} has shape {tuple(found)} instead of {tuple(wanted)}"
        for name, found, wanted in sorted(loading["mismatched_keys"])
    ]
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise BundleError(
            f"{location}: does not fit its config.json: {'; '.join(problems[:_LISTED])}{more}; download the folder again"
        )
    return model
