"""Finding an encoder's files: in a local folder, in the Hugging Face cache, or on the hub, in that order.

What is cached is used as it is, without asking the hub. Where the hub cannot be reached, one short look is enough:
the hub client's own retries would take half a minute for each file.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HTTPError,  # of whichever HTTP library this version of the hub client stands on
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from arra_med.errors import EncoderError

logger = logging.getLogger(__name__)

_REACH_TIMEOUT_S = 5.0
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def model_file(model: str, names: Sequence[str]) -> Path:
    """Returns the first of some files that a model has.

    Args:
        model: A local folder, or a hub id.
        names: File names, best first.

    Raises:
        EncoderError: If the folder or the hub has none of them, or the id is not cached and the hub is out of reach.
    """
    found = cached_file(model, names)
    if found is not None:
        return found
    require_hub(model)
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(model, name))
        except LocalEntryNotFoundError:
            raise unreachable(model) from None
        except EntryNotFoundError:
            logger.debug("hub model %s has no %s", model, name)
        except (OSError, HTTPError) as error:
            refuse(model, error)
    raise EncoderError(f"hub model {model} has none of {', '.join(names)}: choose a model in that library's layout")


def cached_file(model: str, names: Sequence[str]) -> Path | None:
    """Returns the first of some files that lies on this machine; None for a hub id which has none of them cached.

    Raises:
        EncoderError: If `model` is a folder without these files, or looks like a folder that does not exist.
    """
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise EncoderError(f"folder {model} has none of {', '.join(names)}: copy the published files there")
    if not _HUB_ID.fullmatch(model):
        raise EncoderError(f"{model} is neither an existing folder nor a hub id such as owner/name: check the path")
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(model, name)
        if isinstance(cached, str):
            return Path(cached)
    return None


def require_hub(model: str) -> None:
    """Checks, in seconds, that the hub answers.

    Raises:
        EncoderError: If it does not, or offline mode (`HF_HUB_OFFLINE`) is on.
    """
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_REACH_TIMEOUT_S)
    except (OSError, HTTPError):
        raise unreachable(model) from None


def unreachable(model: str) -> EncoderError:
    """Returns the error for a model that is not cached while the hub cannot be reached."""
    return EncoderError(
        f"encoder {model} is not in the local Hugging Face cache and {huggingface_hub.constants.ENDPOINT} cannot be "
        "reached: connect once, or download the model's files elsewhere and give their folder instead of the id"
    )


def refuse(model: str, error: Exception) -> NoReturn:
    """Raises the sentence for what the hub answered.

    Raises:
        EncoderError: Always.
    """
    if isinstance(error, GatedRepoError):
        remedy = "asks for its terms to be accepted: accept them on its page and log in with `hf auth login`"
    elif isinstance(error, RepositoryNotFoundError):
        remedy = "does not exist on the hub, or is private: check the id, or log in with `hf auth login`"
    else:
        remedy = f"could not be downloaded ({type(error).__name__}): try again, or give a local folder instead"
    raise EncoderError(f"encoder {model} {remedy}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        EncoderError: If the file is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EncoderError(f"{path.name} of the encoder cannot be read as JSON: fetch it again") from None
    if not isinstance(value, dict):
        raise EncoderError(f"{path.name} of the encoder holds no JSON object: fetch it again")
    return value


def display_name(model: str) -> str:
    """Returns what tables call a model: a hub id as it is, a folder by its last part, never a whole path."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model
