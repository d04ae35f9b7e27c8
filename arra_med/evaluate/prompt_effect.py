"""Whether the prompt matters: a finding's prompts against a normal prompt at the same seeds, scored by a judge.

The wordings are paraphrases which no training text held, so a shift also shows that free text works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.errors import ConfigError
from arra_med.evaluate.finding_judge import FindingJudge, JudgedImages, judge_features, real_images
from arra_med.evaluate.intervals import t_interval
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import View
from arra_med.records.wording import held_out_paraphrases

NORMAL = "normal"


@dataclass(frozen=True)
class PromptEffect:
    """Effect of one wording.

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
        shift_in_spreads: `shift / seed_spread`.
        separated: Share of all (finding, normal) image pairs that the judge orders rightly (an AUROC).
    """

    finding: str
    report: str
    judge: str
    auroc_real: float
    num_real_positives: int
    real_shift: float
    num_seeds: int
    shift: float
    interval: tuple[float, float]
    seed_spread: float
    shift_in_spreads: float
    separated: float


def measure_prompt_effect(
    bundle: Path,
    studies: Path,
    *,
    findings: Sequence[str] = ("effusion", "cardiomegaly"),
    source: str = "nih_cxr14",
    view: View | None = "PA",
    judge: str = "efficientnet_lite2",
    num_seeds: int = 32,
    rules: SamplingRules | None = None,
) -> list[PromptEffect]:
    """Scores each held-out wording of each finding against the first held-out normal wording.

    Args:
        bundle: Folder of the model.
        studies: Study set with the source's real images.
        findings: Harmonised names.
        source: Whose real images fit the judge, one source so that it cannot read the scanner.
        view: View of all prompts.
        judge: Encoder under the judge; not the model's teacher.
        num_seeds: Seeds 0 to num_seeds - 1.
        rules: Guidance and sampling.

    Raises:
        ConfigError: If the judge was the model's teacher.
        StudySetError: If the source has too few images.
    """
    session = ReportToImage(ModelBundle.load(bundle))
    teachers = session.bundle.info.training.get("teachers", [])
    encoder = load_encoder(judge)
    if encoder.fingerprint in [teacher["sha256"] for teacher in teachers]:
        raise ConfigError(f"{judge} was this model's teacher and cannot judge it: choose another encoder")
    study_set = StudySet.open(studies)
    train, train_labels = real_images(study_set, source, "train", encoder)
    test, test_labels = real_images(study_set, source, "test", encoder)

    def features_of(report: str) -> np.ndarray:
        request = GenerationRequest(
            report=report,
            modality=session.bundle.spec.modality,
            view=view,
            num_images=num_seeds,
            rules=rules or SamplingRules(),
        )
        images = session.generate(request).images
        return judge_features(encoder, list(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)))

    normal = features_of(held_out_paraphrases(NORMAL, session.bundle.spec.modality)[0])
    effects = []
    for finding in findings:
        fitted = FindingJudge(encoder, JudgedImages(train, np.array([finding in labels for labels in train_labels])))
        real = JudgedImages(test, np.array([finding in labels for labels in test_labels]))
        base = fitted.scores(normal)
        for report in held_out_paraphrases(finding, session.bundle.spec.modality):
            effects.append(_effect(finding, report, fitted, real, fitted.scores(features_of(report)), base))
    return effects


def _effect(
    finding: str, report: str, judge: FindingJudge, real: JudgedImages, shifted: np.ndarray, normal: np.ndarray
) -> PromptEffect:
    real_scores = judge.scores(real.features)
    difference = shifted - normal
    shift = t_interval(difference)
    spread = float(normal.std(ddof=1))
    return PromptEffect(
        finding=finding,
        report=report,
        judge=judge.encoder.name,
        auroc_real=judge.auroc(real),
        num_real_positives=int(real.positive.sum()),
        real_shift=float(real_scores[real.positive].mean() - real_scores[~real.positive].mean()),
        num_seeds=len(difference),
        shift=shift.estimate,
        interval=(shift.low, shift.high),
        seed_spread=spread,
        shift_in_spreads=shift.estimate / spread,
        separated=float((shifted[:, None] > normal[None]).mean()),
    )
