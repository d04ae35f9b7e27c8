"""What `comparison.json` of an invented study says: five seeds, one treatment that helps, one control."""

import dataclasses
from typing import Any

import numpy as np

from arra_med.evaluate.comparison import (
    detectable,
    differences,
    effects,
    excess_effects,
    excess_intervals,
    verdicts,
)

ROLES = {"plain": "baseline", "arra": "treatment", "permuted": "control"}
PER_SEED = {
    "plain": [3.10, 2.95, 3.22, 3.05, 3.01],
    "arra": [2.41, 2.30, 2.52, 2.35, 2.33],
    "permuted": [3.12, 2.90, 3.25, 3.08, 2.99],
}


def rows(values: dict[str, list[float]]) -> list[dict[str, float]]:
    return [{"seed": seed, **{arm: values[arm][seed] for arm in values}} for seed in range(5)]


def invented(**changes: Any) -> dict[str, Any]:
    """The file; `changes` replace whole keys."""
    patients = [f"p{number}" for number in range(40)]
    weights = np.random.default_rng(0).uniform(0.5, 1.5, 40)

    def distance(arm: str, number: int, chosen: np.ndarray) -> float:
        return float(PER_SEED[arm][number] * weights[chosen].mean())

    found = effects(PER_SEED, ROLES, distance_on_rows=distance, patients=patients)
    kid = {arm: [value - 2.9 for value in values] for arm, values in PER_SEED.items()}
    floors = {
        "distance": "frechet_32",
        "judge": "efficientnet_lite2",
        "num_images": 400,
        "value": 3.1,
        "reconstruction_floor": 0.81,
        "excess": 2.29,
        "half_num_images": 197,
        "half_real_floor": 0.0623,
        "half_real_floor_spread": 0.01,
        "half_reconstruction_floor": 0.87,
        "half_value": 3.3,
        "num_splits": 10,
    }
    told: dict[str, Any] = {
        "format_version": 1,
        "notice": "Synthetic",
        "name": "invented",
        "question": "Does <b>alignment</b> help?",
        "exploratory": False,
        "date": "2026-01-02",
        "settings": {
            "start": "random weights",
            "training": {
                "start": {"kind": "random"},
                "sources": ["nih_cxr14"],
                "fold": {"index": 0, "count": 4},
                "steps": 8000,
                "batch_size": 16,
                "learning_rate": 0.0003,
                "schedule": "cosine",
            },
            "seeds": [0, 1, 2, 3, 4],
            "held_out": {"source": "nih_cxr14", "age_group": "adult", "max_images": 400},
            "judge_fold": {"index": 3, "count": 4},
            "sha256": "ab" * 32,
        },
        "primary": {
            "measure": "squared Frechet distance",
            "judge": "efficientnet_lite2",
            "num_dims": 32,
            "start": "random weights",
            "teacher": {"arra": "efficientnet_lite0", "permuted": "permuted:efficientnet_lite0"},
            "split": "test",
            "n": 400,
            "num_patients": 211,
            "steps": 8000,
            "roles": ROLES,
            "controls": {
                name: [control for control, role in ROLES.items() if role == "control"]
                for name, role in ROLES.items()
                if role == "treatment"
            },
            "per_seed": rows(PER_SEED),
            "floors": floors,
            "excess_per_seed": rows({arm: [value - 0.81 for value in values] for arm, values in PER_SEED.items()}),
            "excess": {arm: dataclasses.asdict(one) for arm, one in excess_intervals(PER_SEED, 0.81).items()},
            "excess_effects": [dataclasses.asdict(one) for one in excess_effects(PER_SEED, ROLES, 0.81)],
            "detectable": dataclasses.asdict(detectable(PER_SEED, "plain")),
            "effects": [dataclasses.asdict(effect) for effect in found],
            "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts(found, ROLES, 0.29)],
            "paper_reduction": 0.29,
            "frechet_infinity": {
                "note": "extrapolated to infinitely many images, not measured",
                "per_arm": {"plain": [1.0] * 5, "arra": [None] * 5},
            },
        },
        "secondary": [
            {
                "measure": "kid",
                "judge": judge,
                "per_seed": rows(kid),
                "floors": floors if judge == "efficientnet_lite2" else None,
                "excess": {arm: dataclasses.asdict(one) for arm, one in excess_intervals(kid, 0.05).items()}
                if judge == "efficientnet_lite2"
                else {},
                "differences": {arm: dataclasses.asdict(one) for arm, one in differences(kid, "plain").items()},
            }
            for judge in ("efficientnet_lite2", "inception")
        ],
        "held_out_loss": {
            "unit": "nats per image token, validation split",
            "per_seed": rows(PER_SEED),
            "differences": {arm: dataclasses.asdict(one) for arm, one in differences(PER_SEED, "plain").items()},
        },
        "guidance": {
            arm: {"chosen": 1.5, "distances": {"1": 4.0, "1.5": 3.5, "3": 5.25}, "num_images": 300} for arm in ROLES
        },
        "compute": {
            "seconds_per_training": {arm: [3600.0, 3700.0, 3650.0, 3580.0, 3610.0] for arm in ROLES},
            "devices": ["cpu"],
            "parameters": 12_345_678,
            "sequences": 128_000,
            "num_training_images": 4321,
        },
        "teachers": [
            {
                "arm": "arra",
                "teacher": "efficientnet_lite0",
                "feature": "mean",
                "width": 1280,
                "mean_cosine": 0.63,
                "held_out": {},
            }
        ],
        "unknown_patients": {
            "training": 0,
            "num_training": 4321,
            "sentence": "0 of 4,321 training images name no patient",
        },
        "begun": "2026-01-02T03:04:05+00:00",
        "notes": ["what images efficientnet_lite2 learned from is not recorded"],
        "versions": {"python": "3.11", "arra-med": "0.1.0"},
    }
    return {**told, **changes}
