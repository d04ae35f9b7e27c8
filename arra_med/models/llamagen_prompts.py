"""What LlamaGen's language models read: a class by its name or number, or a caption through a frozen T5 encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from arra_med.errors import BundleError
from arra_med.published_weights import TRANSFORMERS_LOADING

_IMAGENET_CLASSES = 1000


class TextEncoderParts(NamedTuple):
    """A T5 encoder and its tokenizer.

    Attributes:
        model: A `T5EncoderModel`, float32, in eval mode.
        tokenizer: Its tokenizer, which ends every text with T5's end-of-text.
    """

    model: Any
    tokenizer: Any

    @property
    def width(self) -> int:
        """Channels of a feature."""
        return int(self.model.config.d_model)


def open_text_encoder(location: str) -> TextEncoderParts:
    """Opens the encoder half of a T5 model.

    Args:
        location: A folder, or a hub id that is in the cache or can be reached, such as `google/flan-t5-xl`.

    Raises:
        BundleError: If there is none, or its tokenizer does not end a text.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    try:
        with TRANSFORMERS_LOADING:
            model, loading = T5EncoderModel.from_pretrained(location, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError):
        raise BundleError(
            f"text encoder {location} is no local folder with a T5 model and not in the hub's cache, and the hub cannot "
            "be reached: give the folder of the downloaded google/flan-t5-xl"
        ) from None
    if loading["missing_keys"] or loading["mismatched_keys"]:
        raise BundleError(f"text encoder {location} lacks weights of a T5 encoder: download it again")
    if tokenizer("a")["input_ids"][-1:] != [tokenizer.eos_token_id]:
        raise BundleError(f"text encoder {location}: its tokenizer puts no end-of-text; give T5's own tokenizer")
    return TextEncoderParts(model.eval().requires_grad_(False), tokenizer)


def read_class_names(path: Path) -> list[str]:
    """Reads class names, one a line, in the order of the class numbers.

    Raises:
        BundleError: If the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{path}: cannot be read; give a UTF-8 text file with one class name a line") from None


def imagenet_class_names() -> list[str]:
    """ImageNet's 1,000 class names in the order of the class numbers, in lower case, each one once.

    The first word of a class's synset is its name. Of classes that share it the first keeps it, and a later one has its
    number behind it ("crane" is 134, the bird, and "crane 517" the machine).
    """
    from timm.data import ImageNetInfo

    names: list[str] = []
    info = ImageNetInfo()
    for number in range(_IMAGENET_CLASSES):
        name = info.index_to_description(number).split(",")[0].strip().lower()
        names.append(f"{name} {number}" if name in names else name)
    return names


def class_tokenizer(num_classes: int, names: Sequence[str] | None = None) -> Any:
    """A tokenizer that reads a whole text as one class; case, "a photo of a" and a final full stop do not matter.

    Args:
        num_classes: Number of classes.
        names: Their names; by default ImageNet's for 1,000 classes, else `class 0`, `class 1`, ...

    Returns:
        A `PreTrainedTokenizerFast`: token k is the name of class k, `num_classes + k` its number, and the last token
        every other text.

    Raises:
        BundleError: If the names are not as many as the classes, or one stands twice.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    if names is None:
        names = (
            imagenet_class_names() if num_classes == _IMAGENET_CLASSES else [f"class {k}" for k in range(num_classes)]
        )
    spellings = [*(name.strip().lower() for name in names), *(str(number) for number in range(num_classes))]
    if len(names) != num_classes or len(set(spellings)) != len(spellings):
        raise BundleError(
            f"{len(set(spellings[: len(names)]))} different class names were given for {num_classes} classes, none of "
            "which may be a number: give one name for each class, in the order of the class numbers"
        )
    unknown = "[UNK]"
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate([*spellings, unknown])}, unk_token=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Strip(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"^a photo of |\.$"), ""),
            normalizers.Replace(Regex(r"^(an?|the) "), ""),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
