"""`arra-med evaluate fidelity`: images of held-out reports against held-out real images, by every judge that is at hand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.config import resolve_device
from arra_med.corpus.contents import image_contents
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.config import load_encoder, parse_encoder
from arra_med.encoders.hub import read_json
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.diversity import PromptDiversity, measure_prompt_diversity
from arra_med.evaluate.drawing import draw_images, reconstruct_images
from arra_med.evaluate.features import (
    features_file,
    global_feature,
    judge_identity,
    kept_judged_features,
    pixels_sha256,
)
from arra_med.evaluate.fidelity_report import write_reports
from arra_med.evaluate.fidelity_rows import FidelityRow, fidelity_rows, projection_dims
from arra_med.evaluate.fidelity_settings import FidelityConfig
from arra_med.evaluate.floors import JudgedSets
from arra_med.evaluate.frechet import FeatureProjection
from arra_med.evaluate.held_out import HeldOutStudies, held_out_studies, require_fair_judge, training_views
from arra_med.evaluate.image_folder import read_generated_images
from arra_med.evaluate.pixel_distance import pixel_distance
from arra_med.evaluate.torch_fidelity_judge import torch_fidelity_scores
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import find_bundle
from arra_med.runs import sha256_json, versions, write_json

MIN_IMAGES = 32
"""Fewer images have no halves that a floor can be measured on."""

RUN_FILE, RESULT_FILE = "run.json", "fidelity.json"

_DIVERSITY_SEED = 1_000_000
_NO_EFFECT = {"device", "batch_size"}  # settings that change no figure


@dataclass(frozen=True)
class JudgedImages:
    """The image sets that every judge sees.

    Attributes:
        real: uint8 (n, C, S, S), held-out real images.
        generated: As many.
        reconstructed: The real ones through the tokenizer, or `None` where there is none.
        training: uint8 (m, C, S, S), real training images.
    """

    real: np.ndarray
    generated: np.ndarray
    reconstructed: np.ndarray | None
    training: np.ndarray


def measure_fidelity(config: FidelityConfig, out: Path) -> dict[str, Any]:
    """Draws, judges and reports; the same call goes on where it was stopped.

    Args:
        config: The settings.
        out: Folder of this run alone: `images`, `features`, `fidelity.json`, `fidelity.md`, `fidelity.html`.

    Returns:
        What `fidelity.json` holds.

    Raises:
        OverlapError: If a judge was a teacher or knows the images, or a held-out patient is in training.
        EvaluationError: If images are too few or cannot be read, no judge can be loaded, or `out` is another run's.
    """
    for name in config.judges:
        parse_encoder(name)  # a mistyped name is an error, a judge that is not at hand is not
    device = resolve_device(config.device)
    studies = StudySet.open(config.studies)
    bundle = None
    if config.bundle is not None:
        bundle = ModelBundle.load(find_bundle(config.bundle, studies.spec.modality), device)
    held_out = held_out_studies(
        studies, config.split, config.sources, config.num_images, at_least=config.num_images or MIN_IMAGES
    )
    _require_enough(len(held_out.rows))
    judges, missing = _load_judges(config.judges, device)
    unrecorded: dict[str, list[str]] = {}
    contents = image_contents(held_out.studies, held_out.rows)
    for name, judge in judges.items():
        told = require_fair_judge(judge, name, studies, contents, bundle.info if bundle else None)
        unrecorded[judge.name] = told
    images, held_out = _judged_images(config, out, studies, bundle, held_out)
    measured = [_judge(config, out, judge, images, held_out.patients) for judge in judges.values()]
    result = {
        "synthetic": True,
        "notice": SYNTHETIC_NOTICE,
        "settings": config.model_dump(mode="json"),
        "bundle": _told_of(bundle),
        "study_set_sha256": studies.content_sha256,
        "held_out": {
            "split": config.split,
            "sources": list(config.sources),
            "num_images": len(held_out.rows),
            "num_patients": len(set(held_out.patients)),
            "num_repeated_left_out": held_out.num_repeated,
        },
        "num_training_images": len(images.training),
        "judges": measured,
        "missing_judges": missing,
        "unrecorded": unrecorded,
        "diversity": _diversity(config, out, bundle, held_out),
        "pixel_distance": _pixel_distances(images, paired=config.images is None),
        "versions": versions(),
    }
    write_json(out / RESULT_FILE, result)
    write_reports(result, images, held_out.records, out, config.pictures)
    return result


def _require_enough(found: int) -> None:
    if found < MIN_IMAGES:
        raise EvaluationError(
            f"there are {found} images on a side and at least {MIN_IMAGES} are needed for distances with floors: give more"
        )


def _load_judges(names: Sequence[str], device: str) -> tuple[dict[str, FrozenEncoder], list[dict[str, str]]]:
    judges: dict[str, FrozenEncoder] = {}
    missing = []
    for name in names:
        try:
            judges[name] = load_encoder(name).to(device)
        except EncoderError as error:
            missing.append({"judge": name, "reason": str(error)})
    if not judges:
        raise EvaluationError(f"no judge can be loaded: {'; '.join(told['reason'] for told in missing)}")
    return judges, missing


def _judged_images(
    config: FidelityConfig, out: Path, studies: StudySet, bundle: ModelBundle | None, held_out: HeldOutStudies
) -> tuple[JudgedImages, HeldOutStudies]:
    """Draws or reads the images, at as many as there are real ones; nothing is written before `out` is this run's."""
    given = None
    if config.images is not None:
        given = read_generated_images(config.images, studies.spec, MIN_IMAGES)
        held_out = held_out.first(len(given))
        given = given[: len(held_out.rows)]
    identity = {
        "settings": config.model_dump(mode="json", exclude=_NO_EFFECT),
        "bundle_sha256": bundle.fingerprint if bundle else None,
        "study_set_sha256": studies.content_sha256,
        "images_sha256": None if given is None else pixels_sha256(given),
    }
    _claim(out, identity)
    if given is None:
        assert bundle is not None  # the configuration has a bundle or images
        given = draw_images(
            bundle,
            held_out.records,
            config.rules,
            seed=config.seed,
            out=out / "images",
            batch_size=config.batch_size,
            name="Drawing",
        )
    reconstructed = None if bundle is None else reconstruct_images(bundle, held_out.views)
    training = training_views(studies, config.sources, config.training_images)
    return JudgedImages(held_out.views, given, reconstructed, training), held_out


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Writes `run.json`, or makes sure that the one that is there is of this run."""
    path = out / RUN_FILE
    if path.exists():
        there = read_json(path)
        other = [key for key, value in identity.items() if sha256_json(there.get(key)) != sha256_json(value)]
        if other:
            raise EvaluationError(
                f"{out}: holds a run with another {', '.join(other)}; nothing was overwritten: choose another --out"
            )
    else:
        write_json(path, identity)


def _judge(
    config: FidelityConfig, out: Path, encoder: FrozenEncoder, images: JudgedImages, patients: Sequence[str]
) -> dict[str, Any]:
    feature = config.feature or global_feature(encoder)
    identity = judge_identity(encoder, feature)

    def features(part: str, pixels: np.ndarray) -> np.ndarray:
        path = features_file(out / "features" / part, encoder, feature)
        return kept_judged_features(encoder, pixels, path, feature=feature, name=f"{encoder.name}: {part}")

    real = features("real", images.real)
    generated = features("generated", images.generated)
    training = features("training", images.training)
    reconstructed = real if images.reconstructed is None else features("reconstructed", images.reconstructed)
    dims = projection_dims(len(real), len(training), config.num_dims)
    projection = FeatureProjection.fit(training, dims)
    rows = fidelity_rows(
        JudgedSets(encoder.name, real, generated, reconstructed, patients),
        projection,
        precision_recall_neighbours=config.precision_recall_neighbours,
    )
    if images.reconstructed is None:
        rows = [_without_reconstruction(row) for row in rows]
    scores = torch_fidelity_scores(
        encoder,
        list(images.real),
        list(images.generated),
        feature=feature,
        num_neighbours=config.precision_recall_neighbours,
    )
    return {
        **identity,
        "width": real.shape[1],
        "num_dims": projection.num_dims,
        "explained_share": projection.explained_share,
        "rows": [asdict(row) for row in rows],
        "torch_fidelity": asdict(scores),
    }


def _without_reconstruction(row: FidelityRow) -> FidelityRow:
    return replace(row, reconstruction_floor=None, excess=None, excess_interval=None, half_reconstruction_floor=None)


def _diversity(
    config: FidelityConfig, out: Path, bundle: ModelBundle | None, held_out: HeldOutStudies
) -> dict[str, Any]:
    """Draws several images of some prompts; beside them real images that share a report, where there are any."""
    if bundle is None or config.images is not None or not config.diversity.prompts:
        return {"generated": None, "real": None, "note": "not measured: no images of one prompt were drawn"}
    of_report = {record.report: record for record in held_out.records}
    chosen = list(of_report.values())[: config.diversity.prompts]
    repeated = [record for record in chosen for _ in range(config.diversity.images)]
    images = draw_images(
        bundle,
        repeated,
        config.rules,
        seed=config.seed + _DIVERSITY_SEED,
        out=out / "diversity",
        batch_size=config.batch_size,
        name="Drawing for diversity",
    )
    shared = [row for row, record in enumerate(held_out.records) if record.report in {r.report for r in chosen}]
    real = held_out.views[shared]
    reports = [held_out.records[row].report for row in shared]
    return {
        "generated": asdict(measure_prompt_diversity(images, [record.image_id for record in repeated])),
        "real": _told_diversity(real, reports),
        "note": "mean multi-scale SSIM of pairs of images of one prompt, mean over prompts: lower is more diverse; real: "
        "pairs of real images of those reports, wherever two images share one",
    }


def _told_diversity(images: np.ndarray, reports: Sequence[str]) -> dict[str, Any] | None:
    if len(set(reports)) == len(reports):
        return None
    measured: PromptDiversity = measure_prompt_diversity(images, reports)
    return asdict(measured)


def _pixel_distances(images: JudgedImages, paired: bool) -> dict[str, Any] | None:
    """Of each generated image to the real one whose report it was drawn from; `None` for a folder, whose rows do not pair."""
    if not paired:
        return None
    distances = pixel_distance(images.generated, images.real)
    floor = None if images.reconstructed is None else pixel_distance(images.reconstructed, images.real)
    return {
        "mean": float(distances.mean()),
        "smallest": float(distances.min()),
        "reconstruction_mean": None if floor is None else float(floor.mean()),
        "unit": "root mean squared difference in 8-bit levels, to the real image of the same report",
    }


def _told_of(bundle: ModelBundle | None) -> dict[str, Any] | None:
    if bundle is None:
        return None
    info = bundle.info
    return {
        "name": info.name,
        "variant": info.variant,
        "sha256": bundle.fingerprint,
        "licence_class": info.licence_class,
        "teachers": list(info.training.get("teachers", [])),
    }
