"""The commands about a few generated pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.cli import main
from tests.evaluate.tiny_audit import TinyAudit, picture, tiny_audit
from tests.evaluate.tiny_classifier import write_classifier

__all__ = ["tiny_audit"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def write_images(folder: Path, *seeds: int, size_px: int = 32) -> Path:
    folder.mkdir()
    for place, seed in enumerate(seeds):
        Image.fromarray(np.resize(picture(seed), (size_px, size_px))).save(folder / f"{place}.png")
    return folder


def test_a_copied_training_image_is_flagged_and_named_in_a_private_file(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "images", 3, 7000), tmp_path / "nearest.json"
    asked = ("--bundle", tiny_audit.bundle, "--studies", tiny_audit.studies, "--out", out)
    assert run("evaluate", "nearest", images, *asked) == 0
    told = json.loads(out.read_text())
    assert [row["flagged"] for row in told["images"]] == [True, False]
    assert told["images"][0]["nearest"][0]["image_id"] == "tiny/3"
    assert out.stat().st_mode & 0o777 == 0o600
    shown = capsys.readouterr().out
    assert "image 1: similarity 1.000; 0 of 100 held-out images come as near; FLAGGED" in shown
    assert "tiny/3" not in shown
    assert "1 of 2 flagged" in shown


def test_images_of_another_size_and_missing_studies_are_sentences(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "images", 3, size_px=48), tmp_path / "nearest.json"
    asked = ("--bundle", tiny_audit.bundle, "--out", out, "--studies")
    assert run("evaluate", "nearest", images, *asked, tiny_audit.studies) == 2
    assert "holds images (1, 48, 48)" in capsys.readouterr().err
    assert run("evaluate", "nearest", images, *asked, tmp_path) == 2
    assert "study_set.json" in capsys.readouterr().err
    assert not out.exists()


def test_scores_stand_beside_the_judge(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, out = write_classifier(tmp_path / "judge"), tmp_path / "scores.json"
    first, second = write_images(tmp_path / "a", 1, 2), write_images(tmp_path / "b", 3, 4)
    given = ("--images", f"{tiny_audit.baseline}={first}", "--images", f"{tiny_audit.bundle}={second}")
    asked = ("--judge", judge, "--finding", "effusion", "--out", out)
    assert run("evaluate", "scores", *given, *asked) == 0
    shown = capsys.readouterr()
    assert "over 2 pictures (held-out AUROC of tiny judge: 0.77)" in shown.out
    assert "a few pictures prove nothing" in shown.out
    assert "was not looked at" in shown.err
    told = json.loads(out.read_text())
    assert told["judge"] == "tiny judge"
    assert set(told["rows"][0]["models"]) == {str(tiny_audit.baseline), str(tiny_audit.bundle)}
    assert told["rows"][0]["judged"]["num_positive"] == 16


@pytest.mark.parametrize("given", ["folder", "{bundle}=x --images {bundle}=y"])
def test_pictures_without_their_bundle_are_a_sentence(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    judge = write_classifier(tmp_path / "judge")
    write_images(tmp_path / "x", 1)
    images = given.format(bundle=tiny_audit.bundle).replace("=x", f"={tmp_path / 'x'}").split()
    asked = ("--judge", judge, "--finding", "effusion", "--out", tmp_path / "scores.json")
    assert run("evaluate", "scores", "--images", *images, *asked) == 2
    assert "--images takes BUNDLE=FOLDER, each bundle once" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--training", "--judge", "--study"])
def test_a_folder_that_is_not_there_stops_the_app_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert run("app", "--no-open", option, tmp_path / "missing") == 2
    assert f"{option} {tmp_path / 'missing'}: is no folder" in capsys.readouterr().err
