"""Nothing half written, whatever happens in between."""

import hashlib
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arra_med
from arra_med.runs import atomic_file, atomic_folder, sha256_file, sha256_json, versions, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "made" / "on" / "the" / "way.txt"
    with atomic_file(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_file(target) as partial:
        partial.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_gets_the_permissions_asked_for(tmp_path: Path, mode: int) -> None:
    with atomic_file(tmp_path / "file", mode) as partial:
        partial.write_text("")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for word in ("first", "second"):
        with atomic_folder(target) as partial:
            (partial / word).write_text(word)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_keeps_the_old_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as partial:
        (partial / "old").write_text("")
    with pytest.raises(ValueError, match="bad"), atomic_folder(target) as partial:
        (partial / "half").write_text("")
        raise ValueError("bad")
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_hash_of_a_value_is_that_of_its_compact_sorted_form() -> None:
    assert sha256_json({"b": 1, "a": [2]}) == hashlib.sha256(b'{"a":[2],"b":1}').hexdigest()
    assert sha256_json({"a": [2], "b": 1}) == sha256_json({"b": 1, "a": [2]})
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})


@given(JSON)
def test_json_comes_back_as_written(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_versions_name_python_this_package_and_torch() -> None:
    found = versions()
    assert found["arra-med"] == arra_med.__version__
    assert {"python", "torch", "transformers"} <= found.keys()
