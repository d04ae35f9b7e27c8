"""The privacy audit: does a bundle draw copies of its training images, and does its likelihood give members away?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.config import Device, resolve_device
from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.repeats import repeated_images
from arra_med.corpus.study_rows import decode_png
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders import load_encoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.calibration import HeldOutMatches, HeldOutRows, held_out_rows
from arra_med.evaluate.copies import (
    FALSE_ALARM_RATE,
    CopyFinder,
    Match,
    NearestDistances,
    Threshold,
    num_calibration_images,
)
from arra_med.evaluate.feature_spaces import encoder_space, gradient_space
from arra_med.evaluate.held_out import TrainedOn
from arra_med.evaluate.likelihood import plain_examples
from arra_med.evaluate.membership_audit import common_training_rows, membership_of_arms
from arra_med.evaluate.memorisation import (
    NUM_SEEDS,
    AttackedRow,
    MemorisationAttack,
    summarise,
    unique_prompt_images,
)
from arra_med.evaluate.privacy_report import FLAGGED_FILE, FlaggedImages, FlaggedPair, write_flagged_page
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord
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

    Which rows trained is read from the bundles' recorded settings (`trained_on`).

    Args:
        bundle: Folder of the model.
        studies: The study set it was trained on.
        corpus: The corpus it was trained on.
        out: Folder of the result. `privacy.json` names no image; all else there names or shows training images: treat
            the folder as the study set. `flagged_SENSITIVE.html` shows the suspected copies.
        baseline: Folder of a model trained on the same rows of the same corpus.
        settings: How.
        progress: Whether to show progress bars.

    Returns:
        What `privacy.json` says; `memorisation` is `None` where no training image has a report of its own.

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
    trained = common_training_rows(arms, opened_corpus)
    records = study_set.records()
    rows = held_out_rows(records, trained, study_set.duplicates, rows_needed, settings.source)
    training = StudySet(study_set.folder, study_set.info, study_set.dataset.select(rows.train))
    membership = _membership(arms, opened_corpus, trained, rows, records, out, progress)
    finder = _finder(training, settings, device, out, progress)
    told: dict[str, Any] = {
        "settings": asdict(settings),
        "study_set_sha256": study_set.content_sha256,
        "held_out": _counts(rows),
        "arms": {},
        "membership": membership,
    }
    flagged: dict[str, FlaggedImages] = {}
    for arm, model in arms.items():
        held_out = HeldOutMatches(finder, study_set, rows, model, out, progress)
        threshold = held_out.threshold(settings.false_alarm_rate)
        attack = _attack(arm, model, opened_corpus, finder, training, out, settings)
        attacked = _attacked(arm, attack, settings, progress)
        flagged[arm] = FlaggedImages(threshold.similarity, _flagged(attack, attacked, training, threshold))
        told["arms"][arm] = {
            "name": model.info.name,
            "variant": model.info.variant,
            "sha256": model.fingerprint,
            "threshold": asdict(threshold),
            "false_alarms": held_out.false_alarms(threshold),
            "distances": _distances(held_out.matches["reported, decoded"], attacked),
            "memorisation": asdict(summarise(attacked, threshold)) if attacked else None,
        }
    write_flagged_page(out / FLAGGED_FILE, flagged)
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


def _membership(
    arms: Mapping[str, ModelBundle],
    corpus: Corpus,
    trained: TrainedOn,
    rows: HeldOutRows,
    records: Sequence[StudyRecord],
    out: Path,
    progress: bool,
) -> dict[str, Any]:
    """The membership attack, kept in the result's folder for a restarted audit."""
    left_out = sorted(records[row].image_id for row in rows.duplicates)
    models = {arm: model.fingerprint for arm, model in arms.items()}
    path = out / f"membership-{sha256_json([models, corpus.metadata, rows.train, rows.source, left_out])[:16]}.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = membership_of_arms(arms, corpus, trained, rows.source, left_out=left_out, progress=progress)
        write_json(path, kept)
    return kept


def _finder(training: StudySet, settings: PrivacySettings, device: str, out: Path, progress: bool) -> CopyFinder:
    spaces = [encoder_space(load_encoder(settings.encoder).to(device)), gradient_space()]
    identity = sha256_json([training.content_sha256, training.image_ids])
    features = {}
    with progress_bar("describing training images", len(spaces) * len(training), progress) as advance:
        for space in spaces:
            features[space.name] = space.kept_features(training, out, identity, advance)
    return CopyFinder(training, spaces, features)


def _attack(
    arm: str,
    bundle: ModelBundle,
    corpus: Corpus,
    finder: CopyFinder,
    training: StudySet,
    out: Path,
    settings: PrivacySettings,
) -> MemorisationAttack:
    """An attack with the wordings that training showed; in an epoch rare findings came several times."""
    told, inside = bundle.info.training, set(training.image_ids)
    trained = [image for image, record in enumerate(corpus.records) if record.image_id in inside]
    repeat_threshold = told.get("settings", {}).get("repeat_threshold", 0.0)
    epoch_size = max(1, len(repeated_images(corpus.records, trained, repeat_threshold)))
    return MemorisationAttack(
        bundle,
        plain_examples(bundle, corpus, "train"),
        finder,
        training,
        out / f"attack-{arm}",
        num_epochs=max(1, told.get("sequences", 0) // epoch_size),
        num_seeds=settings.num_seeds,
        rules=SamplingRules(guidance_scale=settings.guidance_scale),
    )


def _attacked(arm: str, attack: MemorisationAttack, settings: PrivacySettings, progress: bool) -> list[AttackedRow]:
    images = unique_prompt_images(attack.dataset.corpus.records, attack.trained_images)
    if settings.max_rows is not None and settings.max_rows < len(images):
        images = sorted(np.random.default_rng(0).choice(images, settings.max_rows, replace=False).tolist())
    with progress_bar(f"attacking the {arm}", len(images), progress) as advance:
        return attack.run(images, advance)


def _flagged(
    attack: MemorisationAttack, attacked: Sequence[AttackedRow], training: StudySet, threshold: Threshold
) -> list[FlaggedPair]:
    """The most suspicious drawn image of each report that drew a copy, beside the training image."""
    row_of_id = {image_id: row for row, image_id in enumerate(training.image_ids)}
    pairs = []
    for row in attacked:
        seed, similarity, image_id = row.worst
        if not threshold.flags([similarity])[0]:
            continue
        path = attack.path(row.image_id)
        whose = "its report's own image" if image_id == row.image_id else "another report's image"
        drawn = decode_png(path.with_suffix(".png").read_bytes())
        words = f"{whose}, seed {seed}, {attack.out.name}/{path.name}"
        pairs.append(FlaggedPair(drawn, training.view(row_of_id[image_id]), words, similarity))
    return pairs


def _distances(held_out: Sequence[Match], attacked: Sequence[AttackedRow]) -> Mapping[str, Any]:
    """By feature space; nothing where nothing was attacked or no held-out image is left to report on."""
    if not (held_out and attacked):
        return {}
    return {
        space: asdict(
            NearestDistances.of(
                [match.distances[space] for match in held_out],
                np.concatenate([row.distances[space] for row in attacked]),
            )
        )
        for space in held_out[0].distances
    }
