"""The whole way by the commands a user types: DICOM files become a study set, a model, and a PNG with provenance."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from timm.models import save_for_hf
from transformers import AutoModelForCausalLM

from arra_med.cli import main
from arra_med.generate.export import read_provenance
from tests.imaging.conftest import SECRET, dicom_header

NUM_PATIENTS = 30
KEY = "5a" * 32  # decides who is held out; with a random one sometimes nobody is
TOKENIZER = [
    "tokenizer={size_px: 32, channels: 1, width: 32, max_width: 32, levels: [4, 4]}",
    "steps=4",
    "batch_size=4",
]
TRAINING = ["steps=4", "batch_size=4", "start={kind: random, preset: tiny, text_vocab_size: 300}", "samples=null"]


def arra_med(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def write_archive(folder: Path) -> None:
    """Chest-X-ray-like 12-bit files, every third MONOCHROME1, with reports beside them; one file is cut short."""
    folder.mkdir()
    for number in range(NUM_PATIENTS):
        rng = np.random.default_rng(number)
        pixels = (1000 + 800 * np.hypot(*np.mgrid[-1:1:40j, -1:1:48j]) + rng.normal(0, 30, (40, 48))).astype(np.uint16)
        header = dicom_header(
            pixels,
            BitsStored=12,
            PatientID=f"{SECRET}-{number}",
            ViewPosition="PA",
            PhotometricInterpretation="MONOCHROME1" if number % 3 == 0 else "MONOCHROME2",
        )
        header.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        text = "IMPRESSION: Pleural effusion." if number % 2 else "IMPRESSION: No acute disease."
        (folder / f"{number}.txt").write_text(text)
    broken = folder / "0.dcm"
    broken.write_bytes(broken.read_bytes()[:-500])


@pytest.mark.slow
def test_from_dicom_files_to_a_generated_png(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(key))
    write_archive(tmp_path / "archive")
    studies, corpus, tokenizer = tmp_path / "studies", tmp_path / "corpus", tmp_path / "tokenizer_run/tokenizer"
    assert arra_med("ingest", tmp_path / "archive", "--out", studies, "--size", 32, "--workers", 1) == 0
    refused = [json.loads(line) for line in (studies / "quarantine.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in refused] == ["truncated"]

    changes = settings(f"studies={studies}", *TOKENIZER, "losses={perceptual: 0.0}")
    command = [
        "tokenizer",
        "train",
        "--config",
        "mini_cxr_tokenizer.yaml",
        "--out",
        tokenizer.parent,
        "--device",
        "cpu",
    ]
    assert arra_med(*command, *changes) == 0
    assert arra_med("tokenize", studies, "--tokenizer", tokenizer, "--out", corpus, "--views", 2) == 0
    save_for_hf(timm.create_model("test_vit", num_classes=0), str(tmp_path / "teacher"), safe_serialization=True)
    features = tmp_path / "features.parquet"
    teacher = ["--teacher", f"timm:{tmp_path / 'teacher'}", "--kind", "cls", "--views", 2]
    assert arra_med("features", studies, *teacher, "--out", features) == 0

    shared = settings(f"corpus={corpus}", f"image_tokenizer={tokenizer}", *TRAINING)
    aligned = settings(f"alignment.teacher_features={features}", "alignment.feature=cls")
    for config, more in (("mini_cxr_finetune.yaml", []), ("mini_cxr_arra.yaml", aligned)):
        out = tmp_path / Path(config).stem
        assert arra_med("train", "--config", config, "--out", out, "--device", "cpu", *shared, *more) == 0
        AutoModelForCausalLM.from_pretrained(out / "bundle")

    bundle, pictures = tmp_path / "mini_cxr_arra/bundle", tmp_path / "pictures"
    request = ["--report", "PA view. Pleural effusion.", "-n", 2, "--seed", 5, "--bundle", bundle]
    assert arra_med("generate", *request, "--out", pictures) == 2  # one's own hospital's files are credentialed data
    request.append("--acknowledge-credentialed")
    assert arra_med("generate", *request, "--out", pictures) == 0
    files = sorted(pictures.glob("*.png"))
    assert len(files) == 2
    provenance = read_provenance(files[0])
    assert provenance is not None
    assert provenance["seed"] == 5
    assert arra_med("generate", *request, "--out", tmp_path / "again") == 0
    again = sorted((tmp_path / "again").glob("*.png"))
    for first, second in zip(files, again, strict=True):
        assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "archive" not in path.parts]
    assert not [
        path.name for path in written if path.name != "quarantine.jsonl" and SECRET.encode() in path.read_bytes()
    ]
