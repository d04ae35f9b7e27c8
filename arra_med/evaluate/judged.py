"""What a judge says of images: its features, kept with what made them, and every fidelity metric with floors and intervals."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import torch
from safetensors.numpy import save_file

from arra_med.corpus.parquet import progress_bar
from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.distances import PRECISION_RECALL_NEIGHBOURS, density_coverage, precision_recall
from arra_med.evaluate.feature_sets import checked_features
from arra_med.evaluate.floors import Distance, JudgedSets, measure_with_floors, small_set_distances
from arra_med.evaluate.frechet import FeatureProjection, frechet_infinity
from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.resampling import half_sample_interval, jackknife_interval
from arra_med.imaging.view import from_uint8
from arra_med.runs import atomic_file

Role = Literal["primary", "secondary", "extrapolation"]

_NEIGHBOURS_NOTE = "a count of neighbours: it depends on n, and its interval is a rough guide"


@dataclass(frozen=True)
class FidelityRow:
    """One metric of one judge. `dataclasses.asdict` of it is JSON.

    Attributes:
        metric: Which one.
        judge: Whose features.
        role: `primary` for the projected Fréchet distance; FD-infinity is an `extrapolation`.
        higher_is_better: For precision, recall, density and coverage.
        num_images: On each side.
        value: Generated against real.
        interval: Of the value, over patients.
        reconstruction_floor: Reconstructed against real, the same images; `None` where there is no tokenizer.
        excess: `value - reconstruction_floor`, what the model adds to its tokenizer.
        excess_interval: Of the excess, over patients.
        half_num_images: Images on each side of the following, which are means over random halves of the patients and
            comparable with each other, not with `value`.
        half_real_floor: Real against real.
        half_real_floor_spread: Its standard deviation over the splits.
        half_reconstruction_floor: Reconstructed against real.
        half_value: Generated against real.
        note: What a reader must know of this metric.
    """

    metric: str
    judge: str
    role: Role
    higher_is_better: bool
    num_images: int
    value: float
    interval: Interval | None
    reconstruction_floor: float | None
    excess: float | None
    excess_interval: Interval | None
    half_num_images: int | None
    half_real_floor: float | None
    half_real_floor_spread: float | None
    half_reconstruction_floor: float | None
    half_value: float | None
    note: str = ""


def judge_id(encoder: FrozenEncoder, feature: Feature) -> str:
    """Returns a name made of a judge's weights, preprocessing and feature; equal ids mean equal judges."""
    settings = f"{encoder.fingerprint} {asdict(encoder.preprocessing)} {feature}"
    return f"arra-med-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def judge_identity(encoder: FrozenEncoder, feature: Feature) -> dict[str, Any]:
    """Returns what stands beside every number of a judge: name, id, weights, preprocessing and feature."""
    return {
        "judge": encoder.name,
        "judge_id": judge_id(encoder, feature),
        "weights_sha256": encoder.fingerprint,
        "preprocessing": asdict(encoder.preprocessing),
        "feature": feature,
    }


def global_feature(encoder: FrozenEncoder) -> Feature:
    """Returns which feature of an encoder judges by default: its own global embedding, else the mean of its patches."""
    try:
        encoder.width("cls")
    except EncoderError:
        return "mean"
    return "cls"


def judged_features(
    encoder: FrozenEncoder, images: np.ndarray, *, feature: Feature = "mean", batch_size: int = 16, name: str = ""
) -> np.ndarray:
    """Encodes images with a judge.

    Args:
        encoder: The judge, on the device to use.
        images: uint8 (n, C, S, S), C of 1 or 3.
        feature: A global feature of it.
        batch_size: Images at once.
        name: What a progress bar on stderr says; none without a name.

    Returns:
        float32 (n, D).

    Raises:
        EvaluationError: If images are none, of another kind, or a feature is not finite.
        EncoderError: If the encoder has no such feature.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images) or feature == "patch":
        raise EvaluationError(
            f"images have shape {images.shape} and type {images.dtype}, judged by {feature}: give uint8 (n, C, S, S), "
            "at least one, and a feature that is one vector for each image"
        )
    parts = []
    with progress_bar(name, len(images), bool(name)) as advance:
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(from_uint8(images[start : start + batch_size]))
            parts.append(encoder(batch).get(feature).float().cpu().numpy())
            advance(len(batch))
    features = np.concatenate(parts)
    checked_features(features, encoder.name)
    return features


def kept_features(
    encoder: FrozenEncoder, images: np.ndarray, path: Path, *, feature: Feature = "mean", name: str = ""
) -> np.ndarray:
    """Encodes images like `judged_features`, or reads what an earlier call kept in `path`.

    The file says which judge made it, weights and preprocessing, and of which images.

    Raises:
        EvaluationError: As `judged_features`, or if the file is damaged, or of another judge or other images.
    """
    pixels = hashlib.sha256(f"{images.shape}".encode() + np.ascontiguousarray(images).tobytes()).hexdigest()
    told = {"judge_id": judge_id(encoder, feature), "images_sha256": pixels}
    identity = {"identity": json.dumps(judge_identity(encoder, feature))}
    if path.exists():
        try:
            with safetensors.safe_open(path, "numpy") as stream:
                found, features = dict(stream.metadata() or {}), stream.get_tensor("features")
        except (OSError, safetensors.SafetensorError):
            raise EvaluationError(f"{path}: is damaged: delete it, and the images are encoded again") from None
        other = [key for key, value in told.items() if found.get(key) != value]
        if other:
            raise EvaluationError(
                f"{path}: holds features of another {' and '.join(other)} (weights, preprocessing or feature of the "
                "judge, or the images, differ); nothing was overwritten: choose another folder"
            )
        return np.asarray(checked_features(features, encoder.name), dtype=np.float32)
    features = judged_features(encoder, images, feature=feature, name=name)
    with atomic_file(path) as partial:
        save_file({"features": features}, partial, metadata={**told, **identity})
    return features


def projection_dims(num_images: int, num_training_images: int, wanted: int) -> int:
    """Returns how many dimensions a projection can have: a quarter of the images, and fewer than the training images.

    Half of the images, which floors are measured on, then are still twice as many as dimensions.
    """
    return max(1, min(wanted, num_images // 4, num_training_images - 1))


def fidelity_rows(
    sets: JudgedSets,
    projection: FeatureProjection,
    *,
    seed: int = 0,
    precision_recall_neighbours: int = PRECISION_RECALL_NEIGHBOURS,
) -> list[FidelityRow]:
    """Measures everything that one judge's features tell, with both floors and intervals over patients.

    Args:
        sets: The features.
        projection: Fitted to real training images with the same judge.
        seed: Of the splits, of the groups of patients and of the subsets behind FD-infinity.
        precision_recall_neighbours: k of precision and recall; density and coverage have k = 5.

    Returns:
        The primary distance first.

    Raises:
        EvaluationError: If images or patients are too few for a metric; the message says how many there are.
    """
    primary = f"frechet_{projection.num_dims}"
    distances = small_set_distances(projection)
    neighbours = _neighbour_metrics(precision_recall_neighbours)
    metrics: Mapping[str, Distance] = {**distances, **neighbours}
    rows = []
    for floored in measure_with_floors(sets, metrics, seed=seed):
        metric = metrics[floored.distance]
        interval_of = half_sample_interval if floored.distance in neighbours else jackknife_interval
        interval = interval_of(partial(_value, metric, sets), sets.patients, seed=seed)
        if floored.distance in neighbours:  # shares are never negative; density alone may pass 1
            highest = np.inf if floored.distance == "density" else 1.0
            interval = replace(interval, low=max(0.0, interval.low), high=min(highest, interval.high))
        rows.append(
            FidelityRow(
                metric=floored.distance,
                judge=sets.judge,
                role="primary" if floored.distance == primary else "secondary",
                higher_is_better=floored.distance in neighbours,
                num_images=floored.num_images,
                value=floored.value,
                interval=interval,
                reconstruction_floor=floored.reconstruction_floor,
                excess=floored.excess,
                excess_interval=interval_of(partial(_excess, metric, sets), sets.patients, seed=seed),
                half_num_images=floored.half_num_images,
                half_real_floor=floored.half_real_floor,
                half_real_floor_spread=floored.half_real_floor_spread,
                half_reconstruction_floor=floored.half_reconstruction_floor,
                half_value=floored.half_value,
                note=_NEIGHBOURS_NOTE if floored.distance in neighbours else "",
            )
        )
    return [*rows, _infinity_row(sets, projection, seed)]


def _neighbour_metrics(num_neighbours: int) -> dict[str, Distance]:
    pair = partial(precision_recall, num_neighbours=num_neighbours)
    return {
        "precision": lambda real, other: pair(real, other).precision,
        "recall": lambda real, other: pair(real, other).recall,
        "density": lambda real, other: density_coverage(real, other).density,
        "coverage": lambda real, other: density_coverage(real, other).coverage,
    }


def _value(metric: Callable[[np.ndarray, np.ndarray], float], sets: JudgedSets, rows: np.ndarray) -> float:
    return metric(sets.real[rows], sets.generated[rows])


def _excess(metric: Callable[[np.ndarray, np.ndarray], float], sets: JudgedSets, rows: np.ndarray) -> float:
    return metric(sets.real[rows], sets.generated[rows]) - metric(sets.real[rows], sets.reconstructed[rows])


def _infinity_row(sets: JudgedSets, projection: FeatureProjection, seed: int) -> FidelityRow:
    """FD-infinity on the projection: the end of a line, without an interval."""
    real = projection.apply(sets.real, "real")
    value = frechet_infinity(real, projection.apply(sets.generated, "generated"), seed=seed).value
    floor = frechet_infinity(real, projection.apply(sets.reconstructed, "reconstructed"), seed=seed).value
    return FidelityRow(
        metric=f"frechet_{projection.num_dims}_infinity",
        judge=sets.judge,
        role="extrapolation",
        higher_is_better=False,
        num_images=len(sets.real),
        value=value,
        interval=None,
        reconstruction_floor=floor,
        excess=value - floor,
        excess_interval=None,
        half_num_images=None,
        half_real_floor=None,
        half_real_floor_spread=None,
        half_reconstruction_floor=None,
        half_value=None,
        note="an extrapolation to infinitely many images: nobody measured it",
    )
