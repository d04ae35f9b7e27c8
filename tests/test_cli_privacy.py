"""The commands about identity, at the command line's edge."""

import re
from pathlib import Path

import numpy as np
import pytest

from arra_med.cli import main
from tests.imaging.conftest import dicom_header


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(tmp_path / "pseudonym.key"))
    return tmp_path / "pseudonym.key"


def test_the_key_is_shown_by_place_and_id_and_never_itself(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("key") == 0
    assert capsys.readouterr().out == f"{key_file}: no key yet; the first command that needs one makes it\n"
    key_file.write_text("ab" * 32)
    key_file.chmod(0o600)
    assert run("key") == 0
    told = capsys.readouterr().out
    assert re.fullmatch(rf"{re.escape(str(key_file))}: the key in use, key id [0-9a-f]{{16}}, mode 0600\n", told)
    assert "abab" not in told


def test_rotation_says_where_the_old_key_is_and_what_changes(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text("ab" * 32)
    key_file.chmod(0o600)
    assert run("key", "--rotate") == 0
    told = capsys.readouterr().out
    assert f"{key_file}.1: the old key" in told
    assert "Pseudonyms and date shifts are other ones from now on" in told
    assert len(set(re.findall(r"key id ([0-9a-f]{16})", told))) == 2
    assert Path(f"{key_file}.1").read_text() == "ab" * 32


def test_a_key_that_everybody_can_read_stops_the_command(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file.write_text("ab" * 32)
    key_file.chmod(0o644)
    assert run("key") == 2
    assert "can be read by others; run: chmod 600" in capsys.readouterr().err


def test_copies_and_refusals_are_counted(key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number, burned_in in enumerate(("NO", "YES")):
        header = dicom_header(np.arange(64, dtype=np.uint16).reshape(8, 8), BurnedInAnnotation=burned_in)
        header.save_as(archive / f"{number}.dcm", enforce_file_format=True)
    out = tmp_path / "out"
    assert run("deidentify", archive, "--out", out) == 0
    told = capsys.readouterr().out
    assert told == (
        f"1 copies in {out}, 0 of them kept from an earlier run\n"
        "1 files without a copy (see quarantine.jsonl): 1 burned_in_text\n"
    )
    assert run("deidentify", archive, "--out", out, "--allow-burned-in") == 0
    assert capsys.readouterr().out == f"2 copies in {out}, 1 of them kept from an earlier run\n"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert run("key", "--rotate") == 0
    assert run("deidentify", archive, "--out", out) == 2
    assert "was made with another pseudonym key" in capsys.readouterr().err
