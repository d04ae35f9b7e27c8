"""Strict settings: every mistake at once, with the file, the key and the nearest name."""

from pathlib import Path
from typing import Literal

import pytest
import yaml

from arra_med.config import (
    StrictModel,
    dump_config,
    load_config,
    resolve_device,
    resolve_dtype,
    shipped_config,
    shipped_folder,
)
from arra_med.errors import ConfigError


class Model(StrictModel):
    hidden_size: int = 64
    num_layers: int = 2


class Alignment(StrictModel):
    kind: Literal["hybnext", "rep"] = "hybnext"
    weight: float = 1.0


class Experiment(StrictModel):
    seed: int
    studies: Path = Path("studies")
    model: Model = Model()
    alignment: Alignment | None = None


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_values_defaults_and_nested_groups_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "seed: 3\nmodel: {num_layers: 4}\nalignment: {weight: 0.5}\n")
    config = load_config(path, Experiment)
    assert config == Experiment(seed=3, model=Model(num_layers=4), alignment=Alignment(weight=0.5))


def test_every_mistake_is_reported_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sed: 3\nmodel: {hiden_size: 4, num_layers: many}\nalignment: {kind: cls}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, Experiment)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert all(line.startswith(f"{path}: ") for line in lines)
    for expected in (
        "sed: unknown key; did you mean 'seed'?",
        "seed: Field required",
        "model.hiden_size: unknown key; did you mean 'hidden_size'?",
        "model.num_layers: Input should be a valid integer",
        "alignment.kind: Input should be 'hybnext' or 'rep'",
    ):
        assert any(expected in line for line in lines), expected


def test_own_keys_win_over_the_base_and_overrides_win_over_both(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "seed: 1\nmodel: {hidden_size: 8, num_layers: 8}\n")
    path = write(tmp_path / "own.yaml", "base: base.yaml\nmodel: {num_layers: 3}\n")
    assert load_config(path, Experiment).model == Model(hidden_size=8, num_layers=3)
    config = load_config(path, Experiment, ["seed=7", "model.hidden_size=16", "alignment.weight=2"])
    assert (config.seed, config.model.hidden_size) == (7, 16)
    assert config.alignment == Alignment(weight=2.0)


def test_an_override_may_switch_a_block_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "seed: 1\nalignment: {weight: 1}\n")
    assert load_config(path, Experiment, ["alignment=null"]).alignment is None


def test_a_block_of_another_kind_takes_the_place_of_the_bases(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "model: {kind: large, hidden_size: 8, num_layers: 8}\n")
    path = write(tmp_path / "own.yaml", "base: base.yaml\nmodel: {kind: small, num_layers: 3}\n")

    class Model(StrictModel):
        kind: str
        num_layers: int
        hidden_size: int = 1

    class Settings(StrictModel):
        model: Model

    assert load_config(path, Settings).model == Model(kind="small", num_layers=3)


def test_a_base_of_a_base_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "seed: 1\n")
    write(tmp_path / "b.yaml", "base: a.yaml\n")
    path = write(tmp_path / "c.yaml", "base: b.yaml\n")
    with pytest.raises(ConfigError, match=r"b\.yaml has a base of its own; only one level is allowed"):
        load_config(path, Experiment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1\n", "is not valid YAML at line 2"),
        ("- 1\n", "holds no mapping of settings"),
        ("", "holds no mapping of settings"),
    ],
)
def test_a_file_that_is_no_mapping_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "a.yaml", text), Experiment)


def test_a_binary_or_missing_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(tmp_path / "a.yaml", Experiment)
    with pytest.raises(ConfigError, match="cannot be read .No such file or directory.; give an existing YAML file"):
        load_config(tmp_path / "missing.yaml", Experiment)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "must have the form key=value"),
        ("=3", "must have the form key=value"),
        ("seed.x=3", "seed is a value, not a group of settings"),
        ("sede=3", "sede: unknown key; did you mean 'seed'"),
        ("seed=[1", r"override 'seed=\[1': the value is not valid YAML"),
    ],
)
def test_a_wrong_override_is_explained(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "a.yaml", "seed: 1\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path, Experiment, [override])


def test_the_resolved_config_comes_back_equal(tmp_path: Path) -> None:
    config = Experiment(seed=5, studies=Path("s"), alignment=Alignment(kind="rep"))
    dump_config(config, tmp_path / "run" / "config.yaml")
    assert load_config(tmp_path / "run" / "config.yaml", Experiment) == config


def test_a_config_does_not_change_after_construction() -> None:
    config = Experiment(seed=5)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 6  # type: ignore[misc]


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (shipped_folder("data_cards") / "nih_cxr14.yaml").is_file()
    name = sorted(path.name for path in shipped_folder("configs").glob("*.yaml"))[0]
    assert yaml.safe_load(shipped_config(name).read_text(encoding="utf-8"))
    assert shipped_config(f"configs/{name}").name == name
    assert shipped_config("mimic_512_arra.yaml").parent == shipped_folder("configs") / "paper"


def test_a_file_in_the_working_folder_wins_over_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path / "own.yaml", "seed: 1\n")
    assert shipped_config("own.yaml").resolve() == own


def test_an_unknown_config_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"no configuration nothing\.yaml: .* the \d+ shipped ones lie in .*configs$"):
        shipped_config("nothing.yaml")
    with pytest.raises(ConfigError, match=r"no configuration study-cxr\.yaml: .*; did you mean study_cxr\.yaml"):
        shipped_config("study-cxr.yaml")


def test_devices_resolve_or_are_explained() -> None:
    import torch

    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="device 'tpu' is unknown: use one of auto, cpu, cuda, mps"):
        resolve_device("tpu")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device cuda was asked for, but torch finds none here"):
            resolve_device("cuda")


def test_auto_draws_in_bfloat16_only_on_a_gpu_that_computes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert resolve_dtype("auto", "cpu") == resolve_dtype("auto", "mps") == "float32"
    assert resolve_dtype("bfloat16", "cpu") == "bfloat16"
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, told=supported: told)
        assert resolve_dtype("auto", "cuda") == expected
    with pytest.raises(ConfigError, match="dtype 'int4' is unknown: use one of auto, float32, bfloat16"):
        resolve_dtype("int4", "cpu")  # type: ignore[arg-type]
