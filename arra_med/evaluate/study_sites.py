"""Real images that stay where they are: a study's drawings against the merged moments of other sites."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arra_med.errors import EvaluationError
from arra_med.evaluate.features import preprocessing_sha256
from arra_med.evaluate.frechet import Moments, frechet_distance_of_moments
from arra_med.evaluate.site_moments import SiteMoments, merged_sites, read_site_moments, site_projection
from arra_med.evaluate.study_run import Study


@dataclass(frozen=True)
class SiteReals:
    """The real images of all sites together, as far as they may be known.

    Attributes:
        num_sites: Files.
        num_images: Images behind them.
        num_dims: Dimensions that are compared.
        distance: From drawn features (n, D) at the judge's full width to the Fréchet distance.
    """

    num_sites: int
    num_images: int
    num_dims: int
    distance: Callable[[np.ndarray], float]


def read_sites(study: Study) -> SiteReals | None:
    """Reads and merges the files of a study's sites.

    Returns:
        `None` where the study names no site.

    Raises:
        EvaluationError: If a file is missing or damaged, is of generated images, of another judge, preprocessing, feature
            or canonical view than the study's, or projected with other training moments than `site_projection` holds.
    """
    paths = study.config.sites
    if not paths:
        return None
    sites = [read_site_moments(path) for path in paths]
    for path, site in zip(paths, sites, strict=True):
        if site.info.generated:
            raise EvaluationError(f"{path}: holds moments of generated images; a study needs those of real ones")
        for told, ours in _judged_by(study).items():
            if getattr(site.info, told) != ours:
                raise EvaluationError(
                    f"{path}: has another {told} than this study's judge {study.judge.name}: export it with the study's "
                    "judge, at its size, with --feature mean"
                )
    merged = sites[0] if len(sites) == 1 else merged_sites(sites)
    project = _projection(study, merged)

    def distance(drawn: np.ndarray) -> float:
        return frechet_distance_of_moments(merged.moments, Moments.of(project(drawn), "generated"))

    return SiteReals(len(sites), merged.info.num_images, len(merged.moments.mean), distance)


def _judged_by(study: Study) -> dict[str, Any]:
    """What moments must say of their judge to stand beside the drawings of a study."""
    return {
        "judge_sha256": study.judge.fingerprint,
        "preprocessing_sha256": preprocessing_sha256(study.judge),
        "feature": "mean",  # as `drawn_features` takes it
        "spec": study.studies.spec,
    }


def _projection(study: Study, merged: SiteMoments) -> Callable[[np.ndarray], np.ndarray]:
    described, path = merged.info.projection, study.config.site_projection
    if described is None:
        return lambda features: features
    if path is None:
        raise EvaluationError(
            "the sites' moments are projected: give the training moments they used as site_projection"
        )
    training = read_site_moments(path)
    if training.content_sha256 != described.training_sha256:
        raise EvaluationError(f"{path}: is not what the sites' moments were projected with: give that file")
    return site_projection(training, described.num_dims).apply
