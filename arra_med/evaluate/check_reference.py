"""The reference of the quality gate: what real images look like, and every threshold, in one small file.

It holds means and main directions of at least a hundred images, counts, and what made it: no image, no feature of a
single image, no id and no label. It takes the licence class of its study set.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arra_med.config import StrictModel
from arra_med.encoders.base import Feature
from arra_med.errors import EvaluationError
from arra_med.evaluate.novelty import PrincipalGaussian
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import LicenceClass
from arra_med.records.study import Split
from arra_med.runs import atomic_file, sha256_file

FORMAT_VERSION = 1
CHECK_FILE = "check.safetensors"
"""Its name in a bundle's folder."""

Part = Literal["encoder", "layout"]
PARTS: tuple[Part, ...] = ("encoder", "layout")

_METADATA_KEY = "arra_med"
_TENSORS = ("mean", "components", "variances", "residual_variance")


class CopyThreshold(StrictModel):
    """What counts as a near copy of a training image, as `evaluate.copies.Threshold`.

    Attributes:
        similarity: SSIM after registration; images above it are copies.
        false_alarm_rate: At most this share of held-out real images lies above it...
        confidence: ...with this confidence.
        num_images: Held-out images that it was read off.
        num_above: Those of them that lie above it.
    """

    similarity: float
    false_alarm_rate: float
    confidence: float
    num_images: int
    num_above: int


class CheckReferenceInfo(StrictModel):
    """What a reference says of itself.

    Attributes:
        format_version: Of the file.
        spec: The canonical view of its images.
        encoder: Name of the encoder, which `--check-encoder` may replace by where the same weights lie.
        judge_id: Of its weights, preprocessing and feature.
        encoder_sha256: Its weights.
        feature: Which of its global features.
        study_set_sha256: The study set behind it.
        sources: Of that set.
        licence_class: Of that set.
        num_training: Real training images that the Gaussians were fitted to.
        held_out_splits: The splits that the thresholds were read off.
        num_held_out: Real images of these.
        num_held_out_above: Those of them that lie above the threshold.
        pass_rate: Share of real images that the threshold shall pass.
        scales: By part, the distance that this share of the held-out images stays within; a novelty is the larger
            distance in these units.
        novelty: Images above it are rejected.
        quality: Likewise for scores of `imaging.quality.quality_scores`, by name.
        duplicate: Likewise for the correlation with another image of the request.
        copies: What counts as a near copy of a training image; none: not calibrated.
        versions: Of Python and the libraries.
    """

    format_version: int = FORMAT_VERSION
    spec: CanonicalView
    encoder: str
    judge_id: str
    encoder_sha256: str
    feature: Feature
    study_set_sha256: str
    sources: tuple[str, ...]
    licence_class: LicenceClass
    num_training: int
    held_out_splits: tuple[Split, ...]
    num_held_out: int
    num_held_out_above: int
    pass_rate: float
    scales: dict[Part, float]
    novelty: float
    quality: dict[str, float]
    duplicate: float
    copies: CopyThreshold | None = None
    versions: dict[str, str]


@dataclass(frozen=True)
class CheckReference:
    """A reference.

    Attributes:
        info: What it says of itself.
        gaussians: What real images look like, by part.
        sha256: Of the file; empty before it is written.
    """

    info: CheckReferenceInfo
    gaussians: dict[Part, PrincipalGaussian]
    sha256: str = ""

    def require_view(self, spec: CanonicalView) -> None:
        """Makes sure that it can judge images of this view.

        Raises:
            EvaluationError: If modality or size differ.
        """
        for name, own, other in (
            ("modality", self.info.spec.modality, spec.modality),
            ("size_px", self.info.spec.size_px, spec.size_px),
        ):
            if own != other:
                raise EvaluationError(
                    f"the check's reference was fitted to {name} {own} and the images have {other}: fit one to a study "
                    "set of the bundle's view (arra-med check fit)"
                )

    def require_encoder(self, judge_id: str, name: str) -> None:
        """Makes sure that an encoder is the one the reference was fitted with: by content, not by name.

        Raises:
            EvaluationError: If weights, preprocessing or feature differ.
        """
        if judge_id != self.info.judge_id:
            raise EvaluationError(
                f"the check's reference was fitted with {self.info.encoder} (weights "
                f"{self.info.encoder_sha256[:12]}) and {name} has other weights, preprocessing or feature: give the same "
                "encoder with --check-encoder, or fit the reference again (arra-med check fit)"
            )

    @property
    def content_sha256(self) -> str:
        """Identifies the numbers, whatever wrote them."""
        digest = hashlib.sha256()
        for name, array in sorted(_arrays(self.gaussians).items()):
            digest.update(f"{name} {array.shape}\n".encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()


def write_check_reference(reference: CheckReference, path: Path) -> None:
    """Writes a reference (safetensors, float32, its description in the header), atomically."""
    described = json.dumps(reference.info.model_dump(mode="json"), sort_keys=True)
    with atomic_file(path) as partial:
        save_file(_arrays(reference.gaussians), partial, metadata={_METADATA_KEY: described})


def read_check_reference(path: Path) -> CheckReference:
    """Reads a reference.

    Raises:
        EvaluationError: If it is missing, damaged, of another format version, or its numbers cannot be.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            values = json.loads((file.metadata() or {}).get(_METADATA_KEY, ""))
    except FileNotFoundError:
        raise EvaluationError(
            f"{path}: no reference for the check is there; fit one (arra-med check fit STUDIES --out {CHECK_FILE}) or "
            "leave out --check"
        ) from None
    except (OSError, ValueError, SafetensorError):
        raise EvaluationError(f"{path}: is damaged or no reference of a check; copy it or fit it again") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise EvaluationError(f"{path}: has format version {version}, this program reads {FORMAT_VERSION}: fit again")
    try:
        info = CheckReferenceInfo.model_validate(values)
    except pydantic.ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise EvaluationError(f"{path}: its description is not valid at {keys}; fit again") from None
    numbers = [info.novelty, info.duplicate, *info.quality.values(), *info.scales.values()]
    names = {f"{part}.{name}" for part in PARTS for name in _TENSORS}
    if set(arrays) != names or set(info.scales) != set(PARTS) or any(a.dtype != np.float32 for a in arrays.values()):
        raise EvaluationError(f"{path}: must hold a Gaussian and a scale of {' and '.join(PARTS)}; fit again")
    if not all(np.isfinite(array).all() for array in (*arrays.values(), np.array(numbers))):
        raise EvaluationError(f"{path}: holds NaN or infinity; fit it again from finite features")
    return CheckReference(info, {part: _gaussian(arrays, part, path) for part in PARTS}, sha256_file(path))


def _arrays(gaussians: dict[Part, PrincipalGaussian]) -> dict[str, np.ndarray]:
    return {
        f"{part}.{name}": np.ascontiguousarray(np.atleast_1d(getattr(gaussian, name)), dtype=np.float32)
        for part, gaussian in gaussians.items()
        for name in _TENSORS
    }


def _gaussian(arrays: dict[str, np.ndarray], part: Part, path: Path) -> PrincipalGaussian:
    mean, components, variances, rest = (arrays[f"{part}.{name}"] for name in _TENSORS)
    fits = components.shape == (len(variances), len(mean)) and rest.shape == (1,) and mean.ndim == variances.ndim == 1
    if not fits or (variances <= 0).any() or rest[0] <= 0:
        raise EvaluationError(f"{path}: the numbers of its {part} part are no Gaussian's; fit it again")
    return PrincipalGaussian(mean, components, variances, float(rest[0]))
