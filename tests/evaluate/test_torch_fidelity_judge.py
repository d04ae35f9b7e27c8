"""torch-fidelity with our encoders: its own numbers agree with our float64 kernels, offline, leaving nothing behind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.distances import kernel_distance, precision_recall
from arra_med.evaluate.frechet import frechet_distance
from arra_med.evaluate.torch_fidelity_judge import registered_encoder, torch_fidelity_scores


class TinyEncoder(FrozenEncoder):
    """One random convolution, 8 features."""

    def __init__(self, std: float = 0.25, factor: float = 1.0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.factor = factor
        super().__init__("tiny", network, Preprocessing((32, 32), (0.5, 0.5, 0.5), (std, std, std)))

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        return features_from_map(torch.relu(self.network(pixels)) * self.factor)


def images(num: int, seed: int, brightness: int = 0, size: int = 40, channels: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = rng.normal(0, 25, (num, channels, 5, 5)).repeat(size // 5, axis=2).repeat(size // 5, axis=3)
    noise = rng.normal(0, 12, (num, channels, size, size))
    return list(np.clip(smooth + noise + 110 + brightness, 0, 255).astype(np.uint8))


def features_of(encoder: FrozenEncoder, views: list[np.ndarray]) -> np.ndarray:
    return encoder(torch.from_numpy(np.stack(views)).float() / 255).mean.double().numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_its_numbers_are_those_of_our_kernels(channels: int) -> None:
    encoder = TinyEncoder()
    real, generated = images(70, 1, channels=channels), images(70, 2, brightness=4, channels=channels)
    scores = torch_fidelity_scores(encoder, real, generated)
    first, second = features_of(encoder, real), features_of(encoder, generated)
    expected = precision_recall(first, second)
    assert scores.frechet_distance == pytest.approx(frechet_distance(first, second), rel=1e-4)
    assert scores.kernel_distance == pytest.approx(kernel_distance(first, second), abs=1e-5)
    assert (scores.precision, scores.recall) == pytest.approx((expected.precision, expected.recall))
    assert expected.precision != expected.recall  # or the sides could be swapped unseen
    assert (scores.judge, scores.num_images) == ("tiny", 70)


def test_the_same_images_have_no_distance() -> None:
    scores = torch_fidelity_scores(TinyEncoder(), images(20, 1), images(20, 1))
    assert scores.frechet_distance == pytest.approx(0, abs=1e-5)
    assert (scores.precision, scores.recall) == (1.0, 1.0)


def test_a_registration_ends_and_its_name_tells_judges_apart() -> None:
    before = dict(FEATURE_EXTRACTORS_REGISTRY)
    names = []
    for encoder in (TinyEncoder(), TinyEncoder(), TinyEncoder(std=0.5)):
        with registered_encoder(encoder) as name:
            assert name in FEATURE_EXTRACTORS_REGISTRY
            with registered_encoder(encoder) as again:
                assert again == name
            assert name in FEATURE_EXTRACTORS_REGISTRY
        names.append(name)
    assert before == FEATURE_EXTRACTORS_REGISTRY
    assert names[0] == names[1] != names[2]  # the same weights with other preprocessing are another judge


def test_nothing_is_fetched_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("torch-fidelity went to the network or the disk")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", forbidden)
    monkeypatch.setattr("torch_fidelity.utils.torch_atomic_save", forbidden)
    monkeypatch.setattr("os.makedirs", forbidden)
    torch_fidelity_scores(TinyEncoder(), images(10, 1), images(10, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda real, made: (real, made[:3]), "generated set has 3 images and the judge needs at least 4: give more"),
        (lambda real, made: ([], made), "real set has 0 images and the judge needs at least 4"),
        (lambda real, made: (real, made[:9]), "10 real and 9 generated images, and FID depends on their number"),
        (
            lambda real, made: (real, images(10, 2, size=20)),
            r"shapes 1x40x40 \(real\) and 1x20x20 \(generated\), .*canonical views \(C, S, S\) of one size",
        ),
        (
            lambda real, made: (real[:5] + images(5, 1, size=20), made),
            r"shapes 1x20x20, 1x40x40 \(real\) and 1x40x40 \(generated\)",
        ),
        (lambda real, made: ([x[0] for x in real], [x[0] for x in made]), r"shapes 40x40 \(real\) and 40x40"),
        (lambda real, made: (real, [x / 255 for x in made]), "generated images are of type float64: give uint8"),
    ],
)
def test_sets_that_cannot_be_judged_are_refused(change: Callable[..., Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        torch_fidelity_scores(TinyEncoder(), *change(images(10, 1), images(10, 2)))


def test_a_feature_that_is_no_vector_or_not_there_or_not_finite_is_refused() -> None:
    real, generated = images(10, 1), images(10, 2)
    with pytest.raises(
        EvaluationError, match="'patch' is many vectors for each image: judge by cls, mean or trunk-cls"
    ):
        torch_fidelity_scores(TinyEncoder(), real, generated, feature="patch")
    with pytest.raises(EncoderError, match="this encoder has only mean, patch"):
        torch_fidelity_scores(TinyEncoder(), real, generated, feature="cls")
    with pytest.raises(EvaluationError, match="NaN or infinity in the features of tiny"):
        torch_fidelity_scores(TinyEncoder(factor=float("nan")), real, generated)
