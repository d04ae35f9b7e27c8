"""`arra-med check fit` and `generate --check` on a tiny random bundle, from the command line to the files."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from arra_med.cli import main
from arra_med.evaluate.check_reference import CHECK_FILE, read_check_reference, write_check_reference
from arra_med.generate.checking import retry_seed
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.start import RandomStart, build_start
from arra_med.records.study import StudyRecord
from arra_med.tokens.vq import VQConfig, VQTokenizer
from tests.corpus.tiny_studies import write_records
from tests.evaluate.tiny_judges import smooth_images
from tests.evaluate.tiny_study import write_encoder

NUM_TRAINING, NUM_HELD_OUT = 160, 100


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny", seed=3)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [
        StudyRecord(
            image_id=f"nih_cxr14/{number}",
            patient_id=f"hash{number}",
            modality="cxr",
            view="PA",
            labels=("effusion",),
            report="Pleural effusion.",
            report_kind="from_labels",
            source="nih_cxr14",
            attribution="made in a test",
            redistributable=True,
            patient_known=True,
            split="train" if number < NUM_TRAINING else "validation",
        )
        for number in range(NUM_TRAINING + NUM_HELD_OUT)
    ]
    return write_records(tmp_path_factory.mktemp("check") / "studies", records, list(smooth_images(len(records), 0)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; chest images of 16 px from 4 x 4 codes."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    torch.manual_seed(0)
    image_tokenizer = VQTokenizer(VQConfig(size_px=16, downsampling=4, width=32, max_width=32, levels=(4, 3, 3))).eval()
    start = build_start(
        RandomStart(preset="tiny", text_vocab_size=300),
        grid=(4, 4),
        codebook_size=36,
        max_text_tokens=32,
        sentences=["chest x-ray image, pleural effusion."],
    )
    info = BundleInfo(
        name="tiny-cxr",
        variant="arra",
        layout=start.layout,
        canonical_view=CanonicalView(modality="cxr", size_px=16),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={},
        label_counts={},
        training={},
    )
    parts = {"model": start.model, "text_tokenizer": start.text_tokenizer, "image_tokenizer": image_tokenizer}
    ModelBundle.save(folder, **parts, info=info, card="# tiny")
    return folder


@pytest.fixture(scope="module")
def reference(studies: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / CHECK_FILE
    assert run("check", "fit", str(studies), "--encoder", str(encoder), "--device", "cpu", "--out", str(out)) == 0
    return out


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def generate(bundle: Path, out: Path, *words: str) -> int:
    report = ("--report", "PA view. Effusion.", "--seed", "5")
    return run("generate", "--bundle", str(bundle), "--out", str(out), "--device", "cpu", *report, *words)


def loosened(reference: Path, out: Path, duplicate: float = 2.0) -> Path:
    """The same reference, which lets every image pass that is no duplicate."""
    told = read_check_reference(reference)
    limits = {"novelty": 1e6, "quality": {}, "duplicate": duplicate}
    write_check_reference(dataclasses.replace(told, info=told.info.model_copy(update=limits)), out)
    return out


def test_the_reference_names_its_encoder_and_no_path(reference: Path, encoder: Path) -> None:
    info = read_check_reference(reference).info
    assert (info.num_training, info.num_held_out, info.num_held_out_above) == (NUM_TRAINING, NUM_HELD_OUT, 1)
    assert str(encoder.parent) not in reference.read_bytes().decode("latin-1")


def test_what_a_random_model_draws_is_rejected_retried_and_kept_with_a_mark(
    bundle: Path, reference: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--check", "--check-reference", str(reference), "--check-encoder", str(encoder), "--check-tries", "2")
    assert generate(bundle, tmp_path, "-n", "2", *words) == 0
    captured = capsys.readouterr()
    assert "check: 2 images, 2 rejected (2 novelty" in captured.err
    assert "0 replaced, 2 kept with a mark" in captured.err
    assert "warning: no try of 2 passed the check; kept with a mark in the JSON file, seed 5, 6" in captured.err
    told = json.loads((tmp_path / "arra-med_cxr_seed0005.json").read_text())["check"]
    assert told["passed"] is False
    assert [one["seed"] for one in told["rejected"]] == [5, retry_seed(5, 1)]
    assert told["scores"]["novelty"] > told["gate"]["thresholds"]["novelty"]
    assert told["request"]["rejection_rate"] == 1.0
    assert len(captured.out.splitlines()) == 4


def test_the_bundles_own_reference_is_found_and_passing_images_are_those_of_an_unchecked_run(
    bundle: Path, reference: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = loosened(reference, bundle / CHECK_FILE)
    try:
        assert generate(bundle, tmp_path / "checked", "--check", "--check-encoder", str(encoder)) == 0
        assert "check: 1 image, none rejected" in capsys.readouterr().err
    finally:
        own.unlink()
    assert generate(bundle, tmp_path / "plain") == 0
    told, plain = (json.loads(next((tmp_path / name).glob("*.json")).read_text()) for name in ("checked", "plain"))
    assert told.pop("check")["passed"] is True
    assert told == plain


def test_a_table_is_checked_and_the_run_sums_up(
    bundle: Path, reference: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("id,report,seed,num_images\na,PA view. Effusion.,5,2\nb,Effusion.,7,1\n")
    loose = loosened(reference, tmp_path / CHECK_FILE)

    def draw(out: Path, reference: Path) -> str:
        check = ("--check", "--check-reference", str(reference), "--check-encoder", str(encoder), "--check-tries", "2")
        words = ("--prompts", str(table), "--bundle", str(bundle), "--out", str(out), "--device", "cpu")
        assert run("generate", *words, *check) == 0
        captured = capsys.readouterr()
        return captured.err + captured.out

    said = draw(tmp_path / "strict", reference)
    assert "check: 3 images, 3 rejected (3 novelty" in said
    assert "0 replaced, 3 kept with a mark" in said
    rows = [json.loads(line) for line in (tmp_path / "strict" / "images.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["check"]["passed"], row["check"]["tries"]) for row in rows] == [
        (seed, False, 2) for seed in (5, 6, 7)
    ]
    said = draw(tmp_path / "loose", loose)
    assert "check: 3 images, none rejected" in said
    assert "3 kept from an earlier run" in draw(tmp_path / "loose", loose)
    told = json.loads((tmp_path / "loose" / "images_check.json").read_text())["repeats_across_rows"]
    assert told == {"images": 0, "correlation_above": 2.0}
    table.write_text("id,report,seed,num_images\na,Effusion.,5,2\nb,Effusion.,6,1\n")
    exact = loosened(reference, tmp_path / "exact.safetensors", duplicate=0.999999)
    assert "warning: images that repeat a picture of an earlier row: 1 of 3" in draw(tmp_path / "twice", exact)
    record = json.loads((tmp_path / "loose" / "arra-med_cxr_a_seed0005.json").read_text())
    assert generate(bundle, tmp_path / "alone") == 0
    alone = json.loads(next((tmp_path / "alone").glob("*.json")).read_text())
    assert (record["check"]["passed"], record["pixels_sha256"]) == (True, alone["pixels_sha256"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--check",), "no reference for the check is there; fit one"),
        (("--check-tries", "2"), "an option of the check was given without --check"),
        (("--check", "--check-tries", "0"), "0 tries were asked for, 1 to 16 are possible"),
        (("--check", "--check-encoder", "nothing"), "encoder 'nothing' is neither a known name nor an existing folder"),
        (("--check", "--check-training", "nowhere"), "no finished study set"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(
    bundle: Path,
    reference: Path,
    encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    sentence: str,
) -> None:
    if len(words) > 1 and words[0] == "--check":
        words = (*words, "--check-reference", str(reference))
        words = words if "--check-encoder" in words else (*words, "--check-encoder", str(encoder))
    assert generate(bundle, tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
