"""From a finished study to `comparison.json`: every number that the report shows, and those it can be computed from."""

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.hub import display_name
from arra_med.errors import EvaluationError
from arra_med.evaluate.comparison import (
    PAPER_REDUCTION,
    detectable,
    differences,
    effects,
    excess_effects,
    excess_intervals,
    verdicts,
)
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.features import (
    features_file,
    judge_identity,
    judged_features,
    kept_features,
    pixels_sha256,
)
from arra_med.evaluate.floors import JudgedSets, measure_with_floors, neighbour_metrics, small_set_distances
from arra_med.evaluate.frechet import frechet_distance, frechet_infinity
from arra_med.evaluate.shared_tasks import lock, read_result
from arra_med.evaluate.study_folder import LOCKS
from arra_med.evaluate.study_images import unknown_patients
from arra_med.evaluate.study_privacy import privacy_tasks, read_privacy
from arra_med.evaluate.study_readings import prompt_effect_tasks, read_agreement, read_diversity, read_utility
from arra_med.evaluate.study_run import RUN_FILE, TEST, Study
from arra_med.evaluate.study_settings import StudyConfig, StudyRun
from arra_med.evaluate.study_sites import read_sites
from arra_med.evaluate.study_teachers import teacher_rows
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.models.bundle import ModelBundle, read_bundle_info
from arra_med.runs import sha256_json, versions, write_json

COMPARISON_FILE = "comparison.json"
FORMAT_VERSION = 1
_HELD_OUT_LOSS = "eval_image_token_loss"


def compare(study: Study) -> dict[str, Any]:
    """Does what is left of a study, judges it, and writes `comparison.json` into its folder.

    Returns:
        What was written.
    """
    study.run()
    study.share("prompt effects", prompt_effect_tasks(study))
    study.share("privacy audits", privacy_tasks(study))
    with lock(study.out / LOCKS, "comparison"):
        return _judge(study)


def _judge(study: Study) -> dict[str, Any]:
    config = study.config
    primary, secondary = _distances(study, study.judge, primary=True)
    for encoder in study.secondary_judges():
        secondary += _distances(study, encoder, primary=False)[1]
    unknown = unknown_patients(study.studies, config)
    result = {
        "format_version": FORMAT_VERSION,
        "notice": SYNTHETIC_NOTICE,
        "name": config.name,
        "question": config.question,
        "exploratory": config.exploratory,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "settings": _settings(study),
        "primary": primary,
        "secondary": secondary,
        "sites": _site_distances(study),
        "held_out_loss": _held_out_losses(study),
        "guidance": {arm: study.guidance(arm).model_dump() for arm in config.arms},
        "diversity": read_diversity(study),
        "agreement": read_agreement(study),
        "utility": read_utility(study) if config.utility else None,
        "privacy": read_privacy(study),
        "compute": _compute(study),
        "teachers": teacher_rows(study),
        "unknown_patients": unknown,
        "begun": study.guards.begun,
        "notes": list(
            dict.fromkeys(
                [*study.guards.notes, *study.judge_notes, *([unknown["sentence"]] if unknown["training"] else [])]
            )
        ),
        "versions": versions(),
    }
    write_json(study.out / COMPARISON_FILE, result)
    return result


def _distances(study: Study, encoder: FrozenEncoder, *, primary: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the primary distance with everything that is said about it, and the other measures of one judge."""
    config, real = study.config, study.real(TEST)
    reals, projection = study.real_features(encoder, TEST, real), study.projection(encoder)
    drawn = {run: study.drawn_features(encoder, run) for run in config.runs()}
    measures = {**small_set_distances(projection), **neighbour_metrics()}
    per_measure = {
        name: {arm: [measure(reals, drawn[StudyRun(arm, seed)]) for seed in config.seeds] for arm in config.arms}
        for name, measure in measures.items()
    }
    first = StudyRun(config.baseline, config.seeds[0])
    bundle = ModelBundle.load(study.bundle_folder(first))
    again = _reconstructed(study, encoder, bundle, real.views)
    sets = JudgedSets(encoder.name, reals, drawn[first], again, real.patients)
    floors = {floor.distance: floor for floor in measure_with_floors(sets, small_set_distances(projection))}
    main = f"frechet_{projection.num_dims}"
    rows = [
        _secondary(study, encoder.name, name, values, floors.get(name))
        for name, values in per_measure.items()
        if not (primary and name == main)
    ]
    if not primary:
        return {}, rows
    roles = {name: arm.role for name, arm in config.arms.items()}
    controls = {name: config.controls_of(name) for name in config.of_role("treatment")}

    flat_reals = projection.apply(reals, "real")  # once, not in each of thousands of draws of patients
    flat = {run: projection.apply(values, "generated") for run, values in drawn.items()}

    def on_rows(arm: str, number: int, chosen: np.ndarray) -> float:
        return frechet_distance(flat_reals[chosen], flat[StudyRun(arm, config.seeds[number])][chosen])

    per_seed = per_measure[main]
    several = len(config.seeds) > 1
    found = effects(per_seed, roles, distance_on_rows=on_rows, patients=real.patients) if several else []
    start = config.training.start.kind
    paper = PAPER_REDUCTION["adapt" if start == "bundle" else "text"]
    infinity = {arm: [_infinity(flat_reals, flat[StudyRun(arm, seed)]) for seed in config.seeds] for arm in config.arms}
    floor = floors[main]
    above = floor.reconstruction_floor
    return {
        "measure": "squared Frechet distance on principal components of real training images",
        "judge": encoder.name,
        "judge_sha256": encoder.fingerprint,
        "num_dims": projection.num_dims,
        "explained_share": projection.explained_share,
        "start": config.start,
        "teacher": {name: _teacher(study, name) for name, arm in config.arms.items() if arm.teacher is not None},
        "split": config.judged_split,
        "n": len(real.records),
        "num_patients": len(set(real.patients)),
        "steps": config.training.steps,
        "roles": roles,
        "controls": controls,
        "per_seed": _rows(config, per_seed),
        "floors": dataclasses.asdict(floor),
        "excess_per_seed": _rows(config, {arm: [value - above for value in of] for arm, of in per_seed.items()}),
        "excess": _excess(per_seed, above),
        "excess_effects": [dataclasses.asdict(effect) for effect in excess_effects(per_seed, roles, above)]
        if several
        else [],
        "detectable": dataclasses.asdict(detectable(per_seed, config.baseline)) if several else None,
        "effects": [dataclasses.asdict(effect) for effect in found],
        "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts(found, roles, paper, controls)]
        if several
        else [],
        "paper_reduction": paper,
        "frechet_infinity": {"note": "extrapolated to infinitely many images, not measured", "per_arm": infinity},
    }, rows


def _reconstructed(study: Study, encoder: FrozenEncoder, bundle: ModelBundle, views: np.ndarray) -> np.ndarray:
    """Features (n, D) of the test images encoded and decoded, kept in the study's folder."""
    # told by what they are made of, not by the decoded pixels, whose last bit is the machine's
    told = sha256_json([pixels_sha256(views), bundle.info.training.get("tokenizer_sha256")])
    path, made_by = features_file(study.out / "real" / "reconstructed", encoder), judge_identity(encoder, "mean")
    return kept_features(path, made_by, told, lambda: judged_features(encoder, reconstruct_images(bundle, views)))


def _secondary(study: Study, judge: str, name: str, values: Mapping[str, list[float]], floor: Any) -> dict[str, Any]:
    config = study.config
    return {
        "measure": name,
        "judge": judge,
        "per_seed": _rows(config, values),
        "floors": dataclasses.asdict(floor) if floor is not None else None,
        "excess": _excess(values, floor.reconstruction_floor) if floor is not None else {},
        "differences": _differences(values, config.baseline),
    }


def _site_distances(study: Study) -> dict[str, Any] | None:
    """Distances to real images that other sites keep, of which only moments are known."""
    config, sites = study.config, read_sites(study)
    if sites is None:
        return None
    values = {
        arm: [sites.distance(study.drawn_features(study.judge, StudyRun(arm, seed))) for seed in config.seeds]
        for arm in config.arms
    }
    told = {"judge": study.judge.name, "num_sites": sites.num_sites, "num_images": sites.num_images}
    return {
        **told,
        "num_dims": sites.num_dims,
        **_secondary(study, study.judge.name, "frechet_of_moments", values, None),
    }


def _rows(config: StudyConfig, values: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"seed": seed, **{arm: values[arm][number] for arm in config.arms}} for number, seed in enumerate(config.seeds)
    ]


def _differences(values: Mapping[str, list[float]], baseline: str) -> dict[str, Any]:
    if len(values[baseline]) < 2:
        return {}
    return {arm: dataclasses.asdict(interval) for arm, interval in differences(values, baseline).items()}


def _excess(values: Mapping[str, list[float]], floor: float) -> dict[str, Any]:
    """Intervals of what lies above the tokenizer's floor: the reals and the tokenizer, so the floor, are every seed's."""
    if min(map(len, values.values())) < 2:
        return {}
    return {arm: dataclasses.asdict(interval) for arm, interval in excess_intervals(values, floor).items()}


def _infinity(real: np.ndarray, other: np.ndarray) -> float | None:
    try:
        return frechet_infinity(real, other).value
    except EvaluationError:  # too few images for halves
        return None


def _teacher(study: Study, arm: str) -> str:
    info = read_bundle_info(study.bundle_folder(StudyRun(arm, study.config.seeds[0])))
    return ", ".join(teacher["name"] for teacher in info.training["teachers"])


def _held_out_losses(study: Study) -> dict[str, Any]:
    config = study.config
    losses = {
        arm: [
            float(read_bundle_info(study.bundle_folder(StudyRun(arm, seed))).training["held_out"][_HELD_OUT_LOSS])
            for seed in config.seeds
        ]
        for arm in config.arms
    }
    return {
        "unit": "nats per image token, validation split",
        "per_seed": _rows(config, losses),
        "differences": _differences(losses, config.baseline),
    }


def _compute(study: Study) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {arm: [] for arm in study.config.arms}
    devices = set()
    for run in study.config.runs():
        told = read_result(run.folder(study.out) / RUN_FILE)
        seconds[run.arm].append(told["seconds"])
        devices.add(told["device"])
    first = StudyRun(study.config.baseline, study.config.seeds[0])
    info = read_bundle_info(study.bundle_folder(first))
    return {
        "seconds_per_training": seconds,
        "devices": sorted(devices),
        "parameters": info.training["parameters"],
        "sequences": info.training["sequences"],
        "num_training_images": info.training["num_training_images"],
    }


def _settings(study: Study) -> dict[str, Any]:
    """The settings without folders: where files lay says nothing and may name a hospital's share."""
    settings = study.config.model_dump(mode="json", exclude={"studies", "sites", "site_projection"})
    for name in ("corpus", "image_tokenizer"):
        settings["training"].pop(name)
    settings["training"]["samples"] = None
    start = settings["training"]["start"]
    for name in {"path", "model"} & start.keys():
        start[name] = Path(start[name]).name if name == "path" else display_name(start[name])
    settings["judge"] = study.judge.name
    settings["other_judges"] = [encoder.name for encoder in study.other_judges]
    for name, arm in settings["arms"].items():
        if arm["alignment"] is not None:
            arm["alignment"].pop("teacher_features")
            arm["teacher"] = _teacher(study, name)
    return {**settings, "sha256": sha256_json(settings)}
