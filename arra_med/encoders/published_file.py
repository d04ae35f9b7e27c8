"""Encoders that are published as one weights file: where the file is, and the sentence when it is not there."""

from pathlib import Path

from arra_med.errors import EncoderError


def published_file(model: str, what: str, names: tuple[str, ...], where: str) -> Path:
    """Returns the weights file of an encoder.

    Args:
        model: The file, or the folder it lies in.
        what: The encoder, for messages.
        names: The published file names.
        where: Where they are to be had, for messages.

    Raises:
        EncoderError: If neither the file nor a folder with exactly one of the published names is there.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    found = [path / name for name in names if (path / name).is_file()]
    if len(found) != 1:
        state = f"holds {len(found)} of the published files" if path.is_dir() else "is not on this machine"
        raise EncoderError(
            f"{what}: {model} {state}: download {names[0]} ({where}) and give the file, or the folder it lies in"
        )
    return found[0]
