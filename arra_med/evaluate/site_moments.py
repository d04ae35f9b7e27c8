"""Moments of a judge's features in one small file: what a site may give away that may not share images.

A file holds the number of images, mean, covariance, and what judged them; no id, no label, no count for a label.
Moments are not anonymous by themselves: whoever holds an image and the judge can ask whether the image is among few
ones (`docs/sites_and_reading.md`), so small sets are refused.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from arra_med.config import StrictModel
from arra_med.encoders.base import Feature
from arra_med.errors import EvaluationError
from arra_med.evaluate.frechet import MAX_PROJECTED_DIMS, FeatureProjection, frechet_distance_of_moments
from arra_med.evaluate.moments import Moments
from arra_med.imaging.view import CanonicalView
from arra_med.runs import atomic_file, versions

FORMAT_VERSION = 1
_METADATA_KEY = "arra_med"
_TENSORS = ("mean", "covariance")


class ProjectionInfo(StrictModel):
    """Onto what features were projected before their moments were taken.

    Attributes:
        training_sha256: Content of the moments of real training images that the directions come from.
        num_dims: Directions.
    """

    training_sha256: str
    num_dims: int


class SiteMomentsInfo(StrictModel):
    """What a file says of its moments.

    Attributes:
        format_version: Of the file.
        num_images: Images behind the moments.
        judge: Name of the encoder.
        judge_sha256: Its weights.
        preprocessing_sha256: How it wants its pixels.
        feature: Which of its global features.
        spec: The canonical view of all images.
        generated: Whether the images are synthetic.
        projection: `None` for the features' full width.
        versions: Of Python and the libraries.
    """

    format_version: int = FORMAT_VERSION
    num_images: int
    judge: str
    judge_sha256: str
    preprocessing_sha256: str
    feature: Feature
    spec: CanonicalView
    generated: bool
    projection: ProjectionInfo | None = None
    versions: dict[str, str]


@dataclass(frozen=True)
class SiteMoments:
    """Moments and what they are of.

    Attributes:
        info: The description.
        moments: The numbers.
    """

    info: SiteMomentsInfo
    moments: Moments

    @property
    def content_sha256(self) -> str:
        """Identifies the numbers: equal for equal moments, whoever took them."""
        arrays = (np.array([self.moments.num_images]), self.moments.mean, self.moments.covariance)
        return hashlib.sha256(b"".join(np.ascontiguousarray(array, "<f8").tobytes() for array in arrays)).hexdigest()


def site_projection(training: SiteMoments, num_dims: int = MAX_PROJECTED_DIMS) -> FeatureProjection:
    """Returns the projection that training moments fix, on `num_dims` directions.

    Raises:
        EvaluationError: If they are of generated images, or projected already.
    """
    if training.info.generated or training.info.projection is not None:
        kind = "generated images" if training.info.generated else "projected features"
        raise EvaluationError(
            f"a projection comes from full-width moments of real training images, these are of {kind}: export them anew"
        )
    return FeatureProjection.of_moments(training.moments, num_dims)


def merged_sites(sites: Sequence[SiteMoments]) -> SiteMoments:
    """Returns the moments of all sites' images together, exactly as if they had been in one set.

    Raises:
        EvaluationError: If there are fewer than two sites, one is given twice, or they do not fit together.
    """
    if len(sites) < 2:
        raise EvaluationError(f"{len(sites)} file of moments was given; a merge needs at least two sites")
    names = [f"file {number}" for number in range(1, len(sites) + 1)]
    require_same_judge([site.info for site in sites], names)
    if len({site.info.generated for site in sites}) > 1:
        raise EvaluationError("some of the files are of real images and some of generated ones: merge each kind apart")
    contents = [site.content_sha256 for site in sites]
    for number, content in enumerate(contents):
        if (first := contents.index(content)) < number:
            raise EvaluationError(f"files {first + 1} and {number + 1} hold the same moments: give each site once")
    merged = Moments.merged([site.moments for site in sites])
    told = {"num_images": merged.num_images, "versions": versions()}
    return SiteMoments(sites[0].info.model_copy(update=told), merged)


def require_same_judge(infos: Sequence[SiteMomentsInfo], names: Sequence[str]) -> None:
    """Makes sure that moments can be added up or compared: by content, not by the judge's name.

    Raises:
        EvaluationError: If judge, preprocessing, feature, canonical view or projection differ; `names` says which.
    """
    for name, info in zip(names[1:], infos[1:], strict=True):
        for told, remedy in (
            ("judge_sha256", "judge all images with the same weights"),
            ("preprocessing_sha256", "judge all images with the same preprocessing"),
            ("feature", "export the same feature everywhere"),
            ("spec", "ingest everywhere with the same modality, size and version"),
            ("projection", "export all with the same --projection, or all without"),
        ):
            first, other = getattr(infos[0], told), getattr(info, told)
            if first != other:
                shown = [str(value)[:12] if told.endswith("sha256") else str(value) for value in (first, other)]
                raise EvaluationError(
                    f"{names[0]} and {name} differ in {told}: {infos[0].judge} {shown[0]} against {info.judge} "
                    f"{shown[1]}: {remedy}"
                )


def write_site_moments(site: SiteMoments, path: Path) -> None:
    """Writes a file of moments (safetensors, float64), atomically."""
    tensors = {name: np.ascontiguousarray(getattr(site.moments, name), dtype=np.float64) for name in _TENSORS}
    with atomic_file(path) as partial:
        save_file(tensors, partial, metadata={_METADATA_KEY: json.dumps(site.info.model_dump(mode="json"))})


def read_site_moments(path: Path) -> SiteMoments:
    """Reads a file of moments.

    Raises:
        EvaluationError: If it is missing, damaged, of another format version, or holds what no covariance can be.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names, described = set(file.keys()), (file.metadata() or {}).get(_METADATA_KEY, "")
            arrays = {name: file.get_tensor(name) for name in names & set(_TENSORS)}
        values = json.loads(described)
    except FileNotFoundError:
        raise EvaluationError(f"{path}: is not there; give a file that `arra-med moments export` wrote") from None
    except (OSError, ValueError, SafetensorError):
        raise EvaluationError(f"{path}: is damaged or no file of moments; copy it again") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise EvaluationError(
            f"{path}: has format version {version}, this program reads {FORMAT_VERSION}: export again"
        )
    try:
        info = SiteMomentsInfo.model_validate(values)
    except pydantic.ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise EvaluationError(f"{path}: its description is not valid at {keys}; export again") from None
    if names != set(_TENSORS) or any(array.dtype != np.float64 for array in arrays.values()):
        raise EvaluationError(f"{path}: must hold mean and covariance in float64 and nothing else; export again")
    try:
        site = SiteMoments(info, Moments(info.num_images, arrays["mean"], arrays["covariance"]))
        site.moments.root()
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}") from None
    return site


@dataclass(frozen=True)
class SiteDistance:
    """A Fréchet distance between two files of moments. `dataclasses.asdict` of it is JSON.

    Attributes:
        value: The squared distance.
        judge: Name of the encoder.
        judge_sha256: Its weights.
        feature: Which of its features.
        num_dims: Dimensions compared.
        projected: Whether they are a projection's.
        explained_share: Share of the training images' variance in them; `None` where it is not known or not projected.
        num_images: On the first and the second side.
        generated: Whether each side is synthetic.
    """

    value: float
    judge: str
    judge_sha256: str
    feature: str
    num_dims: int
    projected: bool
    explained_share: float | None
    num_images: tuple[int, int]
    generated: tuple[bool, bool]


def site_distance(
    first: SiteMoments,
    second: SiteMoments,
    *,
    training: SiteMoments | None = None,
    num_dims: int = MAX_PROJECTED_DIMS,
    allow_unequal: bool = False,
) -> SiteDistance:
    """Compares two files of moments.

    Args:
        first: Moments, merged or of one site.
        second: As well.
        training: Full-width moments of other real images; both sides are then projected onto their directions.
        num_dims: Directions of that projection.
        allow_unequal: Whether the numbers of images may differ, although the distance depends on them.

    Raises:
        EvaluationError: If the files do not fit together, the numbers differ, or a side has not more images than the
            projection has dimensions.
    """
    sides, names = [first, second], ["the first file", "the second file"]
    require_same_judge([side.info for side in sides], names)
    num_images = (first.info.num_images, second.info.num_images)
    if num_images[0] != num_images[1] and not allow_unequal:
        raise EvaluationError(
            f"the files hold {num_images[0]} and {num_images[1]} images, and this distance depends on their number: "
            "generate as many as there are real ones, or give --allow-unequal and say so beside the value"
        )
    moments, share = [side.moments for side in sides], None
    if training is not None:
        if first.info.projection is not None:
            raise EvaluationError("the files are projected already: leave out --projection")
        projection = site_projection(training, num_dims)
        require_same_judge([training.info, first.info], ["the training moments", names[0]])
        if training.content_sha256 in (first.content_sha256, second.content_sha256):
            raise EvaluationError(
                "the projection comes from one of the compared sets: give moments of other real images"
            )
        share = projection.explained_share
        moments = [projection.apply_to_moments(each) for each in moments]
    width = len(moments[0].mean)
    projected = training is not None or first.info.projection is not None
    if projected and min(num_images) <= width:
        raise EvaluationError(f"a side has {min(num_images)} images, a projection on {width} needs more: add images")
    return SiteDistance(
        value=frechet_distance_of_moments(*moments),
        judge=first.info.judge,
        judge_sha256=first.info.judge_sha256,
        feature=first.info.feature,
        num_dims=width,
        projected=projected,
        explained_share=share,
        num_images=num_images,
        generated=(first.info.generated, second.info.generated),
    )
