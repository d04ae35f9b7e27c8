import html
import logging
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.data_tab import words as own_words
from arra_med_apps.data_tab.handlers import MAX_FILES, Handlers
from arra_med_apps.settings import NO_EXTRAS, AppSettings
from arra_med_apps.training_images import TrainingImages
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from arra_med.evaluate.training_search import MAY_HAVE_TRAINED
from arra_med.records.study import Modality
from tests.apps.compare_tab.test_handlers import studies
from tests.evaluate.tiny_audit import picture
from tests.planted_identifiers import plant_everywhere

__all__ = ["studies"]

NAME = "Zzyzx"


def gradient(side: int = 64) -> np.ndarray:
    return np.linspace(10, 240, side * side).reshape(side, side).astype(np.uint8)


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


def made_dicom(**elements: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = ComputedRadiographyImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.PatientName, made.Modality, made.BodyPartExamined = f"{NAME}^Q", "CR", "CHEST"
    made.Rows = made.Columns = 64
    made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 16, 12, 11
    made.PixelRepresentation, made.PhotometricInterpretation = 0, "MONOCHROME2"
    made.WindowCenter, made.WindowWidth = 2000, 3000
    made.PixelData = (gradient().astype(np.uint16) * 16).tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def write_dicom(path: Path, **elements: object) -> Path:
    pydicom.dcmwrite(path, made_dicom(**elements), enforce_file_format=True)
    return path


def handlers_of(shelf: Shelf, settings: AppSettings = NO_EXTRAS) -> Handlers:
    return Handlers(shelf, TrainingImages(settings, shelf))


def looked_at(
    shelf: Shelf, paths: list[Path], keep: bool = False, settings: AppSettings = NO_EXTRAS, modality: Modality = "cxr"
) -> tuple[str, list[bytes]]:
    """What stands on the page at the end, and the kept views."""
    progress, shown, kept = "", "", []
    for told, stages, views, _ in handlers_of(shelf, settings).look([str(path) for path in paths], modality, keep):
        progress = told if isinstance(told, str) else progress
        shown = stages if isinstance(stages, str) else shown
        value = getattr(views, "value", None)
        kept = [Path(file["path"] if isinstance(file, dict) else file).read_bytes() for file in value or []]
    return progress + shown, kept


def test_every_stage_is_shown_and_the_files_are_gone(shelf: Shelf, tmp_path: Path):
    (tmp_path / f"{NAME}.png").write_bytes(b"")
    Image.fromarray(gradient()).save(tmp_path / f"{NAME}.png")
    files = [write_dicom(tmp_path / f"{NAME}.dcm"), tmp_path / f"{NAME}.png"]
    shown, kept = looked_at(shelf, files)
    for heading in ("Stored values", "Displayed", "Canonical view", "Tokens decoded back"):
        assert shown.count(f"<strong>{heading}</strong>") == 2
    assert "File 1" in shown
    assert "File 2" in shown
    assert NAME not in shown
    assert kept == []
    assert not any(file.exists() for file in files)


def test_views_are_kept_only_when_asked_for_and_say_what_they_are(shelf: Shelf, tmp_path: Path):
    _, (kept,) = looked_at(shelf, [write_dicom(tmp_path / "a.dcm")], keep=True)
    (tmp_path / "view.png").write_bytes(kept)
    with Image.open(tmp_path / "view.png") as view:
        assert view.size == (32, 32)
        assert "sensitive" in view.info["Comment"]


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("letter.dcm", b"a letter about " + NAME.encode()),
        ("cut.png", lambda path: (Image.fromarray(noise()).save(path), path.write_bytes(path.read_bytes()[:900]))),
        ("cut.dcm", lambda path: (write_dicom(path), path.write_bytes(path.read_bytes()[:700]))),
        ("bomb.png", _bomb),
        ("archive.zip", b"PK\x03\x04" + b"\0" * 100),
        ("report.pdf", b"%PDF-1.7"),
    ],
)
def test_a_file_that_is_no_image_is_one_sentence_and_the_others_are_shown(
    shelf: Shelf, tmp_path: Path, name: str, content, caplog: pytest.LogCaptureFixture
):
    if callable(content):
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with caplog.at_level(logging.DEBUG):
        shown, _ = looked_at(shelf, [tmp_path / name, write_dicom(tmp_path / "good.dcm")])
    first, second = shown.split("<h3>File 2")
    assert own_words.REFUSED in first
    assert "Tokens decoded back" in second
    assert NAME not in shown + caplog.text


def test_no_file_and_too_many_files_are_told(shelf: Shelf, tmp_path: Path):
    assert own_words.NOTHING in looked_at(shelf, [])[0]
    many = [tmp_path / f"{number}.png" for number in range(MAX_FILES + 2)]
    for path in many:
        path.write_bytes(b"x")
    shown, _ = looked_at(shelf, many)
    assert f"Only the first {MAX_FILES} of {MAX_FILES + 2}" in shown
    assert not any(path.exists() for path in many)


def test_a_verdict_looks_like_what_it_is(shelf: Shelf, tmp_path: Path):
    (tmp_path / "letter.dcm").write_text("a letter")
    Image.fromarray(noise()).save(tmp_path / "a.png")
    noted = write_dicom(tmp_path / "b.dcm", PixelData=(noise().astype(np.uint16) * 16).tobytes(), WindowCenter=[2000, 1], WindowWidth=[3000, 2])  # fmt: skip
    shown, _ = looked_at(shelf, [tmp_path / "a.png", noted, tmp_path / "letter.dcm"])
    _, plain, noted, refused = shown.split("<section")
    assert f'<div class="am-fine" role="status">{own_words.ACCEPTED}</div>' in plain
    assert "am-note" not in plain + noted
    assert f'<div class="am-fine" role="status">{own_words.ACCEPTED_WITH_ONE}</div>' in noted
    assert '<ul class="am-notices"><li>Several windows in the file: the first was used.</li></ul>' in noted
    assert f'<div class="am-problem" role="alert">{own_words.REFUSED}' in refused
    assert "am-fine" not in refused


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_attributes_of_a_header_are_named_and_no_value_is_shown(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    made = made_dicom()
    traces = plant_everywhere(made)
    pydicom.dcmwrite(tmp_path / "a.dcm", made, enforce_file_format=True)
    with caplog.at_level(logging.DEBUG):
        shown, _ = looked_at(shelf, [tmp_path / "a.dcm"])
    assert "A de-identified copy (arra-med deidentify) would remove" in shown
    assert f"<summary>{own_words.HEADER_DETAILS}</summary>" in shown
    assert '<th scope="row">Replaced</th>' in shown
    assert "<li>Patient&#x27;s Name</li>" in shown
    assert "<li>private attributes of the manufacturer</li>" in shown
    told = capfd.readouterr()
    everything = html.unescape(shown) + caplog.text + told.out + told.err
    assert not [trace for trace in traces if trace in everything]


def test_a_photograph_has_no_header_to_lose(shelf: Shelf, tmp_path: Path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    shown, _ = looked_at(shelf, [tmp_path / "a.png"])
    assert "de-identified copy" not in shown
    assert html.escape(own_words.NO_TRAINING) in shown


def test_the_nearest_training_image_stands_beside_the_stages(shelf: Shelf, tmp_path: Path, studies: Path):
    Image.fromarray(picture(2)).save(tmp_path / "trained.png")
    Image.fromarray(gradient()).save(tmp_path / "new.png")
    (tmp_path / "letter.dcm").write_text("a letter")
    files = [tmp_path / name for name in ("trained.png", "new.png", "letter.dcm")]
    shown, _ = looked_at(shelf, files, settings=AppSettings(training=studies))
    head, trained, new, refused = shown.split("<section")
    assert words.PATIENTS_NOTICE in head
    assert "<strong>Nearest training image</strong>" in trained
    assert "likeness 1.00; 1 is identical" in trained
    assert MAY_HAVE_TRAINED[1:] in trained
    assert "<strong>Nearest training image</strong>" in new
    assert MAY_HAVE_TRAINED[1:] not in new
    assert "Nearest training image" not in refused
    assert "24 held-out real images of nih_cxr14" in refused  # at the end, for all of them
    assert own_words.NO_TRAINING[:40] not in shown
    assert "tiny/2" not in shown
    assert "patient-2" not in shown


def test_a_study_set_of_another_kind_is_told_once_and_the_stages_stay(shelf: Shelf, tmp_path: Path, studies: Path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    shown, _ = looked_at(shelf, files, settings=AppSettings(training=studies), modality="fundus")
    assert shown.count("No nearest training image can be shown: the study set holds cxr images") == 1
    assert shown.count("<strong>Tokens decoded back</strong>") == 2
    assert words.PATIENTS_NOTICE not in shown


def test_progress_is_shown_and_stop_ends_the_search_and_deletes_the_files(
    shelf: Shelf, tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
):
    handlers, ended = handlers_of(shelf, AppSettings(training=studies)), threading.Event()

    def slow(_: str, report: Callable[[float], None]) -> None:
        try:
            while not ended.wait(0.01):
                report(0.5)
        finally:
            ended.set()

    monkeypatch.setattr(handlers.training, "search", slow)
    files = [write_dicom(tmp_path / "a.dcm"), write_dicom(tmp_path / "b.dcm")]
    run = handlers.look([str(file) for file in files], "cxr", False)
    progress = []
    while not any('aria-valuenow="50"' in told and "Reading the training images" in told for told in progress):
        progress.append(next(run)[0])
    assert own_words.READING.format(number=1, count=2) in progress[0]
    run.close()
    assert ended.is_set()
    assert not any(file.exists() for file in files)
    assert own_words.STOPPED in handlers.stop()[0]


def test_an_unexpected_error_of_the_search_logs_no_text(
    shelf: Shelf, tmp_path: Path, studies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    handlers = handlers_of(shelf, AppSettings(training=studies))

    def broken(_: str, report: Callable[[float], None]) -> None:
        raise RuntimeError(NAME)

    monkeypatch.setattr(handlers.training, "search", broken)
    with caplog.at_level(logging.DEBUG):
        updates = list(handlers.look([str(write_dicom(tmp_path / "a.dcm"))], "cxr", False))
    shown = [stages for _, stages, *_ in updates if isinstance(stages, str)][-1]
    assert own_words.NEAREST_FAILED.format(why=own_words.UNEXPECTED) in shown
    assert "RuntimeError" in caplog.text
    assert NAME not in caplog.text + shown


def test_a_user_who_waits_for_another_search_can_stop(shelf: Shelf, studies: Path):
    training = TrainingImages(AppSettings(training=studies), shelf)
    name = shelf.of_modality("cxr")[0].name
    with training._preparing:
        waiting = training.prepared(name)
        assert "Reading the training images" in next(waiting)
        waiting.close()  # returns, though the other search goes on
    assert training.search(name, lambda _: None).source == "nih_cxr14"
