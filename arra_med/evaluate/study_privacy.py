"""Whether a study's arms give their training images away: copies among the test drawings, membership by likelihood."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.encoders import load_encoder
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.copy_evidence import copies_by_arm
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.feature_spaces import ArrayViews, encoder_space, gradient_space
from arra_med.evaluate.membership_audit import membership_of_seed, membership_over_seeds
from arra_med.evaluate.shared_tasks import Task, read_result
from arra_med.evaluate.study_images import repeated_images, training_reals
from arra_med.evaluate.study_readings import or_reason
from arra_med.evaluate.study_run import JUDGE_FOLD, TEST, Study
from arra_med.evaluate.study_settings import StudyRun
from arra_med.models.bundle import ModelBundle
from arra_med.runs import write_json

COPIES_FILE = "copies.json"
_SPACE = "efficientnet_lite0"  # the judge is kept for judging


def privacy_tasks(study: Study) -> list[Task]:
    """Returns the audits of a study's used arms: copies over all seeds, membership for each seed."""
    if not study.config.privacy:
        return []
    copies = study.out / COPIES_FILE
    return [
        *(_membership_task(study, seed) for seed in study.config.seeds),
        # it tells which training image a drawing resembles
        Task("copies", copies, lambda: write_json(copies, or_reason(lambda: _copies(study)), mode=0o600)),
    ]


def read_privacy(study: Study) -> dict[str, Any] | None:
    """Returns what the audits found, `None` where the study has none."""
    if not study.config.privacy:
        return None
    rows = [read_result(_membership_file(study, seed)) for seed in study.config.seeds]
    without = next((row for row in rows if "reason" in row), None)
    return {
        "copies": _without_rows(read_result(study.out / COPIES_FILE)),
        "membership": without or membership_over_seeds(rows),
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
        arm: {seed: study.drawn(StudyRun(arm, seed), TEST) for seed in study.config.seeds} for arm in study.used_arms()
    }
    evidence = copies_by_arm(generated, finder, held_out, patients, reconstructed=reconstruct_images(bundle, held_out))
    return dataclasses.asdict(evidence)


def _membership_file(study: Study, seed: int) -> Path:
    return study.out / "membership" / f"seed_{seed}.json"


def _membership_task(study: Study, seed: int) -> Task:
    config, result = study.config, _membership_file(study, seed)

    def measure() -> dict[str, Any]:
        return membership_of_seed(
            seed,
            {arm: study.bundle_folder(StudyRun(arm, seed)) for arm in study.used_arms()},
            study.corpus,
            baseline=config.baseline,
            source=config.held_out.source,
            left_out=sorted(repeated_images(study.studies, config)),
            progress=True,
        )

    return Task(f"membership_{seed}", result, lambda: write_json(result, or_reason(measure)))


def _without_rows(copies: dict[str, Any]) -> dict[str, Any]:
    """Leaves out which training image a drawing resembles: `copies.json` stays local, the comparison is shown to others."""
    for arm in copies.get("arms", ()):
        arm["num_flagged"] = len(arm.pop("flagged"))
    return copies
