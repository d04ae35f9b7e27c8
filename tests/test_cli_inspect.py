import io
import logging
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.cli import main
from tests.corpus.tiny_studies import write_study_set
from tests.evaluate.tiny_audit import TinyAudit, picture, tiny_audit
from tests.imaging.conftest import SECRET, dicom_header
from tests.planted_identifiers import plant_everywhere

__all__ = ["tiny_audit"]

NUM_PX = 96


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def write_chest(path: Path, **elements: object) -> Path:
    """A DICOM file of a smooth pattern that fills the grey scale."""
    rows, columns = np.mgrid[:NUM_PX, :NUM_PX]
    pixels = (2000 + 1500 * np.sin(rows / 9) * np.cos(columns / 13)).astype(np.uint16)
    dicom_header(pixels, BitsStored=12, **elements).save_as(path, enforce_file_format=True)
    return path


def width_of(num_panels: int) -> int:
    return 2 * 24 + num_panels * 384 + (num_panels - 1) * 20


@pytest.mark.parametrize(("words", "num_panels"), [((), 4), (("--no-tokens",), 3)])
def test_every_stage_is_drawn_and_told_without_a_header_value(
    words: tuple[str, ...], num_panels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_chest(tmp_path / "chest.dcm", WindowCenter=2000, WindowWidth=1717), tmp_path / "inspect.png"
    assert run("inspect", file, "--size", "32", "--out", out, *words) == 0
    told = capsys.readouterr().out
    assert "Stored values: 96 x 96 px" in told
    assert "Canonical view: centre square; antialiased resize to 32 x 32 px, 8 bits" in told
    assert ("Tokens decoded back: from a view of 128 x 128 px; 16 x 16 codes" in told) is (num_panels == 4)
    assert "flags: none" in told
    assert "scores: " in told
    picture = Image.open(out)
    assert picture.width == width_of(num_panels)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    for secret in (SECRET, "1717", "chest.dcm"):
        assert secret not in told.replace(str(out), "")
        assert secret.encode() not in out.read_bytes()


def test_the_panels_are_the_stored_and_the_displayed_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))  # dark at the left
    header = dicom_header(pixels, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    header.save_as(tmp_path / "chest.dcm", enforce_file_format=True)
    assert run("inspect", tmp_path / "chest.dcm", "--size", "64", "--no-tokens", "--out", tmp_path / "i.png") == 0
    assert "inverted: air is dark" in capsys.readouterr().out
    board = np.asarray(Image.open(tmp_path / "i.png").convert("L")).astype(int)
    middle = board[200]  # a row through all pictures
    for number, rises in enumerate((True, False, False)):
        left = 24 + number * (384 + 20)
        picture = middle[left + 10 : left + 374]
        assert bool(picture[-1] > picture[0] + 200) is rises
        assert bool(picture[0] > picture[-1] + 200) is not rises


def test_a_photograph_has_no_display_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((200, 160), Image.Resampling.BICUBIC).save(tmp_path / "eye.png")
    out = tmp_path / "eye_stages.png"
    words = ("--modality", "fundus", "--size", "32", "--no-tokens", "--out", out)
    run("inspect", tmp_path / "eye.png", *words)
    told = capsys.readouterr().out
    assert "Stored values: 160 x 200 px" in told
    assert "Displayed: as stored\n" in told
    assert "Canonical view: cut to its field of view; centre square" in told
    assert out.exists()


@pytest.mark.parametrize(
    ("elements", "reason", "allowed"),
    [
        (
            {"PresentationIntentType": "FOR PROCESSING"},
            "found detector signal FOR PROCESSING",
            "--allow-for-processing",
        ),
        ({"BurnedInAnnotation": "YES"}, "the image declares burned-in annotation", "--allow-burned-in"),
    ],
)
def test_a_file_that_a_check_refuses_shows_its_stored_values(
    elements: dict[str, str], reason: str, allowed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_chest(tmp_path / "chest.dcm", **elements), tmp_path / "inspect.png"
    assert run("inspect", file, "--out", out) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"arra-med: {reason}")
    assert told.err.count("\n") == 1
    assert Image.open(out).width == width_of(2)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert run("inspect", file, "--no-tokens", "--out", out, allowed) == 0
    assert Image.open(out).width == width_of(3)


def test_an_image_of_poor_quality_shows_every_stage_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((64, 64 * 4), dtype=np.uint8) + np.arange(256, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    assert run("inspect", tmp_path / "strip.png", "--no-tokens", "--out", tmp_path / "i.png") == 2
    told = capsys.readouterr()
    assert told.err.startswith("arra-med: the image is far from square: its score is 4, at most 3 is accepted")
    assert "extreme_aspect 4" in told.out
    assert Image.open(tmp_path / "i.png").width == width_of(3)


@pytest.mark.parametrize("accepted", ["4", "null"])
def test_a_threshold_of_quality_is_a_setting_of_the_run(accepted: str, tmp_path: Path) -> None:
    pixels = np.zeros((64, 64 * 4), dtype=np.uint8) + np.arange(256, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    words = ("inspect", tmp_path / "strip.png", "--no-tokens", "--out", tmp_path / "i.png")
    assert run(*words, "--quality", "extreme_aspect=3.9") == 2
    assert run(*words, "--quality", f"extreme_aspect={accepted}") == 0


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("extreme_apsect=4", "--quality: extreme_apsect: unknown key; did you mean 'extreme_aspect'?"),
        ("blank=much", "--quality: blank: Input should be a valid number"),
        ("blank", "override 'blank' must have the form key=value"),
    ],
)
def test_a_wrong_threshold_is_one_sentence(
    setting: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", write_chest(tmp_path / "a.dcm"), "--quality", setting, "--out", tmp_path / "i.png") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "i.png").exists()


def test_a_file_that_is_no_image_is_one_sentence_and_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SMITH.dcm").write_text("a letter about a patient")
    assert run("inspect", tmp_path / "SMITH.dcm", "--out", tmp_path / "i.png") == 2
    told = capsys.readouterr()
    assert told.err == "arra-med: the content is neither DICOM, PNG nor JPEG; convert it to one of these\n"
    assert told.out == ""
    assert not (tmp_path / "i.png").exists()


def test_a_bundle_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_chest(tmp_path / "chest.dcm")
    assert run("inspect", file, "--bundle", tmp_path / "nothing", "--out", tmp_path / "i.png") == 2
    assert "bundle" in capsys.readouterr().err
    assert not (tmp_path / "i.png").exists()


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_the_header_that_a_copy_would_lose_is_named_without_a_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows, columns = np.mgrid[:NUM_PX, :NUM_PX]
    header = dicom_header((2000 + 1500 * np.sin(rows / 9) * np.cos(columns / 13)).astype(np.uint16), BitsStored=12)
    traces = plant_everywhere(header)
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    out = tmp_path / "i.png"
    with caplog.at_level(logging.DEBUG):
        assert run("inspect", tmp_path / "a.dcm", "--no-tokens", "--out", out) == 0
    told = capfd.readouterr()
    assert "A de-identified copy (arra-med deidentify) would remove" in told.out
    assert "\n  removed: " in told.out
    assert "Patient's Name" in next(line for line in told.out.splitlines() if line.startswith("  replaced: "))
    assert "flag overlay_ignored: the file has an overlay: it was not drawn" in told.out
    shown = told.out + told.err + caplog.text + repr(out.read_bytes())
    assert not [trace for trace in traces if trace in shown]


def test_a_refused_dicom_file_still_tells_its_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", write_chest(tmp_path / "a.dcm", Modality="CT"), "--out", tmp_path / "i.png") == 2
    told = capsys.readouterr()
    assert "  replaced: Patient's Name; Patient ID" in told.out
    assert SECRET not in told.out + told.err


def test_the_nearest_training_image_stands_beside_the_stages(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        "--bundle",
        tiny_audit.bundle,
        "--training",
        tiny_audit.studies,
        "--size",
        "64",
        "--out",
        tmp_path / "i.png",
    )
    Image.fromarray(picture(3)).save(tmp_path / "trained.png")
    assert run("inspect", tmp_path / "trained.png", *given) == 0
    told = capsys.readouterr().out
    assert "Nearest training image: a real patient's image; likeness 1.00; 1 is identical; Nearer to a training" in told
    assert "note: this image is so near to a training image that it may be that image" in told
    assert "it shows patients' images" in told
    assert "tiny/3" not in told
    board = np.asarray(Image.open(tmp_path / "i.png").convert("L")).astype(int)
    assert board.shape[1] == width_of(5)
    top, left = 150, 24 + 4 * 404  # inside the last panel
    nearest = board[top : top + 330, left + 20 : left + 364]
    wanted = np.asarray(Image.fromarray(picture(3)).resize((384, 384), Image.Resampling.NEAREST)).astype(int)
    correlations = [np.corrcoef(nearest.ravel(), wanted[at : at + 330, 20:364].ravel())[0, 1] for at in range(50)]
    assert max(correlations) > 0.99
    Image.fromarray(picture(7000)).save(tmp_path / "new.png")
    assert run("inspect", tmp_path / "new.png", "--no-tokens", *given) == 0
    assert "may be that image" not in capsys.readouterr().out
    assert Image.open(tmp_path / "i.png").width == width_of(4)


def test_a_refused_file_is_not_looked_up_and_a_wrong_study_set_is_one_sentence(
    tiny_audit: TinyAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1))).save(tmp_path / "strip.png")
    given = ("--bundle", tiny_audit.bundle, "--out", tmp_path / "i.png")
    assert run("inspect", tmp_path / "strip.png", *given, "--training", tmp_path / "nothing") == 2
    assert "Nearest" not in capsys.readouterr().out
    Image.fromarray(picture(3)).save(tmp_path / "a.png")
    assert run("inspect", tmp_path / "a.png", *given, "--training", tmp_path / "nothing") == 2
    assert "no finished study set" in capsys.readouterr().err


def test_the_report_is_written_into_the_set_or_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study_set(tmp_path / "studies")
    assert run("report", tmp_path / "studies") == 0
    assert run("report", tmp_path / "studies", "--seed", "3", "--out", tmp_path / "other.html") == 0
    assert "Ingestion report" in (tmp_path / "studies" / "report.html").read_text(encoding="utf-8")
    assert "Ingestion report" in (tmp_path / "other.html").read_text(encoding="utf-8")
    assert "it shows patients' images" in capsys.readouterr().out
    assert run("report", tmp_path / "nothing") == 2
    assert "no finished study set" in capsys.readouterr().err


def test_the_picture_is_a_png_that_any_reader_opens(tmp_path: Path) -> None:
    out = tmp_path / "inspect.png"
    assert run("inspect", write_chest(tmp_path / "chest.dcm"), "--no-tokens", "--out", out) == 0
    picture = Image.open(io.BytesIO(out.read_bytes()))
    assert (picture.format, picture.mode, set(picture.info)) == ("PNG", "RGB", {"Comment"})
