"""Repeats of images across the rows of a table: told the same whatever the batches and stops, nothing rejected."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arra_med.generate import table_repeats
from arra_med.generate.batch import CHECK_SUMMARY_FILE
from arra_med.generate.batch_plan import PlannedImage
from arra_med.generate.export import ExportChoice
from arra_med.generate.marks import Marks
from arra_med.generate.request import GenerationRequest
from arra_med.generate.table_repeats import RepeatTest, repeats_across_rows
from tests.generate.test_batch_checked import CHECK, contents, draw, stopping, write

SIDE = 24
UNMARKED = ExportChoice(marks=Marks(visible=False, watermark=False))
ROWS = [
    {"id": "a", "report": "Effusion.", "num_images": 2, "seed": 3},
    {"id": "b", "report": "Pneumothorax, effusion.", "num_images": 3, "seed": 40},
    {"id": "c", "report": "Effusion.", "num_images": 2, "seed": 3},
]


def thumbnail(image: np.ndarray) -> np.ndarray:
    centred = image.astype(float).ravel() - image.mean()
    return np.asarray(centred / np.linalg.norm(centred))


TEST = RepeatTest(thumbnail, 0.99)


def written(folder: Path, rows: Sequence[int], pictures: Sequence[np.ndarray]) -> list[PlannedImage]:
    images = []
    for seed, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
        request = GenerationRequest(report="Effusion.", modality="cxr", seed=seed)
        image = PlannedImage(row=row, id="", name="n", request=request, request_sha256="", num_tokens=1, cautions=())
        Image.fromarray(picture).save(image.record_path(folder).with_suffix(".png"))
        images.append(image)
    return images


@pytest.mark.parametrize("block", [1, 2, 256])
def test_a_repeat_of_an_earlier_row_is_found_and_one_of_its_own_row_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(table_repeats, "_BLOCK", block)
    first, second, third = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    fainter = (first * 0.8 + 20).astype(np.uint8)
    images = written(tmp_path, [1, 1, 2, 2, 3], [first, first, second, fainter, third])
    name = "arra-med_cxr_n_seed000{}.png".format
    assert repeats_across_rows(images, tmp_path, TEST) == {name(3): name(0)}
    Image.fromarray(second).save(tmp_path / name(4))
    assert repeats_across_rows(images, tmp_path, TEST) == {name(3): name(0), name(4): name(2)}
    (tmp_path / name(0)).unlink()
    assert repeats_across_rows(images, tmp_path, TEST)[name(3)] == name(1)
    assert repeats_across_rows([], tmp_path, TEST) == {}


def test_a_table_tells_its_repeats_and_draws_every_row_as_if_it_were_alone(bundle_folder: Path, tmp_path: Path) -> None:
    check = CHECK._replace(repeats=TEST)
    table, settings = write(tmp_path / "prompts.csv", ROWS), {"check": check, "export": UNMARKED}
    report = draw(table, bundle_folder, tmp_path / "whole", batch_size=64, **settings)
    whole = contents(tmp_path / "whole")
    listed = [json.loads(line) for line in whole["images.jsonl"].decode().splitlines()]
    of_a, of_c = ([row for row in listed if row["id"] == name] for name in "ac")
    assert [row["check"]["repeats"] for row in of_a] == [None, None]
    assert [row["check"]["repeats"] for row in of_c] == [row["file"] for row in of_a]
    assert [row["pixels_sha256"] for row in of_c] == [row["pixels_sha256"] for row in of_a]
    told = json.loads(whole[CHECK_SUMMARY_FILE])["repeats_across_rows"]
    assert told == {"images": report.num_repeats, "correlation_above": 0.99}
    assert report.num_repeats == sum(row["check"]["repeats"] is not None for row in listed)

    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        opened = stopping(bundle_folder, 40, KeyboardInterrupt)
        draw(table, bundle_folder, stopped, batch_size=1, open_bundle=opened, **settings)
    assert "repeats_across_rows" not in json.loads((stopped / CHECK_SUMMARY_FILE).read_text())
    assert draw(table, bundle_folder, stopped, batch_size=2, **settings).num_repeats == report.num_repeats
    assert contents(stopped) == whole

    alone = write(tmp_path / "alone.csv", ROWS[2:])
    draw(alone, bundle_folder, tmp_path / "alone", **settings)
    for row in of_c:
        for name in (row["file"], row["file"].replace(".png", ".json")):
            assert (tmp_path / "alone" / name).read_bytes() == whole[name]


def test_without_a_test_nobody_looks(bundle_folder: Path, tmp_path: Path) -> None:
    assert draw(write(tmp_path / "prompts.csv", ROWS), bundle_folder, tmp_path / "out").num_repeats is None
    assert "repeats_across_rows" not in json.loads((tmp_path / "out" / CHECK_SUMMARY_FILE).read_text())
    assert "repeats" not in (tmp_path / "out" / "images.jsonl").read_text()
