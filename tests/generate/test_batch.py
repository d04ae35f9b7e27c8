"""Tables of prompts become images: whatever the batch, the memory, and the moment at which a run is stopped."""

import csv
import errno
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from arra_med.cli.sentences import explain
from arra_med.errors import GenerationError
from arra_med.generate import batch_worker
from arra_med.generate.batch import BatchReport, draw_table
from arra_med.generate.batch_plan import plan_batches, plan_images, request_sha256
from arra_med.generate.batch_worker import Watcher
from arra_med.generate.decoding import GenerationStopped
from arra_med.generate.export import ExportChoice, read_provenance
from arra_med.generate.marks import Marks
from arra_med.generate.prompt_table import read_prompt_table
from arra_med.generate.prompting import PromptReader
from arra_med.generate.request import GenerationRequest
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle

REPORTS = ["Effusion.", "Pneumothorax, effusion.", "Normal.", "PA view. Normal, effusion.", "Pneumothorax."]
ROWS = [{"id": f"case{number}", "report": REPORTS[number % 5]} for number in range(12)]
RULES = SamplingRules(temperature=0.9)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def draw(table: Path, bundle_folder: Path, out: Path, **settings) -> BatchReport:
    rows = read_prompt_table(table, modality="cxr", rules=settings.pop("rules", RULES))
    fixed = {"progress": False, "device": "cpu", "backend": "transformers"}  # whose forward pass the tests break
    return draw_table(table, rows, bundle_folder, out, **{**fixed, **settings})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


def changed_at(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("arra-med_*")}


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "images.jsonl").read_text().splitlines()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "prompts.csv", ROWS)


@pytest.fixture(scope="module")
def whole(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What every run of the table must come to: one image at a time."""
    folder = tmp_path_factory.mktemp("whole")
    draw(write(folder / "prompts.csv", ROWS), bundle_folder, folder / "out", batch_size=1)
    return contents(folder / "out")


def breaking(
    bundle: Path, after: int, error: Callable[[], BaseException], most: int = 0
) -> Callable[[Any], ModelBundle]:
    """Opens the bundle with a model that fails, after some calls, wherever it is given more than `most` rows."""

    def open_bundle(_: Any) -> ModelBundle:
        opened = ModelBundle.load(bundle)
        calls = iter(range(10**9))

        def refuse(_: Any, __: Any, given: dict[str, Any]) -> None:
            if next(calls) >= after and len(given["input_ids"]) > most:
                raise error()

        opened.model.base_model.register_forward_pre_hook(refuse, with_kwargs=True)
        return opened

    return open_bundle


@pytest.mark.parametrize("batch_size", [5, 64])
def test_every_file_is_the_same_whatever_the_batches(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path, batch_size: int
):
    report = draw(table, bundle_folder, tmp_path / "out", batch_size=batch_size)
    assert (report.total, report.kept, report.batch_size) == (12, 0, batch_size)
    assert contents(tmp_path / "out") == whole


def test_the_compiled_decoder_draws_the_same_pictures(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    draw(table, bundle_folder, tmp_path / "out", batch_size=5, backend="cpu")
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as picture, Image.open(io.BytesIO(whole[path.name])) as other:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(other))


def test_tables_need_png_files_to_go_on_by(table: Path, bundle_folder: Path, tmp_path: Path):
    with pytest.raises(GenerationError, match="goes on by its PNG files after a stop: give --format png or png,dicom"):
        draw(table, bundle_folder, tmp_path / "out", export=ExportChoice("dicom"))


def test_other_marks_or_formats_are_drawn_anew(table: Path, bundle_folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    draw(table, bundle_folder, out)
    plain = ExportChoice(marks=Marks(visible=False, watermark=False))
    assert draw(table, bundle_folder, out, export=plain).kept == 0
    assert draw(table, bundle_folder, out, export=plain).kept == 12
    both = plain._replace(format="png,dicom")
    assert draw(table, bundle_folder, out, export=both).kept == 0
    assert len(list(out.glob("*.dcm"))) == 12
    next(out.glob("*.dcm")).unlink()
    assert draw(table, bundle_folder, out, export=both).kept == 11


def test_an_image_is_what_a_single_request_gives(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    row = read_prompt_table(table, modality="cxr", rules=RULES)[3]
    alone = ReportToImage(ModelBundle.load(bundle_folder)).generate(row.request)
    path = tmp_path / "one.png"
    path.write_bytes(whole[f"arra-med_cxr_case3_seed{row.request.seed:04d}.png"])
    np.testing.assert_array_equal(np.asarray(Image.open(path)), Marks().draw(alone.images[0])[0])


def test_the_index_tells_of_every_image_without_its_report(
    table: Path, bundle_folder: Path, tmp_path: Path, bundle: ModelBundle
):
    report = draw(table, bundle_folder, tmp_path / "out")
    rows = index(tmp_path / "out")
    assert [(row["id"], row["row"]) for row in rows] == [(f"case{n}", n + 1) for n in range(12)]
    for row in rows:
        provenance = read_provenance(tmp_path / "out" / row["file"])
        assert provenance is not None
        assert row["request_sha256"] == request_sha256(provenance)
        assert (row["seed"], row["pixels_sha256"]) == (provenance["seed"], provenance["pixels_sha256"])
        assert row["licence_class"] == "open"
        assert "Synthetic" in row["notice"]
    caution = next(text for text in report.cautions if "Only 12 training images" in text)
    assert report.cautions[caution] == sum(caution in row["cautions"] for row in rows) > 0
    told = b"".join(content for name, content in contents(tmp_path / "out").items() if name.endswith("json"))
    assert b"view. Normal" not in told
    draw(table, bundle_folder, tmp_path / "out", export=ExportChoice(include_report=True))
    record = json.loads(next((tmp_path / "out").glob("*case3_*.json")).read_text())
    assert record["report"] == REPORTS[3]
    assert "report" not in index(tmp_path / "out")[3]


def test_batches_hold_prompts_of_one_length_and_only_what_is_left_is_mixed(table: Path, bundle: ModelBundle):
    reader = PromptReader(bundle.info, bundle.text_tokenizer)
    images = plan_images(table, read_prompt_table(table, modality="cxr"), reader, "00")
    batches = plan_batches(images, 2)
    assert sorted(image.id for batch in batches for image in batch) == sorted(row["id"] for row in ROWS)
    mixed = [batch for batch in batches if len({image.num_tokens for image in batch}) > 1]
    num_lengths = len({image.num_tokens for image in images})
    assert num_lengths > 2
    assert len(mixed) <= num_lengths / 2
    assert all(len(batch) == 2 for batch in batches)
    longest = [batch[0].num_tokens for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_finished_images_are_kept_by_content_and_only_others_are_drawn(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    out = tmp_path / "out"
    draw(table, bundle_folder, out)
    before = changed_at(out)
    damaged, swapped, lost, foreign = (next(out.glob(f"*case{n}_*.png")) for n in range(4))
    pixels = np.asarray(Image.open(damaged)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(damaged, pnginfo=_chunks(damaged))
    swapped.write_bytes(next(out.glob("*case5_*.png")).read_bytes())
    lost.with_suffix(".json").unlink()
    foreign.write_bytes(b"no picture")
    report = draw(table, bundle_folder, out)
    assert report.kept == 8
    assert contents(out) == whole
    touched = {path.stem for path in (damaged, swapped, lost, foreign)}
    assert {name for name, when in changed_at(out).items() if when != before[name]} == {
        f"{stem}{suffix}" for stem in touched for suffix in (".png", ".json")
    }
    assert draw(table, bundle_folder, out, open_bundle=pytest.fail).kept == 12  # nothing to do: no model is opened


def _chunks(path: Path) -> Any:
    from PIL import PngImagePlugin

    chunks = PngImagePlugin.PngInfo()
    with Image.open(path) as image:
        for key, text in image.text.items():
            chunks.add_text(key, str(text))
    return chunks


def test_changed_rows_and_rules_are_drawn_again_and_moved_rows_are_not(
    table: Path, bundle_folder: Path, tmp_path: Path
):
    out = tmp_path / "out"
    draw(table, bundle_folder, out)
    changed = [dict(row) for row in reversed(ROWS)]
    changed[0]["report"] = "Effusion, effusion."
    write(table, changed)
    assert draw(table, bundle_folder, out).kept == 11
    assert [row["id"] for row in index(out)][:2] == ["case11", "case10"]
    assert draw(table, bundle_folder, out, rules=SamplingRules(temperature=0.8)).kept == 0
    write(table, changed[:3])
    assert draw(table, bundle_folder, out, rules=SamplingRules(temperature=0.8)).kept == 3
    assert len(index(out)) == 3


def test_a_full_memory_halves_the_batch_says_so_and_changes_no_image(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    def full() -> BaseException:
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    told: list[str] = []
    opened = breaking(bundle_folder, 0, full, most=6)  # two rows an image: three images fit
    report = draw(table, bundle_folder, tmp_path / "out", batch_size=8, open_bundle=opened, tell=told.append)
    assert report.batch_size == 2
    assert told == ["the memory is full: going on with 2 images at a time instead of 8"]
    assert contents(tmp_path / "out") == whole


def test_a_memory_too_small_for_one_image_is_told_and_other_faults_are_not_taken_for_it(
    table: Path, bundle_folder: Path, tmp_path: Path
):
    def full() -> BaseException:
        return RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(GenerationError, match="the memory is full with one image at a time; finished images are kept"):
        draw(table, bundle_folder, tmp_path / "out", batch_size=1, open_bundle=breaking(bundle_folder, 60, full))
    kept = len(index(tmp_path / "out"))
    assert 0 < kept < 12
    with pytest.raises(RuntimeError, match="shapes"):
        draw(
            table,
            bundle_folder,
            tmp_path / "no",
            open_bundle=breaking(bundle_folder, 0, lambda: RuntimeError("shapes")),
        )
    assert draw(table, bundle_folder, tmp_path / "out").kept == kept


def test_a_full_memory_while_pictures_are_made_waits_for_the_model(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    finish, refusals = ReportToImage.finish, iter([1])

    def once_full(self: ReportToImage, request: GenerationRequest, codes: torch.Tensor) -> Any:
        if next(refusals, None):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return finish(self, request, codes)

    monkeypatch.setattr(ReportToImage, "finish", once_full)
    draw(table, bundle_folder, tmp_path / "out", batch_size=4)
    assert contents(tmp_path / "out") == whole


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt) as caught:
        draw(table, bundle_folder, out, batch_size=2, open_bundle=breaking(bundle_folder, 40, KeyboardInterrupt))
    assert "generate --prompts go on where they were when the same command is started again" in explain(caught.value)[1]
    kept = index(out)
    assert 0 < len(kept) < 12
    assert not list(out.glob("*.partial"))
    assert draw(table, bundle_folder, out, batch_size=2).kept == len(kept)
    assert contents(out) == whole


def test_a_watcher_lends_the_model_sees_every_image_and_stops_between_two_rows(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path
):
    told: list[tuple[int, int]] = []
    seen: list[str] = []
    watcher = Watcher(
        session=ReportToImage(ModelBundle.load(bundle_folder), backend="transformers"),
        progress=lambda done, total: told.append((done, total)),
        image=lambda image, _: seen.append(image.name),
        should_stop=lambda: bool(told and told[-1][0]),
    )
    out = tmp_path / "out"
    with pytest.raises(GenerationStopped):
        draw(table, bundle_folder, out, batch_size=2, open_bundle=pytest.fail, watcher=watcher)
    assert told[0] == (0, 12)
    assert 0 < told[-1][0] <= len(index(out)) == len(seen) < 12
    told.clear()
    on = watcher._replace(should_stop=None)
    draw(table, bundle_folder, out, batch_size=2, open_bundle=pytest.fail, watcher=on)
    assert told[-1] == (12, 12)
    assert sorted(seen) == sorted(row["id"] for row in ROWS)
    assert contents(out) == whole


def test_a_full_disk_is_one_sentence_and_finished_images_stay(
    table: Path, bundle_folder: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save, left = batch_worker.save_images, iter(range(5))

    def fail_at_the_sixth(*arguments: Any, **settings: Any) -> Any:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(*arguments, **settings)

    monkeypatch.setattr(batch_worker, "save_images", fail_at_the_sixth)
    with pytest.raises(GenerationError, match="cannot be written: the disk is full; free some space") as caught:
        draw(table, bundle_folder, tmp_path / "out", batch_size=2)
    assert "the disk is full" in explain(caught.value)[1]
    assert len(index(tmp_path / "out")) == 5
    monkeypatch.undo()
    assert draw(table, bundle_folder, tmp_path / "out").kept == 5
    assert contents(tmp_path / "out") == whole


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(table: Path, bundle_folder: Path, tmp_path: Path):
    with pytest.raises(GenerationError, match="a batch of 0 images was asked for: give at least 1"):
        draw(table, bundle_folder, tmp_path / "out", batch_size=0)
    with pytest.raises(GenerationError, match="backend 'gpu' is unknown: choose one of auto"):
        draw(table, bundle_folder, tmp_path / "out", backend="gpu")
    write(table, [{"report": "Normal."}, {"report": "INDICATION: zzyzx"}])
    with pytest.raises(GenerationError, match="row 2: column 'report': the report holds INDICATION, but") as caught:
        draw(table, bundle_folder, tmp_path / "out")
    assert "zzyzx" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_second_run_in_the_same_folder_is_refused(table: Path, bundle_folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".generate.lock"), pytest.raises(GenerationError, match="another run draws into it"):
        draw(table, bundle_folder, out)


def test_requests_of_one_batch_share_their_rules(bundle: ModelBundle):
    requests = [GenerationRequest(report="Normal.", modality="cxr", rules=SamplingRules(top_k=k)) for k in (None, 3)]
    with pytest.raises(GenerationError, match="differ in their sampling rules: draw them one after another"):
        ReportToImage(bundle).draw_codes(requests)


def command(table: Path, bundle_folder: Path, out: Path, *words: str) -> list[str]:
    options = ["--prompts", str(table), "--bundle", str(bundle_folder), "--out", str(out), "--device", "cpu"]
    return [sys.executable, "-m", "arra_med.cli", "generate", *options, *words]


def test_a_killed_run_is_gone_on_with_and_nothing_finished_is_touched(bundle_folder: Path, tmp_path: Path):
    rows = [{**row, "id": f"case{number}"} for number, row in enumerate(ROWS * 10)]
    table, out = write(tmp_path / "prompts.csv", rows), tmp_path / "out"
    words = command(table, bundle_folder, out, "--batch", "4")
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(list(out.glob("arra-med_*.json"))) < 5:
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    finished = list(out.glob("arra-med_*.json"))
    assert 5 <= len(finished) < len(rows)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in finished}
    before |= {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (p.with_suffix(".png") for p in finished)}
    done = subprocess.run([*words, "--temperature", "1"], capture_output=True, text=True, check=True)
    assert f"{len(rows) - len(finished)} synthetic images written" in done.stdout
    assert f"{len(finished)} kept from an earlier run" in done.stdout
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert len(index(out)) == len(rows) == len(list(out.glob("*.png")))
    assert not list(out.glob(".*.partial"))


def test_a_bundle_of_another_fingerprint_draws_everything_again(
    table: Path, bundle_folder: Path, bundle: ModelBundle, tmp_path: Path
):
    draw(table, bundle_folder, tmp_path / "out")
    other = tmp_path / "other"
    ModelBundle.save(
        other,
        model=bundle.model,
        text_tokenizer=bundle.text_tokenizer,
        image_tokenizer=bundle.image_tokenizer,
        info=bundle.info.model_copy(update={"name": "other"}),
        card="# other",
    )
    assert draw(table, other, tmp_path / "out").kept == 0
