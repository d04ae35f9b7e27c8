"""Whether the prompt matters: a finding's prompts against a normal prompt at the same seeds, scored by a judge.

The wordings are paraphrases which no training text held, so a shift also shows that free text works.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.finding_judge import FindingJudge, LabelledFeatures, require_fair_probe
from arra_med.evaluate.intervals import Interval, t_interval
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import View
from arra_med.records.wording import NORMAL, held_out_paraphrases

NUM_SEEDS = 64
"""Pairs that the effect of a wording is read from; fewer are measured, and the row says so."""


@dataclass(frozen=True)
class PromptEffect:
    """Effect of one wording. `dataclasses.asdict` of it is JSON.

    Attributes:
        finding: Harmonised name.
        report: The wording (from the project's own list, no patient's text).
        judge: Name of the encoder under the judge.
        auroc_real: The judge on real held-out images of its source, with the finding against all others.
        num_real_positives: Held-out images with the finding.
        real_shift: Mean difference of the judge's log-odds between real held-out images with and without the finding:
            what a generator as good as real images would reach.
        num_seeds: Pairs.
        shift: Mean difference of the judge's log-odds, finding prompt minus normal prompt at the same seed.
        interval: 95% t interval of the shift over seeds.
        seed_spread: Standard deviation of the score over seeds of the normal prompt.
        shift_in_spreads: `shift / seed_spread`; none where all seeds give the same score.
        separated: Share of all (finding, normal) image pairs that the judge orders rightly, ties half (an AUROC).
        note: What a reader must know of this row, such as too few pairs.
    """

    finding: str
    report: str
    judge: str
    auroc_real: Interval
    num_real_positives: int
    real_shift: float
    num_seeds: int
    shift: float
    interval: tuple[float, float]
    seed_spread: float
    shift_in_spreads: float | None
    separated: float
    note: str = ""


def require_no_teacher(bundle: ModelBundle, judge: FrozenEncoder) -> None:
    """Makes sure that the judge did not teach the model.

    Raises:
        OverlapError: If its weights are those of one of the model's teachers.
    """
    teachers = bundle.info.training.get("teachers", [])
    if judge.fingerprint in [teacher["sha256"] for teacher in teachers]:
        raise OverlapError(f"{judge.name} was this model's teacher and cannot judge it: choose another encoder")


def measure_prompt_effect(
    session: ReportToImage,
    judge: FrozenEncoder,
    fit: LabelledFeatures,
    real: LabelledFeatures,
    *,
    findings: Sequence[str] = ("effusion", "cardiomegaly"),
    view: View | None = None,
    num_seeds: int = NUM_SEEDS,
    seed: int = 0,
    rules: SamplingRules | None = None,
) -> list[PromptEffect]:
    """Scores each held-out wording of each finding against the first held-out normal wording.

    Args:
        session: The model, opened.
        judge: Encoder under the judge; not the model's teacher.
        fit: Its features of real training images of one source, to which a probe is fitted for each finding.
        real: Its features of real held-out images of the same source.
        findings: Harmonised names.
        view: View of all prompts (chest).
        num_seeds: Pairs.
        seed: Of the first pair; pair i has `seed + i`.
        rules: Guidance and sampling.

    Raises:
        EvaluationError: If the judge's images are of several sources, another judge's, or hold too few of a finding; a
            finding has no wording; or there are fewer than 2 pairs.
        OverlapError: If the judge was the model's teacher, or a patient is both in `fit` and `real`.
    """
    require_no_teacher(session.bundle, judge)
    require_fair_probe(fit, real, judge.name)
    if num_seeds < 2:
        raise EvaluationError(f"{num_seeds} pairs have no interval: ask for at least 2, better {NUM_SEEDS}")
    modality = session.bundle.spec.modality
    wordings = {finding: held_out_paraphrases(finding, modality) for finding in findings}
    if unknown := [finding for finding, reports in wordings.items() if not reports]:
        raise EvaluationError(
            f"no wording is kept for {', '.join(unknown)}: choose findings of the {modality} wordings"
        )
    judges = {finding: FindingJudge(fit, finding) for finding in findings}

    def features_of(report: str) -> np.ndarray:
        request = GenerationRequest(
            report=report,
            modality=modality,
            view=view,
            num_images=num_seeds,
            seed=seed,
            rules=rules or SamplingRules(),
        )
        images = session.generate(request).images
        return judged_features(judge, images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))

    normal = features_of(held_out_paraphrases(NORMAL, modality)[0])
    return [
        _effect(report, fitted, real, fitted.scores(features_of(report)), fitted.scores(normal))
        for finding, fitted in judges.items()
        for report in wordings[finding]
    ]


def _effect(
    report: str, judge: FindingJudge, real: LabelledFeatures, shifted: np.ndarray, normal: np.ndarray
) -> PromptEffect:
    held = real.take(real.labelled())
    positive, real_scores = held.positive(judge.finding), judge.scores(held.features)
    shift = t_interval((shifted - normal).tolist())
    spread = float(normal.std(ddof=1))
    ordered = (shifted[:, None] > normal[None]) + 0.5 * (shifted[:, None] == normal[None])
    return PromptEffect(
        finding=judge.finding,
        report=report,
        judge=judge.name,
        auroc_real=judge.auroc(real),
        num_real_positives=int(positive.sum()),
        real_shift=float(real_scores[positive].mean() - real_scores[~positive].mean()),
        num_seeds=len(normal),
        shift=shift.estimate,
        interval=(shift.low, shift.high),
        seed_spread=spread,
        shift_in_spreads=shift.estimate / spread if spread else None,
        separated=float(ordered.mean()),
        note="" if len(normal) >= NUM_SEEDS else f"{len(normal)} pairs, {NUM_SEEDS} wanted",
    )
