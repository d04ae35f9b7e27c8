"""Arms of a study: every image passes the same steps, nothing but pixels is kept, and what does not fit is told."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from arra_med.cli import main
from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_arms import PreparedArm, arm_of_files, arm_of_folder
from arra_med.evaluate.reader_making import StudyPlan, make_study
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import study_path
from arra_med.imaging.burned_in import count_letters_in_lines, cover_letters_in_lines
from arra_med.imaging.view import CanonicalView, canonical_view, to_uint8
from tests.corpus.tiny_studies import write_study_set
from tests.evaluate.tiny_reader_study import tiny_arm

SECRET = "Zzyzx"


def write_images(folder: Path, num: int = 8, side: int = 32, seed: int = 0, **text: str) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("PatientName", SECRET)
    for number in range(num):
        pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{SECRET}{number}.png", pnginfo=chunks)
        (folder / f"{SECRET}{number}.txt").write_text("PA chest radiograph. Pleural effusion.")
    return folder


def written(size_px: int = 512) -> np.ndarray:
    ramp = np.tile(np.linspace(0.2, 0.6, size_px, dtype=np.float32), (size_px, 1))
    picture = Image.fromarray(to_uint8(ramp))
    ImageDraw.Draw(picture).text((60, 40), "PATIENT ZZYZX 1950", fill=255, font=ImageFont.load_default(24))
    return np.asarray(picture, dtype=np.float32) / 255


def test_lines_of_letters_are_covered_with_what_surrounds_them_and_nothing_else_changes() -> None:
    pixels = written()
    assert count_letters_in_lines(pixels) > 10
    covered, letters = cover_letters_in_lines(pixels)
    assert letters == count_letters_in_lines(pixels)
    assert count_letters_in_lines(covered) == 0
    ramp = np.tile(np.linspace(0.2, 0.6, 512, dtype=np.float32), (512, 1))
    assert np.abs(covered - ramp).max() < 0.06  # no edge, no letter
    assert np.array_equal(covered[120:], pixels[120:])
    colour, letters = cover_letters_in_lines(np.repeat(pixels[..., None], 3, axis=2))
    assert letters > 10
    np.testing.assert_allclose(colour[..., 1], covered, atol=1e-6)
    clean, letters = cover_letters_in_lines(ramp)
    assert clean is ramp
    assert letters == 0


def test_letters_are_covered_at_full_size_before_the_view_is_made(tmp_path: Path) -> None:
    Image.fromarray(to_uint8(written())).save(tmp_path / "a.png")
    found = arm_of_files("real", [tmp_path / "a.png"], "cxr", 64)
    assert found.num_covered == 1
    expected = to_uint8(canonical_view(cover_letters_in_lines(written())[0], CanonicalView(modality="cxr", size_px=64)))
    np.testing.assert_array_equal(found.arm.views[0], expected)
    assert np.ptp(found.arm.views[0][0][:, 30]) < 12  # a ramp has even columns


def test_nothing_of_the_files_but_pixels_gets_into_a_study(tmp_path: Path) -> None:
    arms = [
        arm_of_folder(name, write_images(tmp_path / name, seed=seed), "cxr", None)
        for seed, name in enumerate(("real", "arra"))
    ]
    study, _ = make_study(StudyPlan(design="real_or_synthetic", with_reports=True), arms, tmp_path / "s.sqlite")
    assert SECRET.encode() not in study.path.read_bytes()
    assert {i.origin for images in study.cases for i in images} == {f"file {n}" for n in range(1, 9)}
    task = study.task(study.join(consented=True))
    assert task is not None
    assert "Pleural effusion" in task.report
    assert SECRET not in task.report


def test_views_of_the_size_are_kept_and_larger_images_become_them(tmp_path: Path) -> None:
    small, large = write_images(tmp_path / "small", side=32), write_images(tmp_path / "large", side=64)
    kept = arm_of_folder("arra", small, "cxr", 32)
    np.testing.assert_array_equal(kept.arm.views[0][0], np.asarray(Image.open(sorted(small.glob("*.png"))[0])))
    shrunk = arm_of_folder("real", large, "cxr", 32)
    pixels = np.asarray(Image.open(sorted(large.glob("*.png"))[0]), dtype=np.float32) / 255
    expected = to_uint8(canonical_view(pixels, CanonicalView(modality="cxr", size_px=32)))
    np.testing.assert_array_equal(shrunk.arm.views[0], expected)


def test_images_that_do_not_fit_are_told_by_number_and_never_by_name(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "arra")
    files = sorted(folder.glob("*.png"))
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (48, 48), dtype=np.uint8)).save(files[2])
    with pytest.raises(
        EvaluationError, match=r"1 of 8 images cannot be used \(1 not square or of another size"
    ) as told:
        arm_of_folder("arra", folder, "cxr", None)
    assert "files number 3:" in str(told.value)
    assert SECRET not in str(told.value)
    with pytest.raises(EvaluationError, match=r"7 of 8 images cannot be used \(7 smaller than 48 px\)"):
        arm_of_folder("arra", folder, "cxr", 48)
    files[2].write_bytes(b"no image")
    with pytest.raises(EvaluationError, match=r"1 of 8 images cannot be used \(1 not_an_image\)"):
        arm_of_folder("arra", folder, "cxr", None)
    with pytest.raises(EvaluationError, match="the folder of the arm real is not there"):
        arm_of_folder("real", tmp_path / "nowhere", "cxr", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="the arm real holds no image: give DICOM, PNG or JPEG files"):
        arm_of_folder("real", tmp_path / "empty", "cxr", None)


def made(tmp_path: Path, design: str, arms: list[Any], **plan: Any) -> ReaderStudy:
    prepared = [PreparedArm(arm, 0) for arm in arms]
    return make_study(StudyPlan(design=design, **plan), prepared, tmp_path / "s.sqlite")[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("design", "arms", "plan", "message"),
    [
        ("real_or_synthetic", [tiny_arm("real")], {}, "needs both, and no synthetic arm was given"),
        ("real_or_synthetic", [tiny_arm("arra"), tiny_arm("baseline")], {}, "needs both, and no real arm was given"),
        ("real_or_synthetic", [tiny_arm("real"), tiny_arm("arra", 0)], {}, "the arm arra holds no image"),
        ("real_or_synthetic", [tiny_arm("real"), tiny_arm("arra", side=24)], {}, "found real 1x16x16, arra 1x24x24"),
        ("real_or_synthetic", [tiny_arm("real"), tiny_arm("arra", views=tiny_arm("real").views)], {},
         r"8 images occur more than once \(in arra, real\)"),
        ("real_or_synthetic", [tiny_arm("real", report="A."), tiny_arm("arra")], {"with_reports": True},
         r"some images have no report \(8 of arra\)"),
        ("real_or_synthetic", [tiny_arm("real"), tiny_arm("arra")], {"per_arm": 9}, "9 images of each arm are wanted"),
        ("real_or_synthetic", [tiny_arm("real", 2), tiny_arm("arra", 2)], {"repeats": 0.3}, "4 cases are too few to show 30%"),
        ("preference", [tiny_arm("baseline")], {}, "a preference is between two arms, and 1 were given"),
        ("preference", [tiny_arm("baseline"), tiny_arm("arra", 7)], {}, "7 images pair, of 8 and 7"),
        ("likert", [tiny_arm("arra")], {"items": (("<script>", "x"),)}, "names of items are small letters"),
        ("preference", [tiny_arm("baseline"), tiny_arm("arra")], {"title": ""}, "the study's title cannot be used"),
        ("likert", [tiny_arm("arra")], {"modality": "fundus"}, "the images are 1x16x16 and the study's view is 3x16x16"),
        ("likert", [], {}, "no image was given"),
    ],
)  # fmt: skip
def test_what_would_break_the_blinding_or_the_plan_is_refused(
    tmp_path: Path, design: str, arms: list[Any], plan: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        made(tmp_path, design, arms, **plan)
    assert list(tmp_path.iterdir()) == []


def test_equal_seeds_give_equal_studies_and_no_seed_gives_a_drawn_one(tmp_path: Path) -> None:
    arms = [tiny_arm("real"), tiny_arm("arra")]
    studies = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4), ("d", None), ("e", None)):
        (tmp_path / name).mkdir()
        studies.append(made(tmp_path / name, "real_or_synthetic", arms, seed=seed, per_arm=5))
    assert studies[0].cases == studies[1].cases != studies[2].cases
    assert studies[3].settings.seed != studies[4].settings.seed
    assert len({study.code for study in studies}) == 5


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["reading", "study", *words])
    return int(stop.value.code or 0)


def test_the_command_makes_a_study_where_the_app_finds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path / "kept"))
    write_study_set(tmp_path / "studies")
    drawn = write_images(tmp_path / "drawn", side=16)
    words = ["--design", "real_or_synthetic", "--arm", f"real={tmp_path / 'studies'}", "--arm", f"arra={drawn}"]
    assert run("create", *words, "--split", "train", "--seed", "2", "--ethics", "EC 12/26") == 0
    printed = capsys.readouterr()
    code, owner_code = printed.out.split()[1].rstrip(":"), printed.out.split()[-1]
    study = ReaderStudy(study_path(code))
    assert study.path.parent == tmp_path / "kept"
    assert study.is_owner(owner_code)
    assert (len(study.cases), study.settings.seed, study.settings.ethics) == (8, 2, "EC 12/26")
    assert "SENSITIVE" in printed.err
    assert run("summary", code.lower()) == 0
    assert "8 cases" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arm", "real"], "--arm is written NAME=FOLDER"),
        (["--prompts", "a.csv"], "give both --prompts and --bundle, or neither"),
        (["--item", "realism"], "an --item is written NAME=TEXT"),
        (["--consent", "nowhere.txt"], "nowhere.txt: cannot be read as a text in UTF-8"),
        ([], "no image was given"),
    ],
)
def test_a_command_that_lacks_something_says_what(
    words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert run("create", "--design", "likert", *words) == 2
    assert message in capsys.readouterr().err


def test_a_database_of_another_program_is_told_apart(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE study (code TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(EvaluationError, match="is no file of a reader study"):
        ReaderStudy(tmp_path / "other.sqlite")
