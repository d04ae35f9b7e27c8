"""Tables under a check: the images, seeds and records of the single-prompt command, whatever batches and stops."""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arra_med.errors import GenerationError
from arra_med.generate.batch import CHECK_SUMMARY_FILE, BatchReport, draw_table
from arra_med.generate.batch_checked import TableCheck, plan_row_batches
from arra_med.generate.batch_plan import plan_images
from arra_med.generate.batch_worker import Watcher
from arra_med.generate.checked_images import generate_checked
from arra_med.generate.checking import CheckTally, ImageVerdict, retry_seed
from arra_med.generate.export import read_provenance
from arra_med.generate.marks import Marks
from arra_med.generate.prompt_table import read_prompt_table
from arra_med.generate.prompting import PromptReader
from arra_med.generate.request import GenerationRequest
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle

ROWS = [
    {"id": "a", "report": "Effusion.", "num_images": 1},
    {"id": "b", "report": "Pneumothorax, effusion.", "num_images": 5},
    {"id": "c", "report": "Normal.", "num_images": 3},
    {"id": "d", "report": "PA view. Normal, effusion.", "num_images": 1},
    {"id": "e", "report": "Pneumothorax.", "num_images": 2},
]
NUM_IMAGES = 12
RULES = SamplingRules(temperature=0.9)
TRIES = 3


class Picky:
    """Rejects most pictures by their content, and what has the last bit of one that was kept before it."""

    def __init__(self, name: str = "cd") -> None:
        self.identity = {"reference_sha256": name * 32, "thresholds": {"novelty": 0.1, "near_copy": None}}

    def judge(self, images: np.ndarray, request: Any, kept: Sequence[np.ndarray] = ()) -> list[ImageVerdict]:
        seen = [self.digest(image) % 2 for image in kept]
        verdicts = []
        for image in images:
            number = self.digest(image)
            reasons = ["novelty"] * (number > 140) + ["duplicate"] * (number % 2 in seen)
            verdicts.append(ImageVerdict({"novelty": number / 256}, tuple(reasons)))
            seen += [number % 2] * (not reasons)
        return verdicts

    @staticmethod
    def digest(image: np.ndarray) -> int:
        return hashlib.sha256(image.tobytes()).digest()[0]


CHECK = TableCheck(lambda device: Picky(), Picky().identity, TRIES)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "prompts.csv", ROWS)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def draw(table: Path, bundle_folder: Path, out: Path, **settings: Any) -> BatchReport:
    rows = read_prompt_table(table, modality="cxr", rules=RULES)
    fixed = {"progress": False, "device": "cpu", "backend": "transformers", "check": CHECK}
    return draw_table(table, rows, bundle_folder, out, **{**fixed, **settings})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def whole(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], BatchReport]:
    folder = tmp_path_factory.mktemp("whole")
    report = draw(write(folder / "prompts.csv", ROWS), bundle_folder, folder / "out", batch_size=1)
    return contents(folder / "out"), report


def test_every_row_has_the_images_and_records_of_the_single_prompt_command(
    table: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    out, session = tmp_path / "out", ReportToImage(ModelBundle.load(bundle_folder))
    report = draw(table, bundle_folder, out, batch_size=4)
    checked = []
    for row in read_prompt_table(table, modality="cxr", rules=RULES):
        alone = generate_checked(session, row.request, Picky(), TRIES)
        checked += alone.checked
        for index, image in enumerate(alone.images):
            path = out / f"arra-med_cxr_{row.name}_seed{row.request.seed + index:04d}.png"
            record = json.loads(path.with_suffix(".json").read_text())
            np.testing.assert_array_equal(np.asarray(Image.open(path)), Marks().draw(image)[0])
            assert record["seed"] == alone.seed(index)
            assert record["check"] == {**alone.checked[index].record(), **alone.check}
            assert read_provenance(path)["check"] == record["check"]
    assert report.check == CheckTally.of(checked)
    assert 0 < report.check.num_replaced < report.check.num_rejected < NUM_IMAGES
    assert "duplicate" in report.check.reasons
    told = json.loads((out / CHECK_SUMMARY_FILE).read_text())
    assert {name: told[name] for name in CheckTally.of(checked).record()} == CheckTally.of(checked).record()
    assert (told["gate"], told["tries_at_most"], told["planned"]) == (Picky().identity, TRIES, NUM_IMAGES)


def test_the_index_tells_the_seed_that_made_an_image_and_its_scores(
    whole: tuple[dict[str, bytes], BatchReport],
) -> None:
    rows = [json.loads(line) for line in whole[0]["images.jsonl"].decode().splitlines()]
    assert len(rows) == NUM_IMAGES
    replaced = [row for row in rows if row["seed"] != row["check"]["asked_seed"]]
    assert len(replaced) == whole[1].check.num_replaced
    for row in replaced:
        check = row["check"]
        assert check["passed"]
        assert row["seed"] == retry_seed(check["asked_seed"], check["tries"] - 1)
        assert check["scores"]["novelty"] >= 0


@pytest.mark.parametrize("batch_size", [3, 64])
def test_every_file_is_the_same_whatever_the_batches(
    table: Path, bundle_folder: Path, whole: tuple[dict[str, bytes], BatchReport], tmp_path: Path, batch_size: int
) -> None:
    assert draw(table, bundle_folder, tmp_path / "out", batch_size=batch_size).check == whole[1].check
    assert contents(tmp_path / "out") == whole[0]


def stopping(bundle: Path, after: int, error: Callable[[], BaseException]) -> Callable[[Any], ModelBundle]:
    """Opens the bundle with a model that fails once, after some calls."""

    def open_bundle(_: Any) -> ModelBundle:
        opened = ModelBundle.load(bundle)
        calls = iter(range(10**9))

        def refuse(*_: Any) -> None:
            if next(calls) == after:
                raise error()

        opened.model.base_model.register_forward_pre_hook(refuse)
        return opened

    return open_bundle


@pytest.mark.parametrize("after", [20, 50, 70])
def test_a_stopped_run_comes_to_the_same_files_and_leaves_finished_rows_alone(
    table: Path, bundle_folder: Path, whole: tuple[dict[str, bytes], BatchReport], tmp_path: Path, after: int
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        draw(table, bundle_folder, out, batch_size=2, open_bundle=stopping(bundle_folder, after, KeyboardInterrupt))
    assert not list(out.glob(".*.partial"))
    before = {path: path.stat().st_mtime_ns for path in out.glob("arra-med_*")}
    report = draw(table, bundle_folder, out, batch_size=2)
    assert report.kept == len(before) // 2 < NUM_IMAGES
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(out) == whole[0]
    assert draw(table, bundle_folder, out, open_bundle=pytest.fail).kept == NUM_IMAGES


def test_a_row_of_which_one_image_is_missing_is_drawn_whole(
    table: Path, bundle_folder: Path, whole: tuple[dict[str, bytes], BatchReport], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    draw(table, bundle_folder, out)
    sorted(out.glob("*_b_*.png"))[3].unlink()
    assert draw(table, bundle_folder, out).kept == NUM_IMAGES - 5
    assert contents(out) == whole[0]


def test_a_full_memory_halves_the_batch_and_changes_no_image(
    table: Path, bundle_folder: Path, whole: tuple[dict[str, bytes], BatchReport], tmp_path: Path
) -> None:
    def full() -> BaseException:
        return MemoryError()

    report = draw(table, bundle_folder, tmp_path / "out", open_bundle=stopping(bundle_folder, 5, full))
    assert report.batch_size < 8
    assert contents(tmp_path / "out") == whole[0]


def test_a_batch_that_is_halved_in_the_last_retries_is_told(
    table: Path, bundle_folder: Path, whole: tuple[dict[str, bytes], BatchReport], tmp_path: Path
) -> None:
    drawn: list[int] = []

    class FullInRetries(ReportToImage):
        def draw_codes(self, requests: Sequence[GenerationRequest], should_stop: Any = None) -> torch.Tensor:
            if len(drawn) >= NUM_IMAGES and len(requests) > 1:
                raise MemoryError
            drawn.extend(request.seed for request in requests)
            return super().draw_codes(requests, should_stop)

    session = FullInRetries(ModelBundle.load(bundle_folder), backend="transformers")
    told: list[str] = []
    report = draw(
        table, bundle_folder, tmp_path / "out", batch_size=64, watcher=Watcher(session=session), tell=told.append
    )
    assert report.batch_size == 1
    assert told == ["the memory is full: going on with 1 images at a time instead of 64"]
    assert contents(tmp_path / "out") == whole[0]


def test_what_is_asked_of_the_check_decides_what_is_finished(table: Path, bundle_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert draw(table, bundle_folder, out, check=None).check is None
    assert not (out / CHECK_SUMMARY_FILE).exists()
    assert draw(table, bundle_folder, out).kept == 0
    assert draw(table, bundle_folder, out).kept == NUM_IMAGES
    assert draw(table, bundle_folder, out, check=CHECK._replace(tries=2)).kept == 0
    other = TableCheck(lambda device: Picky("ef"), Picky("ef").identity, 2)
    assert draw(table, bundle_folder, out, check=other).kept == 0
    fewer = [{**row, "num_images": min(row["num_images"], 2)} for row in ROWS]
    assert draw(write(table, fewer), bundle_folder, out, check=other).kept == 4  # the rows a, d and e
    assert draw(write(table, ROWS), bundle_folder, out, check=None).kept == 0
    assert not (out / CHECK_SUMMARY_FILE).exists()


def test_a_check_that_is_another_on_the_machine_that_draws_is_refused(
    table: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    other = TableCheck(lambda device: Picky("ef"), Picky("cd").identity)
    with pytest.raises(GenerationError, match="another one than planned: put the same reference"):
        draw(table, bundle_folder, tmp_path / "out", check=other)
    with pytest.raises(GenerationError, match="0 tries were asked for, 1 to 16 are possible"):
        draw(table, bundle_folder, tmp_path / "none", check=CHECK._replace(tries=0))
    assert not (tmp_path / "none").exists()


def test_batches_hold_whole_rows(table: Path, bundle: ModelBundle) -> None:
    reader = PromptReader(bundle.info, bundle.text_tokenizer)
    images = plan_images(table, read_prompt_table(table, modality="cxr"), reader, "00", CHECK.asked)
    batches = plan_row_batches(images, 4)
    assert sum(map(len, batches)) == NUM_IMAGES
    assert all(len(batch) <= 4 or len({image.row for image in batch}) == 1 for batch in batches)
    of_rows = [{image.row for image in batch} for batch in batches]
    assert sum(map(len, of_rows)) == len(set.union(*of_rows)) == len(ROWS)
    longest = [batch[0].num_tokens for batch in batches]
    assert longest == sorted(longest, reverse=True)
