"""The JSON file beside the shards of a data set: what made them. It is written last, so a folder without it is unfinished."""

import json
from pathlib import Path
from typing import TypeVar

import pydantic

from arra_med.config import StrictModel
from arra_med.errors import UserError
from arra_med.runs import write_json

Info = TypeVar("Info", bound=StrictModel)


def write_description(path: Path, info: StrictModel) -> None:
    """Writes a description, atomically."""
    write_json(path, info.model_dump(mode="json"))


def read_description(
    path: Path, model: type[Info], *, format_versions: tuple[int, ...], what: str, command: str, error: type[UserError]
) -> Info:
    """Reads a description.

    Args:
        path: The file.
        model: What it must say; has a field `format_version`.
        format_versions: The versions that this program reads.
        what: What is described, for messages.
        command: Makes the data set, for messages.
        error: The class of error to raise.

    Raises:
        UserError: Of class `error`, if the file is missing, damaged or of another format version.
    """
    again = f"run {' '.join(command.split()[:2])} again"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path.parent}: no finished {what} ({path.name} is missing); run {command}") from None
    except (OSError, ValueError) as cause:
        raise error(f"{path}: cannot be read ({type(cause).__name__}); {again}") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in format_versions:
        known = " and ".join(map(str, format_versions))
        raise error(f"{path}: has format version {version}, this program reads {known}; {again}")
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as cause:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in cause.errors())
        raise error(f"{path}: is not valid at {keys}; {again}") from None
