"""`arra-med generate` and `bundle info` on a tiny random bundle, from the command line to the files."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from arra_med.cli import main
from arra_med.generate.session import GenerationUpdate, ReportToImage
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.start import RandomStart, build_start
from arra_med.tokens.vq import VQConfig, VQTokenizer

REPORT = "PA view. Pleural effusion."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; chest images of 32 px from 4 x 4 codes."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    torch.manual_seed(0)
    image_tokenizer = VQTokenizer(VQConfig(size_px=32, downsampling=8, width=32, max_width=32, levels=(4, 3, 3))).eval()
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
        canonical_view=CanonicalView(modality="cxr", size_px=32),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={},
        label_counts={},
        training={},
    )
    ModelBundle.save(
        folder,
        model=start.model,
        text_tokenizer=start.text_tokenizer,
        image_tokenizer=image_tokenizer,
        info=info,
        card="# tiny",
    )
    return folder


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def generate(bundle: Path, out: Path, *words: str) -> int:
    return run("generate", "--bundle", str(bundle), "--out", str(out), "--device", "cpu", *words)


def test_images_and_their_provenance_are_written_and_named_on_stdout(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--report", REPORT, "-n", "2", "--seed", "5", "--guidance", "2", "--top-k", "10"]
    assert generate(bundle, tmp_path / "out", *words) == 0
    named = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(named) == sorted((tmp_path / "out").iterdir())
    pictures = sorted(path for path in named if path.suffix == ".png")
    assert len(pictures) == 2
    for number, path in enumerate(pictures):
        with Image.open(path) as image:
            assert image.size == (32, 32)
        told = json.loads(path.with_suffix(".json").read_text())
        assert told["seed"] == 5 + number
        assert told["rules"]["guidance_scale"] == 2
        assert told["view"] == "PA"
        assert "effusion" not in json.dumps(told)


def test_the_same_seed_gives_the_same_pixels_alone_and_in_a_batch(bundle: Path, tmp_path: Path) -> None:
    assert generate(bundle, tmp_path / "batch", "--report", REPORT, "-n", "3") == 0
    assert generate(bundle, tmp_path / "alone", "--report", REPORT, "--seed", "2") == 0
    last = sorted((tmp_path / "batch").glob("*.png"))[-1]
    (alone,) = (tmp_path / "alone").glob("*.png")
    with Image.open(last) as first, Image.open(alone) as second:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def credentialed(bundle: Path, folder: Path) -> Path:
    """Writes a copy of a bundle that says its data were credentialed."""
    shutil.copytree(bundle, folder)
    told = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**told, "licence_class": "credentialed"}))
    return folder


def test_a_credentialed_bundle_draws_for_those_who_acknowledge(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restricted = credentialed(bundle, tmp_path / "restricted")
    (tmp_path / "table.csv").write_text("report\nEffusion.\n")
    for words in (["--report", REPORT], ["--prompts", str(tmp_path / "table.csv")]):
        assert generate(restricted, tmp_path / "out", *words) == 2
        assert "say --acknowledge-credentialed" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert generate(restricted, tmp_path / "agreed", *words, "--acknowledge-credentialed") == 0


def test_both_formats_with_and_without_marks(bundle: Path, tmp_path: Path) -> None:
    words = ["--report", REPORT, "-n", "2", "--format", "png,dicom"]
    assert generate(bundle, tmp_path / "marked", *words) == 0
    assert generate(bundle, tmp_path / "plain", *words, "--no-visible-mark", "--no-watermark") == 0
    for folder, is_marked in (("marked", True), ("plain", False)):
        for file in sorted((tmp_path / folder).glob("*.dcm")):
            told = json.loads(file.with_suffix(".json").read_text())
            assert told["dicom_file"] == file.name
            assert told["marks"] == {"visible": is_marked, "watermark": None}  # 32 px carry no watermark
            with Image.open(file.with_suffix(".png")) as image:
                np.testing.assert_array_equal(pydicom.dcmread(file).pixel_array, np.asarray(image))
    assert len(list(tmp_path.rglob("*.dcm"))) == 4


def test_number_format_and_guidance_schedule_reach_the_record_of_image_and_table(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(f"report\n{REPORT}\n")
    words = ["--dtype", "bfloat16", "--guidance", "4", "--guidance-start", "1"]
    for name, source in (("one", ["--report", REPORT]), ("table", ["--prompts", str(tmp_path / "table.csv")])):
        assert generate(bundle, tmp_path / name, *source, *words) == 0
        (record,) = (tmp_path / name).glob("arra-med_cxr*.json")
        told = json.loads(record.read_text())
        assert (told["dtype"], told["backend"]) == (
            "bfloat16",
            "transformers",
        )  # the compiled decoder computes in float32
        assert (told["rules"]["guidance_start"], told["rules"]["guidance_scale"]) == (1, 4)


def test_batches_write_the_files_of_one(bundle: Path, tmp_path: Path) -> None:
    words = ["--report", REPORT, "-n", "5", "--format", "png,dicom"]
    assert generate(bundle, tmp_path / "one", *words) == 0
    assert generate(bundle, tmp_path / "three", *words, "--batch", "2") == 0
    one, three = ({path.name: path for path in (tmp_path / folder).iterdir()} for folder in ("one", "three"))
    assert one.keys() == three.keys()
    assert all(path.read_bytes() == three[name].read_bytes() for name, path in one.items() if path.suffix != ".dcm")
    captures = [pydicom.dcmread(three[name]) for name in sorted(three) if name.endswith(".dcm")]
    assert [capture.InstanceNumber for capture in captures] == [1, 2, 3, 4, 5]
    assert len({(capture.SeriesInstanceUID, capture.PatientID) for capture in captures}) == 1


def test_ctrl_c_keeps_the_finished_batches_and_says_how_many(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ReportToImage.stream

    def stopped(self: ReportToImage, *arguments: Any, **settings: Any) -> Iterator[GenerationUpdate]:
        for update in stream(self, *arguments, **settings):
            if update.progress > 0.9:
                raise KeyboardInterrupt
            yield update

    words = ["--report", REPORT, "-n", "5", "--batch", "2"]
    assert generate(bundle, tmp_path / "whole", *words) == 0
    capsys.readouterr()
    monkeypatch.setattr(ReportToImage, "stream", stopped)
    out = tmp_path / "out"
    assert generate(bundle, out, *words) == 130
    told = capsys.readouterr()
    assert f"note: 4 of 5 images are finished and kept in {out}\n" in told.err
    assert sorted(map(Path, told.out.splitlines())) == sorted(out.iterdir())
    assert len(list(out.glob("*.png"))) == 4
    assert all(path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes() for path in out.iterdir())


def test_a_smaller_batch_is_told_once(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ReportToImage._rows

    def full_for_two(self: ReportToImage, request: Any, prompt_ids: Any, seeds: Any, kept: Any) -> Any:
        if len(seeds) > 1:
            raise MemoryError
        return rows(self, request, prompt_ids, seeds, kept)

    monkeypatch.setattr(ReportToImage, "_rows", full_for_two)
    assert generate(bundle, tmp_path / "out", "--report", REPORT, "-n", "3", "--batch", "2") == 0
    told = capsys.readouterr().err
    assert told.count("note: The memory is full: going on with 1 images at a time instead of 2.\n") == 1
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_a_table_becomes_images_and_their_list(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "prompts.csv", tmp_path / "out"
    table.write_text(f"id,report,num_images\nfirst,{REPORT},2\n../second,Normal.,1\n")
    assert generate(bundle, out, "--prompts", str(table), "--batch", "2") == 0
    told = capsys.readouterr()
    assert (
        told.out == f"3 synthetic images written to {out}, 0 kept from an earlier run; list: {out / 'images.jsonl'}\n"
    )
    assert "ffusion" not in told.err
    listed = [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]
    assert [row["id"] for row in listed] == ["first", "first", "../second"]
    assert {row["file"] for row in listed} == {path.name for path in out.glob("*.png")}
    assert generate(bundle, out, "--prompts", str(table)) == 0
    assert "0 synthetic images written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--report", REPORT, "--prompts", "a.csv"], "--report-file FILE or --prompts FILE.csv"),
        (["--prompts", "none.csv"], "none.csv: there is no such file"),
        (["--report", REPORT, "--engine", "ray"], "--engine ray is for tables: give --prompts FILE.csv"),
        (["--prompts", "none.csv", "--engine", "spark"], "'spark' is not one of"),
        (["--report", REPORT, "-n", "0"], "num_images is 0, it must be greater than or equal to 1"),
        (["--report", REPORT, "--guidance-start", "-1"], "guidance_start is -1.0, it must be"),
        (["--report", REPORT, "--dtype", "int4"], "'int4' is not one of"),
        (["--report", REPORT, "--dtype", "bfloat16", "--backend", "cpu"], "computes in float32, the model in bfloat16"),
        (["--report", REPORT, "--temperature", "-1"], "temperature is -1.0, it must be"),
        (["--report", REPORT, "--laterality", "L"], "an eye was given for a chest X-ray"),
        (["--report", REPORT, "--modality", "fundus"], "makes cxr images, fundus was asked for"),
        (["--report", "  "], ""),
        (["--report", REPORT, "--format", "png,gif"], "image format 'gif' is unknown: use png, dicom or png,dicom"),
    ],
)
def test_wrong_requests_exit_2_with_one_sentence_and_write_nothing(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert generate(bundle, tmp_path / "out", *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("arra-med: ")
    assert told.err.count("\n") == 1
    assert sentence in told.err
    assert not (tmp_path / "out").exists()


def test_an_engine_whose_extra_is_missing_is_named(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f"report\n{REPORT}\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "arra_med.corpus.ray_engine", raising=False)
    assert generate(bundle, tmp_path / "out", "--prompts", str(table), "--engine", "ray") == 2
    assert capsys.readouterr().err.endswith(
        "arra-med: this command needs the package ray: pip install 'arra-med[ray]'\n"
    )


def test_a_folder_that_is_no_bundle_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path, tmp_path / "out", "--report", REPORT) == 2
    assert "is no complete model bundle" in capsys.readouterr().err


def test_bundle_info_checks_the_parts_and_prints_what_made_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bundle", "info", str(bundle)) == 0
    described, _, fingerprint = capsys.readouterr().out.rpartition("fingerprint: ")
    assert json.loads(described)["name"] == "tiny-cxr"
    assert len(fingerprint.strip()) == 64
