"""edit, counterfactual and explain from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.generate.export import read_provenance
from tests.test_cli_generate import bundle, credentialed, run

__all__ = ["bundle"]

REPORT = "PA view. Large pleural effusion."


def explore(command: str, bundle: Path, out: Path, *words: str) -> int:
    return run(command, "--bundle", str(bundle), "--out", str(out), "--device", "cpu", "--report", REPORT, *words)


def test_edit_names_the_best_try_first(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--new-report", "PA view. Normal.", "--box", "0,8,16,9", "-n", "3", "--seed", "5", "--decode-all"]
    assert explore("edit", bundle, tmp_path / "out", *words) == 0
    told = capsys.readouterr()
    files = [Path(line) for line in told.out.splitlines()]
    records = [json.loads(file.read_text()) for file in files if file.suffix == ".json"]
    assert [record["edit"]["rank"] for record in records] == [1, 2, 3]
    assert {record["seed"] for record in records} == {5, 6, 7}
    assert records[0]["edit"]["codes_redrawn"] == [4, 5]
    assert "cannot see what was kept" in told.err


def test_edit_of_a_file_with_a_mask(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "image.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:16, 16:32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ["--image", str(tmp_path / "image.png"), "--mask", str(tmp_path / "mask.png"), "-n", "1"]
    assert explore("edit", bundle, tmp_path / "out", *words) == 0
    (picture,) = (tmp_path / "out").glob("*.png")
    told = read_provenance(picture)
    assert told is not None
    assert told["edit"]["codes_redrawn"] == [1]
    assert told["edit"]["of"]["kind"] == "file"


def test_counterfactual_writes_pairs_and_boards(bundle: Path, tmp_path: Path) -> None:
    assert explore("counterfactual", bundle, tmp_path, "--edited-report", "PA view. Normal.", "-n", "2") == 0
    assert sorted(file.name for file in tmp_path.glob("*pair*.png")) == [
        "arra-med_cxr_pair_seed0000.png",
        "arra-med_cxr_pair_seed0001.png",
    ]
    assert len(list(tmp_path.iterdir())) == 12


def test_explain_tells_each_phrase_by_number(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explore("explain", bundle, tmp_path, "-n", "4") == 0
    told = capsys.readouterr()
    for number, kind in ((1, "view"), (2, "size"), (3, "statement")):
        assert f"phrase {number} ({kind}): " in told.err
    assert "effusion" not in told.err + told.out
    record = json.loads((tmp_path / "explanation.json").read_text())
    assert len(record["what_the_model_ignored"]["phrases"]) == 3
    assert "effusion" in (tmp_path / "explanation.html").read_text()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("edit", ["--box", "0,8,16,9", "-n", "1"]),
        ("counterfactual", ["--edited-report", "PA view. Normal."]),
        ("explain", ["-n", "4"]),
    ],
)
def test_a_credentialed_bundle_writes_for_those_who_acknowledge(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    restricted = credentialed(bundle, tmp_path / "restricted")
    assert explore(command, restricted, tmp_path / "out", *words) == 2
    assert "say --acknowledge-credentialed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert explore(command, restricted, tmp_path / "agreed", *words, "--acknowledge-credentialed") == 0
    assert list((tmp_path / "agreed").glob("*.png"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give the region once"),
        (["--box", "0,0,8,8", "--mask", "m.png"], "give the region once"),
        (["--box", "a,b"], "--box is no region: give four whole numbers"),
        (["--box", "0,0,0,8"], "is empty or reaches beyond the picture of 32 x 32 pixels"),
        (["--mask", "no_such.png"], "the mask cannot be read"),
    ],
)
def test_a_region_that_is_none_is_one_sentence(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert explore("edit", bundle, tmp_path / "out", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
