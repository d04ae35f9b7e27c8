"""Real reports whose findings are known, as prompts: which of them are drawn, and how a judge reads the pictures.

There are no images to these reports, so there is no ceiling of the same source: the judge is fitted to, and its ceiling
taken from, the real images of another one. What stands is whether the picture follows a radiologist's own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.agreement import MIN_POSITIVES, measure_prompt_agreement
from arra_med.evaluate.agreement_rows import FindingAgreement
from arra_med.evaluate.drawing import draw_images
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.finding_judge import (
    FIT_MIN_POSITIVES,
    FindingJudge,
    LabelledFeatures,
    findings_of,
    require_fair_probe,
    too_few,
)
from arra_med.evaluate.held_out import order_by_hash
from arra_med.evaluate.intervals import Interval
from arra_med.evaluate.prompt_effect import require_no_teacher
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord, View
from arra_med.records.wording import canonical_labels


@dataclass(frozen=True)
class ReportAgreement:
    """What the drawn images of real reports show. `dataclasses.asdict` of it is JSON; no word of a report is in it.

    Attributes:
        judge: Name of the encoder under the probe.
        judge_source: Of the real images that the probe is fitted to.
        judge_on_real: AUROC of the probe on real held-out images of that source; none where they are too few.
        rows: Agreement of each finding; no row has a ceiling.
    """

    judge: str
    judge_source: str
    judge_on_real: dict[str, Interval | None]
    rows: list[FindingAgreement]


def shared_findings(
    records: Sequence[StudyRecord], fit: LabelledFeatures, min_positives: int = MIN_POSITIVES
) -> tuple[str, ...]:
    """Returns the findings that enough reports have and enough real images can fit a probe to, frequent ones first."""
    labels = [canonical_labels(record) for record in records]
    fitted = fit.take(fit.labelled())
    return tuple(
        finding
        for finding in findings_of(records)
        if sum(finding in names for names in labels) >= min_positives
        and too_few(fitted.positive(finding), FIT_MIN_POSITIVES) is None
    )


def choose_reports(
    records: Sequence[StudyRecord], findings: Sequence[str], num_reports: int, *, seed: int = 0
) -> list[StudyRecord]:
    """Chooses reports so that few drawings say something about rare findings, as a case-control study does.

    Up to half of the reports hold one of the findings, in equal shares as far as there are any; the others hold none of
    them. An AUROC does not depend on that share. The order is that of a hash, so that a larger choice draws no other
    reports first.

    Args:
        records: With labels; those without are left out, for nobody said what they show.
        findings: Harmonised names.
        num_reports: How many.
        seed: Chooses among them.

    Raises:
        EvaluationError: If there is no finding, or the reports are too few.
    """
    if not findings:
        raise EvaluationError("no finding is known to both the reports and the judge's images: name one with --finding")

    known = [record for record in records if record.labels]
    known = [known[at] for at in order_by_hash([record.image_id for record in known], f"reports {seed}")]
    labels = [frozenset(canonical_labels(record)) for record in known]
    without = [row for row in range(len(known)) if not labels[row] & set(findings)]
    chosen: list[int] = []
    share = -(-num_reports // (2 * len(findings)))
    for finding in sorted(findings, key=lambda name: sum(name in row for row in labels)):  # rare ones first
        held = sum(finding in labels[row] for row in chosen)
        others = [row for row in range(len(known)) if finding in labels[row] and row not in chosen]
        chosen += others[: max(share - held, 0)]
    chosen = chosen[:num_reports]
    chosen += without[: num_reports - len(chosen)]
    if len(chosen) < num_reports:
        raise EvaluationError(
            f"{len(chosen)} reports could be chosen and {num_reports} were asked for: ask for fewer, or name more findings"
        )
    return [known[row] for row in sorted(chosen)]


def measure_report_agreement(
    bundle: ModelBundle,
    records: Sequence[StudyRecord],
    judge: FrozenEncoder,
    fit: LabelledFeatures,
    real: LabelledFeatures,
    *,
    findings: Sequence[str],
    rules: SamplingRules,
    out: Path,
    view: View | None = None,
    seed: int = 0,
    min_positives: int = MIN_POSITIVES,
    progress: bool = True,
) -> ReportAgreement:
    """Draws an image for each report, in its own words, and measures what the judge sees in it.

    Args:
        bundle: The model, opened.
        records: The reports, of one source, with labels; impression, else findings, become the prompt.
        judge: Encoder under the probe; not the model's teacher.
        fit: Its features of real training images of one source.
        real: Its features of real held-out images of the same source: how good the probe is.
        findings: Harmonised names.
        rules: Guidance and sampling.
        out: Folder of the drawing; the same call goes on where it was stopped.
        view: View of all images.
        seed: Of the first image, and of the shuffles.
        min_positives: Reports with a finding, and as many without, that an AUROC needs.
        progress: Show a bar on stderr.

    Raises:
        EvaluationError: If `out` holds another drawing, the judge's sets do not go together, or no report has a label.
        OverlapError: If the judge was the model's teacher, or a patient is both in `fit` and `real`.
    """
    require_no_teacher(bundle, judge)
    judge_source = require_fair_probe(fit, real, judge.name)
    # Without labels the prompt is always the report's own words, never a wording of what it is scored against.
    own_words = [record.model_copy(update={"labels": (), "view": view}) for record in records]
    images = draw_images(bundle, own_words, rules, seed=seed, out=out, name="Drawing reports", progress=progress)
    rows = measure_prompt_agreement(
        fit, records, judged_features(judge, images), findings=findings, min_positives=min_positives, seed=seed
    )
    held, fitted = real.take(real.labelled()), fit.take(fit.labelled())
    on_real = {
        finding: None
        if too_few(held.positive(finding), 2) or too_few(fitted.positive(finding), FIT_MIN_POSITIVES)
        else FindingJudge(fit, finding).auroc(real)
        for finding in findings
    }
    return ReportAgreement(fit.judge, judge_source, on_real, rows)
