"""The privacy audit: does a bundle draw copies of its training images, and does its likelihood give members away?"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.config import Device, resolve_device
from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders import load_encoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.copies import (
    FALSE_ALARM_RATE,
    CopyFinder,
    Match,
    Rate,
    Threshold,
    calibrated_threshold,
    num_calibration_images,
)
from arra_med.evaluate.feature_spaces import FeatureSpace, encoder_space, gradient_space, kept_features
from arra_med.evaluate.held_out_images import HeldOutRows, held_out_rows, through_tokenizer
from arra_med.evaluate.membership_audit import audit_membership
from arra_med.evaluate.memorisation import (
    NUM_SEEDS,
    AttackedRow,
    MemorisationAttack,
    summarise,
    unique_prompt_images,
)
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.runs import sha256_json, versions, write_json

RESULT_FILE = "privacy.json"


@dataclass(frozen=True)
class PrivacySettings:
    """How the audit is made.

    Attributes:
        source: Whose held-out images calibrate, and whose images the membership attack compares; none: the one with the most held-out images.
        encoder: Feature space beside that of the edges.
        false_alarm_rate: Share of held-out real images that may count as copies.
        num_seeds: Images drawn for each unique report.
        max_rows: Reports attacked at most, drawn at random; none: all.
        guidance_scale: Of the drawn images.
        allow_other_studies: Go on where a bundle names another study set than the one given, such as one that was
            ingested anew.
        device: Where models compute.
    """

    source: str | None = None
    encoder: str = "efficientnet_lite0"
    false_alarm_rate: float = FALSE_ALARM_RATE
    num_seeds: int = NUM_SEEDS
    max_rows: int | None = None
    guidance_scale: float = 3.0
    allow_other_studies: bool = False
    device: Device = "auto"


def audit_privacy(
    bundle: Path,
    studies: Path,
    corpus: Path,
    out: Path,
    *,
    baseline: Path | None = None,
    settings: PrivacySettings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Attacks a bundle, and a baseline beside it, and writes `privacy.json`; a stopped audit goes on where it was.

    Args:
        bundle: Folder of the model.
        studies: The study set it was trained on.
        corpus: The corpus it was trained on.
        out: Folder of the result. What lies there names training images by their ids: treat it as the study set.
        baseline: Folder of a model trained on the same corpus.
        settings: How.
        progress: Whether to show progress bars.

    Returns:
        What `privacy.json` says.

    Raises:
        EvaluationError: If the parts do not belong together, or there are too few held-out images.
        StudySetError: If the study set is missing or damaged.
        CorpusError: If the corpus is missing or damaged.
        BundleError: If a bundle is missing or damaged.
    """
    settings = settings or PrivacySettings()
    rows_needed = num_calibration_images(settings.false_alarm_rate)
    study_set, opened_corpus = StudySet.open(studies), Corpus.open(corpus)
    device = resolve_device(settings.device)
    folders = {"bundle": bundle, **({"baseline": baseline} if baseline is not None else {})}
    arms = {arm: ModelBundle.load(folder, device) for arm, folder in folders.items()}
    for model in arms.values():
        require_same_data(model, study_set, opened_corpus, settings.allow_other_studies)
    rows = held_out_rows(study_set, rows_needed, settings.source)
    datasets = {arm: _datasets(model, opened_corpus) for arm, model in arms.items()}

    def bar(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        return progress_bar(what, total, progress)

    membership = audit_membership(arms, datasets, study_set, rows, rows.source, bar)
    finder = _finder(study_set, rows, settings, device, out, bar)
    told: dict[str, Any] = {
        "settings": asdict(settings),
        "study_set_sha256": study_set.content_sha256,
        "held_out": _counts(rows),
        "arms": {},
        "membership": membership,
    }
    for arm, model in arms.items():
        held_out = _HeldOutMatches(finder, study_set, rows, model, out, bar)
        threshold = held_out.threshold(settings.false_alarm_rate)
        attacked = _attack(arm, model, datasets[arm]["train"], finder, study_set, out, settings, bar)
        told["arms"][arm] = {
            "name": model.info.name,
            "variant": model.info.variant,
            "sha256": model.fingerprint,
            "threshold": asdict(threshold),
            "false_alarms": held_out.false_alarms(threshold),
            "distances": _distances(finder.spaces, held_out.matches["reported"], attacked),
            "memorisation": asdict(summarise(attacked, threshold)),
        }
    told["versions"] = versions()
    write_json(out / RESULT_FILE, told)
    return told


def require_same_data(bundle: ModelBundle, studies: StudySet, corpus: Corpus, allow_other_studies: bool) -> None:
    """Checks that a bundle was trained on a corpus, and the corpus made from a study set.

    Raises:
        EvaluationError: If not.
    """
    training, name = bundle.info.training, bundle.info.name
    if corpus.info.study_set_sha256 != studies.content_sha256:
        raise EvaluationError(f"{corpus.folder}: was made from another study set than {studies.folder}: give that one")
    if training.get("tokenizer_sha256") != corpus.info.tokenizer_sha256:
        raise EvaluationError(
            f"bundle {name} has another image tokenizer than {corpus.folder}: tokenize the study set with the bundle's"
        )
    if training.get("study_set_sha256") != studies.content_sha256 and not allow_other_studies:
        raise EvaluationError(
            f"bundle {name} was trained on another study set than {studies.folder}, so that nobody knows which images "
            "are members: give that one, or allow other studies if this one was ingested anew from the same files"
        )


def _counts(rows: HeldOutRows) -> dict[str, Any]:
    """How many images stand in each part, and what the parts mean."""
    return {name: len(value) if isinstance(value, list) else value for name, value in asdict(rows).items()}


def _datasets(bundle: ModelBundle, corpus: Corpus) -> dict[str, TrainingDataset]:
    """The examples of each split, in the wording of training's first epoch."""
    seed = bundle.info.training.get("settings", {}).get("seed", 0)
    return {
        split: TrainingDataset(corpus, split, bundle.layout, bundle.text_tokenizer, seed=seed, evaluation=True)
        for split in ("train", "validation", "test")
        if split in corpus.info.split_counts
    }


def _finder(
    studies: StudySet, rows: HeldOutRows, settings: PrivacySettings, device: str, out: Path, bar: Any
) -> CopyFinder:
    encoder = load_encoder(settings.encoder).to(device)
    spaces = [encoder_space(encoder), gradient_space()]
    training = studies.select(split="train")
    features = {}
    with bar("describing training images", len(spaces) * len(training)) as advance:
        for space in spaces:
            chosen = range(len(training))
            features[space.name] = kept_features(space, training, chosen, out, studies.content_sha256, advance)
    return CopyFinder(training, spaces, features)


class _HeldOutMatches:
    """Matches of the held-out images, as they are and through a bundle's image tokenizer; kept in the result's folder."""

    def __init__(
        self, finder: CopyFinder, studies: StudySet, rows: HeldOutRows, bundle: ModelBundle, out: Path, bar: Any
    ) -> None:
        names = ("calibration", "reported", "others", "duplicates")
        parts = {name: getattr(rows, name) for name in names}
        told = [
            studies.content_sha256,
            bundle.info.training.get("tokenizer_sha256"),
            [space.fingerprint for space in finder.spaces],
            parts,
        ]
        path = out / f"held-out-{sha256_json(told)[:16]}.json"
        kept = _read_matches(path)
        if kept is None:
            kept = {}
            with bar("matching held-out images", 2 * sum(map(len, parts.values()))) as advance:
                for name, chosen in parts.items():
                    views = [studies.view(row) for row in chosen]
                    kept[name] = finder.matches(views, advance)
                    decoded = through_tokenizer(views, bundle.image_tokenizer, str(bundle.model.device))
                    kept[f"{name}, decoded"] = finder.matches(decoded, advance)
            write_json(path, {name: [asdict(match) for match in found] for name, found in kept.items()}, mode=0o600)
        self.matches = kept

    def similarities(self, name: str) -> np.ndarray:
        return np.array([match.similarity for match in self.matches[name]])

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Drawn images went through the tokenizer's decoder: the larger of both similarities counts."""
        largest = np.maximum(self.similarities("calibration"), self.similarities("calibration, decoded"))
        return calibrated_threshold(largest, false_alarm_rate)

    def false_alarms(self, threshold: Threshold) -> dict[str, Any]:
        return {
            name: asdict(Rate.of(threshold.flags(self.similarities(name))))
            for name in self.matches
            if not name.startswith("calibration")
        }


def _attack(
    arm: str,
    bundle: ModelBundle,
    dataset: TrainingDataset,
    finder: CopyFinder,
    studies: StudySet,
    out: Path,
    settings: PrivacySettings,
    bar: Any,
) -> list[AttackedRow]:
    training = bundle.info.training
    attack = MemorisationAttack(
        bundle,
        dataset,
        finder,
        studies.select(split="train"),
        out / f"attack-{arm}",
        num_epochs=max(1, training.get("sequences", 0) // max(1, training.get("num_training_images", 1))),
        num_seeds=settings.num_seeds,
        rules=SamplingRules(guidance_scale=settings.guidance_scale),
    )
    images = unique_prompt_images(dataset.corpus.records, dataset.images)
    if settings.max_rows is not None and settings.max_rows < len(images):
        images = sorted(np.random.default_rng(0).choice(images, settings.max_rows, replace=False).tolist())
    with bar(f"attacking the {arm}", len(images)) as advance:
        return attack.run(images, advance)


def _distances(spaces: tuple[FeatureSpace, ...], held_out: list[Match], attacked: list[AttackedRow]) -> dict[str, Any]:
    """By feature space, drawn images' distances to the nearest training image beside those of held-out real images."""
    told = {}
    for space in spaces:
        real = np.array([match.distances[space.name] for match in held_out])
        drawn = np.concatenate([row.distances[space.name] for row in attacked])
        lowest = float(np.quantile(real, 0.01)) if len(real) else float("nan")
        told[space.name] = {
            "held_out_median": float(np.median(real)) if len(real) else float("nan"),
            "held_out_lowest_percent": lowest,
            "drawn_median": float(np.median(drawn)),
            "drawn_below_lowest_percent": float((drawn < lowest).mean()),
        }
    return told


def _read_matches(path: Path) -> dict[str, list[Match]] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {name: [Match(**match) for match in found] for name, found in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
