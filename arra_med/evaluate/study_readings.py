"""What classifiers read in a study's images: agreement with the reports, prompt effect, utility, and the source control."""

import dataclasses
from collections.abc import Callable
from typing import Any

from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.agreement import FindingAgreement, agreement_over_seeds, measure_agreement
from arra_med.evaluate.diversity import measure_prompt_diversity
from arra_med.evaluate.finding_judge import LabelledFeatures
from arra_med.evaluate.prompt_effect import measure_prompt_effect
from arra_med.evaluate.shared_tasks import Task, read_result
from arra_med.evaluate.source_control import measure_source_control
from arra_med.evaluate.study_run import JUDGE_FOLD, TEST, TRAIN, Study
from arra_med.evaluate.study_settings import StudyRun
from arra_med.evaluate.utility import measure_utility
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.records.wording import canonical_labels
from arra_med.runs import write_json

PROMPT_EFFECT_FILE = "prompt_effect.json"


def prompt_effect_tasks(study: Study) -> list[Task]:
    """Returns one task for each arm that a reader would use: 64 pairs of images of its first seed for each wording."""
    return [_prompt_effect_task(study, arm) for arm in study.used_arms()] if study.config.prompt_findings else []


def read_agreement(study: Study) -> dict[str, Any]:
    """Returns the agreement of every arm over its seeds by every judge, with ceiling and floor; see `FindingAgreement`."""
    rows = [row for judge in (study.judge, *study.secondary_judges()) for row in _agreement_rows(study, judge)]
    return {
        "judge": study.judge.name,
        "note": (
            "AUROC of a probe that learned from real images of patients no generator saw, within one source; ceiling: real "
            "held-out images; floor: reports shuffled across patients"
        ),
        "rows": rows,
        "source_control": _source_control(study),
        "prompt_effect": _prompt_effects(study),
    }


def _agreement_rows(study: Study, judge: FrozenEncoder) -> list[dict[str, Any]]:
    config = study.config
    fit, real = _labelled(study, judge, JUDGE_FOLD), _labelled(study, judge, TEST)
    findings = list(config.findings) or None
    by_arm: dict[str, dict[int, list[FindingAgreement]]] = {
        arm: {
            seed: measure_agreement(fit, real, study.drawn_features(judge, StudyRun(arm, seed)), findings=findings)
            for seed in config.seeds
        }
        for arm in config.arms
    }
    rows = []
    for arm, by_seed in by_arm.items():
        baseline = by_arm[config.baseline] if arm != config.baseline else None
        for over_seeds, first in zip(agreement_over_seeds(by_seed, baseline), by_seed[config.seeds[0]], strict=True):
            row = dataclasses.asdict(first)
            del row["auroc"]
            rows.append({"arm": arm, **row, **dataclasses.asdict(over_seeds)})
    return rows


def read_utility(study: Study) -> dict[str, Any]:
    """Returns what a classifier learns from each arm's images; see `Utility`."""
    real_train, test = _labelled(study, study.judge, JUDGE_FOLD), _labelled(study, study.judge, TEST)
    findings = list(study.config.findings) or None
    return {
        arm: dataclasses.asdict(
            measure_utility(
                real_train,
                {
                    seed: study.drawn_features(study.judge, StudyRun(arm, seed), JUDGE_FOLD)
                    for seed in study.config.seeds
                },
                test,
                findings=findings,
            )
        )
        for arm in study.used_arms()
    }


def read_diversity(study: Study) -> dict[str, Any]:
    """Returns the mean MS-SSIM between images of one set of labels and view, real and of every arm; lower is more diverse."""
    config, real = study.config, study.real(TEST)
    groups = [repr((record.view, sorted(canonical_labels(record)))) for record in real.records]

    def measure(run: StudyRun) -> float:
        return measure_prompt_diversity(study.drawn(run, TEST), groups).ms_ssim

    return or_reason(
        lambda: {
            "measure": "mean MS-SSIM of pairs of one set of labels and view",
            "real": dataclasses.asdict(measure_prompt_diversity(real.views, groups)),
            "arms": {arm: [measure(StudyRun(arm, seed)) for seed in config.seeds] for arm in config.arms},
        }
    )


def or_reason(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what was measured, or why the study is too small for it: the comparison does not depend on it."""
    try:
        return measure()
    except EvaluationError as error:
        return {"reason": str(error)}


def _labelled(study: Study, judge: FrozenEncoder, part: str) -> LabelledFeatures:
    images = study.real(part)
    return LabelledFeatures(judge.name, study.real_features(judge, part, images), images.records)


def _source_control(study: Study) -> dict[str, Any]:
    """How well the judge tells sources apart on real images; why it does not say where there is one source only."""
    training = study.real(TRAIN)
    features = study.real_features(study.judge, TRAIN, training)
    labelled = LabelledFeatures(study.judge.name, features, training.records)
    return or_reason(lambda: dataclasses.asdict(measure_source_control(labelled)))


def _prompt_effect_task(study: Study, arm: str) -> Task:
    path = study.out / "arms" / arm / PROMPT_EFFECT_FILE

    def measure() -> dict[str, Any]:
        session = ReportToImage(ModelBundle.load(study.bundle_folder(StudyRun(arm, study.config.seeds[0]))), 32)
        effects = measure_prompt_effect(
            session,
            study.judge,
            _labelled(study, study.judge, JUDGE_FOLD),
            _labelled(study, study.judge, TEST),
            findings=study.config.prompt_findings,
            view="PA" if study.studies.spec.modality == "cxr" else None,
            rules=study.rules(arm),
        )
        return {"effects": [dataclasses.asdict(effect) for effect in effects]}

    def work() -> None:
        found = or_reason(measure)
        write_json(path, found.get("effects", [found]))

    return Task(f"prompts_{arm}", path, work)


def _prompt_effects(study: Study) -> list[dict[str, Any]]:
    if not study.config.prompt_findings:
        return []
    return [
        {"arm": arm, **row}
        for arm in study.used_arms()
        for row in read_result(study.out / "arms" / arm / PROMPT_EFFECT_FILE)
    ]
