"""From images to features: one way to encode them with a judge, and one to keep them with what made them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.numpy import save_file

from arra_med.corpus.parquet import progress_bar
from arra_med.encoders.base import Feature, FrozenEncoder
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.feature_sets import checked_features
from arra_med.imaging.view import from_uint8
from arra_med.runs import atomic_file, sha256_json


def judge_id(encoder: FrozenEncoder, feature: Feature) -> str:
    """Returns a name made of a judge's weights, preprocessing and feature; equal ids mean equal judges."""
    settings = f"{encoder.fingerprint} {asdict(encoder.preprocessing)} {feature}"
    return f"arra-med-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def preprocessing_sha256(encoder: FrozenEncoder) -> str:
    """Returns the hash of how an encoder wants its pixels."""
    return sha256_json(asdict(encoder.preprocessing))


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


def pixels_sha256(images: np.ndarray) -> str:
    """Returns a hash of images and their order."""
    return hashlib.sha256(f"{images.shape}".encode() + np.ascontiguousarray(images).tobytes()).hexdigest()


def features_file(stem: Path, encoder: FrozenEncoder, feature: Feature = "mean") -> Path:
    """Returns where a judge's features lie: judges that differ in anything have files of their own."""
    return stem.with_name(f"{stem.name}_{judge_id(encoder, feature)}.safetensors")


def kept_features(
    path: Path,
    made_by: Mapping[str, Any],
    images_sha256: str,
    encode: Callable[[], np.ndarray],
    *,
    mode: int = 0o644,
) -> np.ndarray:
    """Reads features that an earlier call kept in a file, or encodes and keeps them.

    Args:
        path: A safetensors file; it says what made it, and of which images.
        made_by: What encodes, such as `judge_identity`; its `judge` is a name, equal `judge_id`s give equal features.
        images_sha256: Identifies the images and their order.
        encode: Makes the features, (n, D).
        mode: Permission bits of the file.

    Returns:
        float32 (n, D).

    Raises:
        EvaluationError: If the file is damaged, or of another judge or other images, or a feature is not finite.
    """
    told = {"judge_id": str(made_by["judge_id"]), "images_sha256": images_sha256}
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
                "judge, or the images, differ); nothing was overwritten: delete it, or choose another folder"
            )
        if not np.isfinite(features).all():
            raise EvaluationError(f"{path}: holds NaN or infinity: delete it, and the images are encoded again")
    else:
        features = checked_features(encode(), str(made_by["judge"])).astype(np.float32)
        with atomic_file(path, mode) as partial:
            save_file({"features": features}, partial, metadata={**told, "identity": json.dumps(dict(made_by))})
    return np.asarray(checked_features(features, str(made_by["judge"])), dtype=np.float32)


def kept_judged_features(
    encoder: FrozenEncoder, images: np.ndarray, path: Path, *, feature: Feature = "mean", name: str = ""
) -> np.ndarray:
    """Encodes images like `judged_features`, or reads what an earlier call kept; see `kept_features`."""
    return kept_features(
        path,
        judge_identity(encoder, feature),
        pixels_sha256(images),
        lambda: judged_features(encoder, images, feature=feature, name=name),
    )
