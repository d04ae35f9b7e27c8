"""Distances stand between their floors, floors keep patients apart, and rows survive JSON."""

import dataclasses
import json

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.floors import FlooredDistance, JudgedSets, measure_with_floors, small_set_distances
from arra_med.evaluate.frechet import FeatureProjection


def features(num: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 10)) + shift


def sets(num: int = 120, images_each: int = 1, **changes: object) -> JudgedSets:
    real = features(num, 0)
    values = {
        "judge": "fixed",
        "real": real,
        "generated": features(num, 1, shift=0.6),
        "reconstructed": real + 0.2,
        "patients": [f"p{row // images_each}" for row in range(num)],
    }
    return JudgedSets(**{**values, **changes})  # type: ignore[arg-type]


def test_each_distance_has_both_floors_and_its_excess() -> None:
    distances = small_set_distances(FeatureProjection.fit(features(500, 9), num_dims=6))
    rows = measure_with_floors(sets(), distances)
    assert [row.distance for row in rows] == ["frechet_6", "kid", "frechet_full_width", "cmmd"]
    for row in rows:
        assert (row.judge, row.num_images, row.half_num_images, row.num_splits) == ("fixed", 120, 60, 10)
        assert row.excess == row.value - row.reconstruction_floor > 0
        assert row.half_real_floor < row.half_reconstruction_floor < row.half_value
        assert row.half_real_floor_spread > 0
        assert FlooredDistance(**json.loads(json.dumps(dataclasses.asdict(row)))) == row
    full = rows[2]
    assert full.reconstruction_floor == pytest.approx(10 * 0.2**2)  # a shift of 0.2 in 10 dimensions, nothing else
    assert full.half_real_floor > rows[0].half_real_floor  # more dimensions, more estimation error


def test_a_distance_sees_patients_on_one_side_alone_and_equal_numbers() -> None:
    seen = []
    rows = np.arange(90, dtype=float)[:, None]

    def look(real: np.ndarray, other: np.ndarray) -> float:
        seen.append((real[:, 0].astype(int) // 3, other[:, 0].astype(int) // 3))
        assert len(real) == len(other)
        return 0.0

    whole = sets(90, images_each=3, real=rows, generated=rows, reconstructed=rows)
    assert measure_with_floors(whole, {"look": look}, num_splits=5)[0].half_num_images == 45
    assert len(seen) == 2 + 3 * 5
    for real, other in seen[2:]:
        assert not set(real) & set(other)


def test_halves_stay_equal_where_patients_have_many_images() -> None:
    sizes = set()

    def look(real: np.ndarray, other: np.ndarray) -> float:
        sizes.add((len(real), len(other)))
        return 0.0

    measure_with_floors(sets(120, images_each=40), {"look": look})  # three patients: 80 images and 40
    assert sizes == {(120, 120), (40, 40)}


def test_the_same_seed_gives_the_same_floors() -> None:
    distances = {"mean": lambda real, other: float(abs(real.mean() - other.mean()))}
    first, again, other = (measure_with_floors(sets(), distances, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_what_has_no_floor_is_refused() -> None:
    with pytest.raises(EvaluationError, match="reconstruct each real image once, and name each image's patient"):
        sets(reconstructed=features(119, 0))
    with pytest.raises(EvaluationError, match=r"there are 120 real images, .* and 1 patients"):
        sets(patients=["p"])
    with pytest.raises(EvaluationError, match="120 real and 100 generated images, .* draw as many from both sides"):
        sets(generated=features(100, 1))
    with pytest.raises(EvaluationError, match="120 of 120 rows of the generated features hold NaN"):
        sets(reconstructed=np.full((120, 10), np.nan))
    with pytest.raises(EvaluationError, match="come from one patient: two halves need at least two"):
        measure_with_floors(sets(images_each=120), {})
    distances = small_set_distances(FeatureProjection.fit(features(500, 9)))
    with pytest.raises(EvaluationError, match="frechet_10 on halves of the real images, .*real set has 8 images"):
        measure_with_floors(sets(16), distances)
