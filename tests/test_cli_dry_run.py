import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.cli import main
from arra_med.corpus.decoding import DecodingPool


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a film, and a letter that has a picture's name; files are read in this process."""
    make = DecodingPool.__init__
    monkeypatch.setattr(DecodingPool, "__init__", lambda self, settings, _, *given: make(self, settings, 0, *given))
    folder = tmp_path / "ward7"
    folder.mkdir()
    rows, columns = np.mgrid[:64, :64]
    film = 127 + 120 * np.sin(rows / 9) * np.cos(columns / 13)
    Image.fromarray(film.astype(np.uint8)).save(folder / "SMITH.png")
    (folder / "letter.png").write_text("Dear colleague")
    return folder


def test_a_dry_run_tells_what_would_happen_and_writes_no_set(
    ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, told, table = tmp_path / "out", tmp_path / "told.json", tmp_path / "told.csv"
    words = ("--size", "32", "--dry-run", "--out", out, "--json", told, "--table", table)
    assert run("ingest", ward, *words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "        1  would be written",
        "        1  would go to quarantine",
        "        1    not_an_image",
    ]
    assert not out.exists()
    files = json.loads(told.read_text())["files"]
    assert [file["reason"] for file in files] == ["", "not_an_image"]
    with table.open(newline="") as stream:
        assert [row["image_id"] for row in csv.DictReader(stream)] == [file["image_id"] for file in files]
    assert "SMITH" not in told.read_text() + table.read_text()
    assert run("ingest", ward, "--dry-run", "--sample", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "        1  not in the sample"


def test_ingestion_ends_with_the_report(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ingest", ward, "--size", "32", "--out", tmp_path / "out") == 0
    assert f"what the set holds: {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<dd>1</dd><dt>studies</dt>" in page
    assert "not_an_image" in page
    for secret in ("SMITH", "ward7", str(tmp_path)):
        assert secret not in page


@pytest.mark.parametrize("words", [(), ("--out", "o", "--sample", "3"), ("--json", "f", "--out", "o")])
def test_what_belongs_to_a_dry_run_needs_one(
    words: tuple[str, ...], ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ingest", ward, *words) == 2
    assert "give --out FOLDER to write a study set, or --dry-run" in capsys.readouterr().err
