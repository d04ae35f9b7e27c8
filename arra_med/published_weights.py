"""Reading weights that others published as a PyTorch checkpoint or safetensors file, names and shapes checked strictly."""

import argparse
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from arra_med.errors import ArraMedError

TRANSFORMERS_LOADING = threading.RLock()
"""Held while transformers builds a model or reads its weights: `from_pretrained` then takes `tie_weights` away from every
model class and sets torch's default dtype, for the whole process. Two threads in it at once leave it that way."""

_LISTED = 4  # names that a message lists


def read_published_weights(path: Path, keys: Sequence[str], error: type[ArraMedError]) -> dict[str, torch.Tensor]:
    """Reads the tensors of one model; no code of the file runs (`weights_only`).

    Args:
        path: A `.safetensors` file, or a file of `torch.save` whose top level is the tensors themselves or holds them.
        keys: Where the tensors may lie on the top level, the first that is there wins.
        error: What is raised.

    Raises:
        ArraMedError: Of the given type, if the file cannot be read so or holds no tensors there.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # a training's arguments: names and plain values
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise error(f"{path}: is missing; give the downloaded weights") from None
    except Exception as problem:  # noqa: BLE001 - torch and safetensors raise many types for a file that is none of theirs
        raise error(
            f"{path}: is no checkpoint that can be read without running its code ({type(problem).__name__}); download "
            "it again, or convert it to safetensors"
        ) from None
    if isinstance(loaded, Mapping):
        for found in (*(loaded.get(key) for key in keys), loaded):
            if isinstance(found, Mapping) and found and all(isinstance(v, torch.Tensor) for v in found.values()):
                return dict(found)
    raise error(f"{path}: holds no weights on its top level nor below {', '.join(keys)}; give the published file")


def require_names_and_shapes(
    path: Path,
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, Sequence[int]],
    error: type[ArraMedError],
    ignored: Collection[str] = (),
) -> None:
    """Checks that a file holds exactly the expected tensors.

    Args:
        path: Of the file, for the message.
        found: Its tensors.
        expected: Shape of each tensor by name.
        error: What is raised.
        ignored: Names that may be there and are not used.

    Raises:
        ArraMedError: Of the given type, naming what is missing, not expected or of another shape.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not expected" for name in found if name not in expected and name not in ignored]
    problems += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != tuple(shape)
    ]
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise error(
            f"{path}: is of another architecture: {'; '.join(problems[:_LISTED])}{more}; give the file of the model that "
            "was asked for"
        )
