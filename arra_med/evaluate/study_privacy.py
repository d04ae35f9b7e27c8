"""Whether a study's arms give their training images away: copies among the test drawings, membership by likelihood."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.encoders import load_encoder
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.copy_evidence import copies_by_arm
from arra_med.evaluate.drawing import read_drawing, reconstruct_images
from arra_med.evaluate.feature_spaces import ArrayViews, encoder_space, gradient_space
from arra_med.evaluate.membership_audit import membership_by_seed
from arra_med.evaluate.shared_tasks import Task
from arra_med.evaluate.study_images import repeated_images, training_reals
from arra_med.evaluate.study_readings import or_reason
from arra_med.evaluate.study_run import JUDGE_FOLD, TEST, Study
from arra_med.evaluate.study_settings import StudyRun
from arra_med.models.bundle import ModelBundle
from arra_med.runs import write_json

COPIES_FILE, MEMBERSHIP_FILE = "copies.json", "membership.json"
_SPACE = "efficientnet_lite0"  # the judge is kept for judging


def privacy_tasks(study: Study) -> list[Task]:
    """Returns the two audits of a study's used arms, over all of its seeds."""
    if not study.config.privacy:
        return []
    copies, membership = study.out / COPIES_FILE, study.out / MEMBERSHIP_FILE
    return [
        # it tells which training image a drawing resembles
        Task("copies", copies, lambda: write_json(copies, or_reason(lambda: _copies(study)), mode=0o600)),
        Task("membership", membership, lambda: write_json(membership, or_reason(lambda: _membership(study)))),
    ]


def read_privacy(study: Study) -> dict[str, Any] | None:
    """Returns what the audits found, `None` where the study has none."""
    if not study.config.privacy:
        return None
    return {
        "copies": _without_rows(json.loads((study.out / COPIES_FILE).read_text(encoding="utf-8"))),
        "membership": json.loads((study.out / MEMBERSHIP_FILE).read_text(encoding="utf-8")),
    }


def _copies(study: Study) -> dict[str, Any]:
    """Training images among the test drawings; real images that trained no arm say how often that happens by chance."""
    names = [JUDGE_FOLD, "validation", *([TEST] if study.config.judged_split == "test" else [])]
    parts = [study.real(name) for name in names]
    held_out = np.concatenate([part.views for part in parts])
    patients = [patient for part in parts for patient in part.patients]
    bundle = ModelBundle.load(study.bundle_folder(StudyRun(study.config.baseline, study.config.seeds[0])))
    training = training_reals(study.studies, study.config, limit=None)
    finder = CopyFinder(ArrayViews(training.views), [encoder_space(load_encoder(_SPACE)), gradient_space()])
    generated = {
        arm: {seed: read_drawing(study.drawing_folder(StudyRun(arm, seed), TEST)) for seed in study.config.seeds}
        for arm in study.used_arms()
    }
    evidence = copies_by_arm(generated, finder, held_out, patients, reconstructed=reconstruct_images(bundle, held_out))
    return dataclasses.asdict(evidence)


def _membership(study: Study) -> dict[str, Any]:
    folders: dict[int, dict[str, Path]] = {
        seed: {arm: study.bundle_folder(StudyRun(arm, seed)) for arm in study.used_arms()}
        for seed in study.config.seeds
    }
    config = study.config
    return membership_by_seed(
        folders,
        study.corpus,
        baseline=config.baseline,
        source=config.held_out.source,
        left_out=sorted(repeated_images(study.studies, config)),
        progress=True,
    )


def _without_rows(copies: dict[str, Any]) -> dict[str, Any]:
    """Leaves out which training image a drawing resembles: `copies.json` stays local, the comparison is shown to others."""
    for arm in copies.get("arms", ()):
        arm["num_flagged"] = len(arm.pop("flagged"))
    return copies
