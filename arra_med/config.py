"""Strict YAML -> pydantic models: every mistake reported at once, with the nearest valid name.

A configuration may name one `base:` file beside it; its own keys win over the base's, and a block of
another `kind` takes the place of the base's. `--set a.b=value` wins over both.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pydantic
import yaml

from arra_med.errors import ConfigError
from arra_med.runs import atomic_file

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16"]


class StrictModel(pydantic.BaseModel):
    """A settings or record type: unknown keys are errors, values do not change after construction."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


Schema = TypeVar("Schema", bound=StrictModel)


def load_config(path: Path, schema: type[Schema], overrides: Sequence[str] = ()) -> Schema:
    """Reads a YAML file into `schema`.

    Args:
        path: The YAML file.
        schema: The type to build.
        overrides: Settings such as `training.seed=3`, values in YAML; they win over the file.

    Raises:
        ConfigError: If a file is missing or no YAML mapping, `base:` is nested, or any key or value is wrong; the
            message lists every mistake with the file and key path.
    """
    values = _read_with_base(path)
    for override in overrides:
        _apply_override(values, override)
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_describe(error, path, schema)) from None


def overridden(settings: Schema, overrides: Sequence[str], option: str) -> Schema:
    """Returns settings with some values replaced.

    Args:
        settings: What holds unless overridden.
        overrides: Such as `inverted=0.6`, values in YAML.
        option: Of the command line, for messages.

    Raises:
        ConfigError: If a key or value is wrong; the message lists every mistake.
    """
    values = settings.model_dump()
    for override in overrides:
        _apply_override(values, override)
    try:
        return type(settings).model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_describe(error, option, type(settings))) from None


def dump_config(model: StrictModel, path: Path) -> None:
    """Writes the resolved settings as YAML, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def shipped_config(name: str | Path) -> Path:
    """Finds a configuration: the path as given, else the file of that name that travels with the package.

    Raises:
        ConfigError: If neither exists; the message names the shipped ones that are spelt alike, or where all of them lie.
    """
    given = Path(name)
    if given.is_file():
        return given
    folder = shipped_folder("configs")
    shipped = {path.name: path for path in sorted(folder.rglob("*.yaml"))}
    if given.name in shipped:
        return shipped[given.name]
    alike = difflib.get_close_matches(given.name, shipped, n=3)
    remedy = f"did you mean {' or '.join(alike)}?" if alike else f"the {len(shipped)} shipped ones lie in {folder}"
    raise ConfigError(
        f"no configuration {name}: give a YAML file, or the name of one that travels with the package; {remedy}"
    )


def shipped_folder(name: Literal["configs", "data_cards", "docs"]) -> Path:
    """Returns the folder of files that travel with the package: inside the wheel, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name


def intended_use() -> str:
    """Returns what ARRA-Med is for and not for, Markdown, its links reduced to their words."""
    text = (shipped_folder("docs") / "INTENDED_USE.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def user_config_folder() -> Path:
    """Returns the folder of the user's own settings: arra-med in $XDG_CONFIG_HOME, else in ~/.config.

    Source: XDG Base Directory Specification: a relative $XDG_CONFIG_HOME is not valid and is passed over.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".config") / "arra-med"


def resolve_device(device: Device) -> str:
    """Returns the torch device for a setting; `auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: If the named device is not there.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if device not in get_args(Device):
        raise ConfigError(f"device {device!r} is unknown: use one of {', '.join(get_args(Device))}")
    if not available[device]:
        raise ConfigError(f"device {device} was asked for, but torch finds none here: use device auto or cpu")
    return device


def resolve_dtype(dtype: Dtype, device: str) -> str:
    """Returns the number format to draw with; `auto` is bfloat16 on a GPU of CUDA that computes with it, else float32.

    Raises:
        ConfigError: If the format is none.
    """
    import torch

    if dtype == "auto":
        return "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if dtype not in get_args(Dtype):
        raise ConfigError(f"dtype {dtype!r} is unknown: use one of {', '.join(get_args(Dtype))}")
    return dtype


def _read_with_base(path: Path) -> dict[str, Any]:
    values = _read_mapping(path)
    base = values.pop("base", None)
    if base is None:
        return values
    base_path = path.parent / str(base)
    base_values = _read_mapping(base_path)
    if "base" in base_values:
        raise ConfigError(f"{path}: its base {base_path.name} has a base of its own; only one level is allowed")
    return _merge(base_values, values)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give an existing YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" at line {line + 1}" if line is not None else ""
        raise ConfigError(f"{path}: is not valid YAML{where}; mend it and try again") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no mapping of settings; see configs/ for examples")
    return values


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        theirs = merged.get(key)
        if (
            isinstance(value, dict)
            and isinstance(theirs, dict)
            and value.get("kind", theirs.get("kind")) == theirs.get("kind")
        ):
            merged[key] = _merge(theirs, value)
        else:  # also a block of another kind, whose settings have other names
            merged[key] = value
    return merged


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must have the form key=value, such as training.seed=3")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a group of settings")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"override {override!r}: the value is not valid YAML; quote it, or mend its brackets"
        ) from None


def _describe(error: pydantic.ValidationError, path: Path | str, schema: type[pydantic.BaseModel]) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        line = f"{path}: {where}: {problem['msg']}"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), sorted(_all_names(schema)), n=1)
            line = f"{path}: {where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
        elif problem["type"] != "missing":
            line += f" (found {problem['input']!r})"
        lines.append(line)
    return "\n".join(lines)


def _all_names(schema: Any) -> set[str]:
    names: set[str] = set()
    if isinstance(schema, type) and issubclass(schema, pydantic.BaseModel):
        for name, field in schema.model_fields.items():
            names |= {name} | _all_names(field.annotation)
    else:
        for argument in get_args(schema):
            names |= _all_names(argument)
    return names
