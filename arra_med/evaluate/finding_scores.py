"""What a classifier sees in a few generated pictures: scores of the report's findings, for each model, with intervals.

A classifier is no reader: its scores come with its name and with how well it told the finding apart on held-out real
images. A few pictures of one report prove nothing about a model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from arra_med.encoders.finding_classifier import FindingClassifier, load_finding_classifier
from arra_med.encoders.hub import display_name
from arra_med.encoders.provenance import Exposure, encoder_exposure, read_provenance, require_disjoint
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.intervals import Interval, t_interval
from arra_med.imaging.view import CanonicalView, from_uint8
from arra_med.models.bundle import BundleInfo
from arra_med.records.mentions import finding_mentions
from arra_med.records.observations import labels_from_report
from arra_med.records.study import Modality
from arra_med.training.encoder_metrics import read_aurocs

_KIND = "classifier"
_GROUPS = ("test", "validation")
_BATCH_SIZE = 16
_ALL_SOURCES = "all sources"


@dataclass(frozen=True)
class HeldOutAuroc:
    """How well a judge tells a finding apart on held-out real images of one source.

    Attributes:
        group: `test` or `validation`.
        source: The source with the most images that have the finding; sources are not mixed, since a classifier can
            read the scanner.
        auroc: Area under the ROC curve.
        num_positive: Images with the finding.
        num_negative: Images without it.
        estimable: Whether these are enough for a headline.
    """

    group: str
    source: str
    auroc: float
    num_positive: int
    num_negative: int
    estimable: bool


@dataclass(frozen=True)
class ModelScore:
    """One model's pictures.

    Attributes:
        scores: Of each picture, 0 to 1.
        mean: Mean over the pictures, on the scale of log-odds, as a score.
        interval: 95% interval of it over the seeds; none for one picture.
    """

    scores: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class FindingRow:
    """One finding.

    Attributes:
        finding: Harmonised name.
        judged: How good the judge is at it; none: nobody measured.
        models: By model.
        difference: Second model minus first at the same seeds, in log-odds; none unless there are two, with 2 pictures each.
    """

    finding: str
    judged: HeldOutAuroc | None
    models: dict[str, ModelScore]
    difference: Interval | None


@dataclass(frozen=True)
class PictureJudge:
    """A classifier that reads pictures.

    Attributes:
        classifier: Its network.
        name: What tables call it.
        spec: The canonical view that it learned on.
        aurocs: By finding.
        exposure: What it has been near.
    """

    classifier: FindingClassifier
    name: str
    spec: CanonicalView
    aurocs: dict[str, HeldOutAuroc]
    exposure: Exposure

    def require_fair(self, bundle: BundleInfo) -> list[str]:
        """Makes sure that it can judge a bundle's pictures: of its kind, and not by their own teacher.

        Returns:
            What was not looked at, in sentences without a capital or full stop.

        Raises:
            EvaluationError: If the pictures are of another modality or size.
            OverlapError: If it was the model's teacher, or started from the teacher's weights.
        """
        own, other = self.spec, bundle.canonical_view
        if (own.modality, own.size_px) != (other.modality, other.size_px):
            raise EvaluationError(
                f"{self.name} learned on {own.modality} images of {own.size_px} px and {bundle.name} draws "
                f"{other.modality} images of {other.size_px} px: give a judge of that kind"
            )
        teachers = bundle.training.get("teachers", [])
        require_disjoint(
            Exposure(self.exposure.name, self.exposure.weights),
            [
                Exposure(f"the teacher {told['name']} of {bundle.name}", frozenset({told["sha256"]}))
                for told in teachers
            ],
        )
        return [
            f"the weights of {self.name} were compared with those of the models' teachers; whether it learned from images "
            "that trained the models, too, was not looked at"
        ]

    def log_odds(self, views: np.ndarray) -> np.ndarray:
        """Returns the log-odds of each finding: uint8 (n, C, S, S) -> float64 (n, F).

        Raises:
            EvaluationError: If there is no picture, they are of another kind, or a score is not finite.
        """
        shape = (self.spec.channels, self.spec.size_px, self.spec.size_px)
        if views.dtype != np.uint8 or views.shape[1:] != shape or not len(views):
            raise EvaluationError(
                f"pictures of type {views.dtype} and shape {views.shape} were given to {self.name}: give at least one, "
                f"uint8 (n, {', '.join(map(str, shape))})"
            )
        parts = [
            self.classifier.logits(torch.from_numpy(from_uint8(views[start : start + _BATCH_SIZE]))).cpu().numpy()
            for start in range(0, len(views), _BATCH_SIZE)
        ]
        found = np.concatenate(parts).astype(np.float64)
        if not np.isfinite(found).all():
            raise EvaluationError(f"a score of {self.name} is not finite: its weights are damaged, train it again")
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What stands beside every score."""
        return {"judge": self.name, "judge_sha256": self.classifier.encoder.fingerprint}


def open_picture_judge(folder: Path) -> PictureJudge:
    """Opens a classifier that `arra-med encoder train` wrote, and what was measured of it.

    Args:
        folder: Its `encoder` folder; `held_out.json` lies beside it.

    Raises:
        EncoderError: If files are missing, damaged or do not fit, or it is another kind of encoder.
    """
    if not folder.is_dir():
        raise EncoderError(f"{folder}: is no folder; give the encoder folder of an arra-med encoder train")
    provenance, _ = read_provenance(folder)
    if provenance.kind != _KIND:
        raise EncoderError(
            f"{display_name(str(folder))}: is an encoder of kind {provenance.kind} and names no findings: give a "
            "classifier (arra-med encoder train, kind: classifier)"
        )
    classifier = load_finding_classifier(str(folder))
    exposure = encoder_exposure(classifier.encoder, str(folder))
    measured = read_aurocs(folder.resolve().parent, provenance.weights_sha256)
    aurocs = {finding: told for finding in classifier.findings if (told := _auroc(measured, finding)) is not None}
    return PictureJudge(classifier, provenance.name, provenance.spec, aurocs, exposure)


def findings_of_report(report: str, modality: Modality) -> tuple[str, ...]:
    """Returns the findings that a report names as present, by their harmonised names."""
    if modality == "cxr":
        return labels_from_report(report)
    return tuple(dict.fromkeys(one.finding for one in finding_mentions(report, modality, {}) if not one.is_denied))


def score_pictures(
    judge: PictureJudge, pictures: Mapping[str, np.ndarray], findings: Sequence[str]
) -> list[FindingRow]:
    """Scores the pictures of some models.

    Args:
        judge: The judge; `require_fair` has been asked of each model.
        pictures: uint8 (n, C, S, S) by model, the baseline first; picture i of each has the same seed.
        findings: Names of the judge's.

    Raises:
        EvaluationError: If a finding is not the judge's, there is none, or a picture cannot be judged.
    """
    known = judge.classifier.findings
    unknown = [finding for finding in findings if finding not in known]
    if unknown or not findings:
        raise EvaluationError(
            f"{judge.name} knows {', '.join(known)}; asked for was {', '.join(unknown) or 'nothing'}: choose some of these"
        )
    found = {model: judge.log_odds(views) for model, views in pictures.items()}
    rows = []
    for finding in findings:
        column = known.index(finding)
        of_model = {model: values[:, column] for model, values in found.items()}
        scores = {model: _score(values) for model, values in of_model.items()}
        rows.append(FindingRow(finding, judge.aurocs.get(finding), scores, _difference(list(of_model.values()))))
    return rows


def _score(log_odds: np.ndarray) -> ModelScore:
    interval = None
    if len(log_odds) > 1:
        over_seeds = t_interval(log_odds.tolist())
        interval = (float(expit(over_seeds.low)), float(expit(over_seeds.high)))
    return ModelScore(tuple(expit(log_odds).tolist()), float(expit(log_odds.mean())), interval)


def _difference(log_odds: Sequence[np.ndarray]) -> Interval | None:
    if len(log_odds) != 2 or len(log_odds[0]) != len(log_odds[1]) or len(log_odds[0]) < 2:
        return None
    return t_interval((log_odds[1] - log_odds[0]).tolist())


def _auroc(measured: Mapping[str, Mapping[str, list[dict[str, Any]]]], finding: str) -> HeldOutAuroc | None:
    for group in _GROUPS:
        found = [
            HeldOutAuroc(
                group, source, row["auroc"], row["num_positive"], row["num_negative"], row["verdict"] == "estimable"
            )
            for source, rows in measured.get(group, {}).items()
            for row in rows
            if source != _ALL_SOURCES and row["finding"] == finding and row["auroc"] is not None
        ]
        if found:
            return max(found, key=lambda told: told.num_positive)
    return None
