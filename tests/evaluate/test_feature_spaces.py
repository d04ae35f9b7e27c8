"""Feature spaces: batches and kept files change nothing, and a kept file is of the same images alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arra_med.encoders.base import FrozenEncoder, Preprocessing
from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_spaces import (
    ArrayViews,
    FeatureSpace,
    Query,
    encoder_space,
    gradient_descriptor,
    gradient_space,
)
from arra_med.evaluate.features import judge_id


def fixed_encoder() -> Any:
    """Describes a view by the means of its 16 cells; in place of an encoder that would have to be loaded."""

    class Cells:
        name, fingerprint, preprocessing = "cells", "cells-1", Preprocessing((4, 4), (0.0,) * 3, (1.0,) * 3)

        def to(self, device: str) -> "Cells":
            return self

        def __call__(self, views: Any) -> Any:
            import torch

            means = torch.nn.functional.adaptive_avg_pool2d(views.mean(dim=1, keepdim=True), 4).flatten(1)
            return type("Features", (), {"get": lambda self, feature: means})()

    return Cells()


def views(num: int = 40, seed: int = 0) -> ArrayViews:
    return ArrayViews(np.random.default_rng(seed).integers(0, 256, (num, 1, 16, 16), dtype=np.uint8))


def test_batches_change_no_feature() -> None:
    images = views()
    told: list[int] = []
    features = gradient_space().features(images, told.append)
    assert told == [32, 8]
    np.testing.assert_allclose(features[35:36], gradient_descriptor(images.views[35:36]), atol=1e-6)


def test_kept_features_are_read_back_and_belong_to_their_images(tmp_path: Path) -> None:
    calls: list[int] = []

    def describe(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return batch.reshape(len(batch), -1)[:, :3].astype(np.float32)

    space = FeatureSpace("raw", "raw-1", describe, lambda view: Query(np.zeros((1, 3)), np.ones((1, 3), bool)))
    images, advanced = views(5), []
    first = space.kept_features(images, tmp_path, "aa")
    again = space.kept_features(images, tmp_path, "aa", advanced.append)
    assert (calls, advanced) == ([5], [5])
    assert again.tolist() == first.tolist() == images.views.reshape(5, -1)[:, :3].tolist()
    space.kept_features(views(5, seed=1), tmp_path, "bb")
    assert calls == [5, 5]
    (tmp_path / sorted(file.name for file in tmp_path.glob("*.safetensors"))[0]).write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match="is damaged: delete it"):
        for name in ("aa", "bb"):
            space.kept_features(images, tmp_path, name)
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.glob("*.safetensors"))


def test_wrong_images_are_said() -> None:
    with pytest.raises(EvaluationError, match="images came as float64 of shape"):
        ArrayViews(np.zeros((2, 1, 8, 8)))
    with pytest.raises(EvaluationError, match=r"of shape \(2, 8, 8\): give uint8 views"):
        ArrayViews(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(EvaluationError, match="there is no image to describe"):
        gradient_space().features(ArrayViews(np.zeros((0, 1, 8, 8), np.uint8)))
    broken = FeatureSpace("broken", "b", lambda batch: np.full((len(batch), 2), np.nan, np.float32), lambda view: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(EvaluationError, match="broken: a feature is not finite"):
        broken.features(views(2))


def test_an_encoder_is_a_space() -> None:
    encoder: FrozenEncoder = fixed_encoder()
    space, images = encoder_space(encoder), views(3)
    features = space.features(images)
    np.testing.assert_allclose(space.describe_query(images.view(1)).values[0], features[1], atol=1e-6)
    assert space.fingerprint == judge_id(encoder, "mean")
