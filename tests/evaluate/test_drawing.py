"""Drawn images belong to their row alone, survive an interruption, and never take another drawing's place."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from arra_med.errors import EvaluationError
from arra_med.evaluate import drawing
from arra_med.evaluate.drawing import draw_images, held_out_prompts, read_drawing, reconstruct_images
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord

RULES = SamplingRules(guidance_scale=2.0)


def draw(bundle: ModelBundle, records: list[StudyRecord], out: Path, **changed: Any) -> np.ndarray:
    settings: dict[str, Any] = {"rules": RULES, "seed": 7, "progress": False, **changed}
    return draw_images(bundle, records, settings.pop("rules"), out=out, **settings)


def test_an_image_depends_on_its_study_and_row_alone(
    bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path
) -> None:
    images = draw(bundle, records, tmp_path / "all")
    assert (images.shape, images.dtype) == ((40, 1, 16, 16), np.uint8)
    assert len(np.unique(images.reshape(40, -1), axis=0)) > 20
    assert np.array_equal(draw(bundle, records, tmp_path / "small_batches", batch_size=3), images)
    assert np.array_equal(draw(bundle, records[5:9], tmp_path / "some", seed=7 + 5), images[5:9])


def test_it_draws_what_a_user_would_get(bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path) -> None:
    images = draw(bundle, records[:1], tmp_path)
    request = GenerationRequest(report=held_out_prompts(bundle, records[:1])[0], modality="cxr", seed=7, rules=RULES)
    session = ReportToImage(bundle)
    assert session.prompt(request).text == request.report  # the prompt of a prompt is itself
    assert np.array_equal(session.generate(request).images[0], images[0, 0])


def test_a_prompt_fits_the_bundle_and_is_the_same_each_time(bundle: ModelBundle, records: list[StudyRecord]) -> None:
    prompts = held_out_prompts(bundle, records)
    assert prompts == held_out_prompts(bundle, records[::-1])[::-1]
    lengths = [len(bundle.layout.text_ids(bundle.text_tokenizer, text)) for text in prompts]
    assert 0 < max(lengths) <= bundle.layout.max_text_tokens


def test_an_interrupted_drawing_goes_on_and_a_finished_one_is_read(
    bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw(bundle, records, tmp_path / "whole")
    real, drawn = drawing._draw_batch, []

    def counted(bundle: ModelBundle, prompts: Any, rules: Any, seeds: Any, backend: Any) -> Any:
        if len(drawn) == 3:
            drawn.append(seeds)
            raise KeyboardInterrupt
        drawn.append(seeds)
        return real(bundle, prompts, rules, seeds, backend)

    monkeypatch.setattr(drawing, "_draw_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        draw(bundle, records, tmp_path / "cut", batch_size=12)  # two shards: batches of 12, 12, 8 and 8
    with pytest.raises(EvaluationError, match="shard-00001.parquet: is missing, damaged or of another drawing"):
        read_drawing(tmp_path / "cut")
    assert np.array_equal(draw(bundle, records, tmp_path / "cut", batch_size=12), whole)
    assert [list(seeds) for seeds in drawn[3:]] == [list(range(39, 47))] * 2  # only the second shard was drawn again
    draw(bundle, records, tmp_path / "cut")
    assert len(drawn) == 5
    assert not list((tmp_path / "cut").glob(".*"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"rules": SamplingRules(guidance_scale=1.0)}, "rules"),
        ({"records": slice(0, 39)}, "num_images, prompts_sha256"),
    ],
)
def test_another_drawing_is_refused_and_nothing_overwritten(
    change: dict[str, Any], named: str, bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path
) -> None:
    draw(bundle, records, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rows = change.pop("records", slice(None))
    with pytest.raises(EvaluationError, match=f"drawn with another {named}; nothing was overwritten: choose another"):
        draw(bundle, records[rows], tmp_path, **change)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_another_bundle_and_foreign_shards_are_refused(
    bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path
) -> None:
    draw(bundle, records[:2], tmp_path)
    other = ModelBundle(bundle.model, bundle.text_tokenizer, bundle.image_tokenizer, bundle.info, "cd" * 32)
    with pytest.raises(EvaluationError, match="drawn with another bundle_sha256"):
        draw(other, records[:2], tmp_path)
    (tmp_path / "drawing.json").unlink()
    with pytest.raises(EvaluationError, match="holds shards of something else: choose an empty folder"):
        draw(bundle, records[:2], tmp_path)
    with pytest.raises(EvaluationError, match="0 studies in batches of 16: give at least one"):
        draw(bundle, [], tmp_path)


def test_a_damaged_shard_is_noticed(bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path) -> None:
    images = draw(bundle, records, tmp_path)
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard)
    pngs = table["png"].to_pylist()
    pngs[4] = pngs[4][:60]
    pq.write_table(table.set_column(1, "png", [pngs]), shard)
    with pytest.raises(EvaluationError, match="shard-00000.parquet: holds an image that is damaged: delete it"):
        draw(bundle, records, tmp_path)
    shard.write_bytes(shard.read_bytes()[:-20])  # a cut file has no footer: it is drawn again
    assert np.array_equal(draw(bundle, records, tmp_path), images)


def test_no_text_is_kept_and_the_images_are_called_synthetic(
    bundle: ModelBundle, records: list[StudyRecord], tmp_path: Path
) -> None:
    draw(bundle, records, tmp_path)
    kept = (tmp_path / "drawing.json").read_text()
    assert "Synthetic image" in kept
    assert "Research use only" in kept
    assert "effusion" not in kept
    assert pq.read_schema(tmp_path / "shard-00000.parquet").names == ["row", "png"]


def test_reconstructions_are_the_tokenizers(bundle: ModelBundle) -> None:
    views = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16)).astype(np.uint8)
    tokenizer = bundle.image_tokenizer
    decoded = tokenizer.decode(tokenizer.encode(torch.from_numpy(views).float() / 255)).numpy()
    made = reconstruct_images(bundle, views, batch_size=2)
    assert (made.shape, made.dtype) == (views.shape, np.uint8)
    assert np.abs(made / 255 - decoded).max() < 0.51 / 255
    for wrong in (views[:, :, :8, :8], views / 255, views[:0], views.repeat(3, axis=1)):
        with pytest.raises(EvaluationError, match=r"the bundle makes uint8 \(n, 1, 16, 16\): ingest the studies"):
            reconstruct_images(bundle, wrong)
