"""A judge's features are its own, and its metrics agree with the functions and the library that define them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.features import global_feature, judge_id, judged_features, kept_features, kept_judged_features
from arra_med.evaluate.fidelity_rows import fidelity_rows, projection_dims
from arra_med.evaluate.floors import JudgedSets
from arra_med.evaluate.frechet import FeatureProjection
from arra_med.evaluate.torch_fidelity_judge import registered_encoder, torch_fidelity_scores
from tests.evaluate.tiny_judges import TinyJudge, smooth_images

PATIENTS = [f"patient-{row // 2}" for row in range(60)]


def test_features_are_the_encoders_whatever_the_batch() -> None:
    judge, images = TinyJudge(), smooth_images(7, 0)
    expected = judge(torch.from_numpy(images).float() / 255).mean.numpy()
    features = judged_features(judge, images, batch_size=3)
    assert features.dtype == np.float32
    assert features == pytest.approx(expected, abs=1e-6)
    assert global_feature(judge) == "mean"


def test_images_and_features_that_cannot_be_judged_are_refused() -> None:
    judge, images = TinyJudge(), smooth_images(7, 0)
    for wrong in (images[:0], images / 255, images[0]):
        with pytest.raises(EvaluationError, match=r"judged by mean: give uint8 \(n, C, S, S\), at least one"):
            judged_features(judge, wrong)
    with pytest.raises(EvaluationError, match="a feature that is one vector for each image"):
        judged_features(judge, images, feature="patch")
    with pytest.raises(EncoderError, match="this encoder has only mean, patch"):
        judged_features(judge, images, feature="cls")
    with pytest.raises(EvaluationError, match="7 of 7 rows of the tiny-judge features hold NaN or infinity"):
        judged_features(TinyJudge(factor=float("nan")), images)


def test_kept_features_are_read_back_and_never_another_judges(tmp_path: Path) -> None:
    images, path = smooth_images(6, 0), tmp_path / "real.safetensors"
    features = kept_judged_features(TinyJudge(), images, path)
    before = path.read_bytes()
    assert np.array_equal(load_file(path)["features"], features)
    assert np.array_equal(kept_judged_features(TinyJudge(), images, path), features)
    assert len({judge_id(judge, "mean") for judge in (TinyJudge(), TinyJudge(std=0.5), TinyJudge(seed=1))}) == 3
    for judge in (TinyJudge(std=0.5), TinyJudge(seed=1)):  # the same weights with other preprocessing are another judge
        with pytest.raises(
            EvaluationError, match="features of another judge_id .*preprocessing.*nothing was overwritten"
        ):
            kept_judged_features(judge, images, path)
    with pytest.raises(EvaluationError, match="features of another images_sha256"):
        kept_judged_features(TinyJudge(), images[::-1], path)
    assert path.read_bytes() == before
    path.write_bytes(before[:40])
    with pytest.raises(EvaluationError, match=r"real.safetensors: is damaged: delete it"):
        kept_judged_features(TinyJudge(), images, path)
    path.unlink()
    kept_judged_features(TinyJudge(), images, path)
    with safe_open(path, "numpy") as stream:
        told = stream.metadata()
    save_file({"features": np.full_like(features, np.nan)}, path, metadata=told)
    with pytest.raises(EvaluationError, match=r"real.safetensors: holds NaN or infinity: delete it, and the images"):
        kept_judged_features(TinyJudge(), images, path)


def test_features_are_kept_under_what_the_caller_says_of_the_images(tmp_path: Path) -> None:
    path, made_by = tmp_path / "kept.safetensors", {"judge": "tiny", "judge_id": "tiny-1"}
    features = kept_features(path, made_by, "these", lambda: np.ones((2, 3)), mode=0o600)
    assert features.dtype == np.float32
    assert path.stat().st_mode & 0o777 == 0o600
    assert np.array_equal(kept_features(path, made_by, "these", lambda: np.zeros((2, 3))), features)
    with pytest.raises(EvaluationError, match="features of another images_sha256"):
        kept_features(path, made_by, "those", lambda: np.zeros((2, 3)))
    with pytest.raises(EvaluationError, match="1 of 2 rows of the tiny features hold NaN or infinity"):
        kept_features(tmp_path / "bad", made_by, "these", lambda: np.array([[1.0], [np.nan]]))
    assert not (tmp_path / "bad").exists()


def test_a_kept_file_says_what_made_it(tmp_path: Path) -> None:
    import safetensors

    kept_judged_features(TinyJudge(std=0.5), smooth_images(4, 0), tmp_path / "kept.safetensors")
    with safetensors.safe_open(tmp_path / "kept.safetensors", "numpy") as stream:
        told = json.loads(stream.metadata()["identity"])
    assert told["preprocessing"]["std"] == [0.5, 0.5, 0.5]
    assert (told["judge"], told["feature"], told["weights_sha256"]) == ("tiny-judge", "mean", TinyJudge().fingerprint)


@pytest.mark.parametrize(
    ("numbers", "dims"), [((411, 800, 64), 64), ((64, 800, 64), 16), ((400, 20, 64), 19), ((3, 800, 64), 1)]
)
def test_a_projection_is_no_wider_than_its_images_bear(numbers: tuple[int, int, int], dims: int) -> None:
    assert projection_dims(*numbers) == dims


def sets(shift: int) -> tuple[JudgedSets, FeatureProjection, tuple[np.ndarray, np.ndarray]]:
    judge = TinyJudge()
    real, generated, reconstructed = (
        smooth_images(60, 1),
        smooth_images(60, 2, brightness=shift),
        np.clip(smooth_images(60, 1).astype(int) + 2, 0, 255).astype(np.uint8),
    )
    features = [judged_features(judge, images) for images in (real, generated, reconstructed)]
    projection = FeatureProjection.fit(judged_features(judge, smooth_images(80, 3)), 6)
    return JudgedSets("tiny-judge", *features, patients=PATIENTS), projection, (real, generated)


def test_the_rows_are_torch_fidelitys_where_it_has_them() -> None:
    judged, projection, (real, generated) = sets(shift=5)
    rows = {row.metric: row for row in fidelity_rows(judged, projection, precision_recall_neighbours=5)}
    scores = torch_fidelity_scores(TinyJudge(), list(real), list(generated), num_neighbours=5)
    assert rows["frechet_full_width"].value == pytest.approx(scores.frechet_distance, rel=1e-3)
    assert rows["kid"].value == pytest.approx(scores.kernel_distance, abs=1e-5)
    assert rows["precision"].value == pytest.approx(scores.precision)
    assert rows["recall"].value == pytest.approx(scores.recall)
    at_three = torch_fidelity_scores(TinyJudge(), list(real), list(generated))
    assert (at_three.precision, at_three.recall) != (scores.precision, scores.recall)
    with registered_encoder(TinyJudge()) as name:
        assert name == judge_id(TinyJudge(), "mean")


def test_every_metric_has_its_role_floors_and_interval() -> None:
    judged, projection, _ = sets(shift=20)
    rows = fidelity_rows(judged, projection)
    assert [row.metric for row in rows] == [
        "frechet_6",
        "kid",
        "frechet_full_width",
        "cmmd",
        "precision",
        "recall",
        "density",
        "coverage",
        "frechet_6_infinity",
    ]
    assert [row.metric for row in rows if row.role == "primary"] == ["frechet_6"]
    *measured, infinity = rows
    for row in measured:
        assert row.interval is not None
        assert row.excess_interval is not None
        assert row.interval.low <= row.value <= row.interval.high
        assert row.excess_interval.estimate == pytest.approx(row.excess)
        assert row.excess == pytest.approx(row.value - (row.reconstruction_floor or 0))
        assert row.half_num_images == 30
        assert ("half-samples" in row.interval.method) == row.higher_is_better
        if row.higher_is_better:
            assert row.interval.low >= 0
    primary = measured[0]
    assert primary.excess is not None
    assert primary.excess_interval is not None
    assert primary.excess_interval.low > 0  # 20 levels brighter is seen
    assert (infinity.role, infinity.interval) == ("extrapolation", None)
    assert "nobody measured it" in infinity.note
    json.dumps([asdict(row) for row in rows], allow_nan=False)


def test_equal_distributions_are_at_the_real_floor() -> None:
    judged, projection, _ = sets(shift=0)
    kid = fidelity_rows(judged, projection)[1]
    assert kid.interval is not None
    assert kid.interval.low < 0 < kid.interval.high


def test_too_few_patients_or_images_are_counted() -> None:
    judged, projection, _ = sets(shift=0)
    parts: dict[str, Any] = {"real": judged.real, "generated": judged.generated, "reconstructed": judged.reconstructed}
    few = JudgedSets("tiny-judge", **parts, patients=list("abcd") * 15)
    with pytest.raises(EvaluationError, match="come from 4 patients; an interval over patients needs at least 10"):
        fidelity_rows(few, projection)
    small = JudgedSets("tiny-judge", **{side: part[:8] for side, part in parts.items()}, patients=PATIENTS[:8])
    with pytest.raises(EvaluationError, match="has 4 images and this measure needs at least 7"):
        fidelity_rows(small, projection)
