"""What is looked at before a study's first training: by content, and once, so that nothing may change afterwards."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arra_med.config import StrictModel, load_config
from arra_med.corpus.contents import corpus_exposure, image_contents
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus, folder_sha256
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.provenance import Exposure, require_disjoint
from arra_med.errors import ConfigError, EvaluationError, OverlapError
from arra_med.evaluate.features import preprocessing_sha256
from arra_med.evaluate.held_out import RealImages, trained_on
from arra_med.evaluate.study_images import held_out_stratum, judge_patients
from arra_med.evaluate.study_settings import StudyConfig
from arra_med.models.bundle import read_bundle_info
from arra_med.models.start import BundleStart
from arra_med.records.study import Split
from arra_med.records.wording import held_out_paraphrases
from arra_med.runs import sha256_json, write_json
from arra_med.training.tokenizer_run import TokenizerTrainConfig

GUARDS_FILE = "guards.json"
_PREPROCESSING = "the judge's preprocessing"


class GuardsRecord(StrictModel):
    """What `guards.json` says.

    Attributes:
        begun: When the study was begun, UTC.
        settings_sha256: Hash of its settings then.
        seen: Fingerprints of what was looked at: corpus, study set, judge and its preprocessing, other judges where some
            could be loaded, teachers, and a bundle to start from.
        notes: What nobody recorded and could not be looked at.
    """

    begun: str
    settings_sha256: str
    seen: dict[str, str]
    notes: tuple[str, ...]


def guard_once(
    out: Path,
    studies: StudySet,
    corpus: Corpus,
    config: StudyConfig,
    judge: FrozenEncoder,
    judges: Sequence[Exposure],
    teachers: Sequence[Exposure],
) -> GuardsRecord:
    """Looks for overlaps when a study begins; later makes sure that nothing is another one since.

    Args:
        out: The study's folder.
        studies: The study set.
        corpus: What the arms train on.
        config: The settings.
        judge: Of the primary distance.
        judges: What all judges have been near.
        teachers: What the teachers have been near.

    Raises:
        OverlapError: As `require_untouched`.
        EvaluationError: If something changed since the study began; the message says what.
    """
    start = config.training.start
    seen = {
        "corpus": sha256_json(corpus.metadata),
        "study set": studies.content_sha256,
        "judge": judge.fingerprint,
        _PREPROCESSING: preprocessing_sha256(judge),
        "teachers": sha256_json([sorted(exposure.weights) for exposure in teachers]),
        "start": folder_sha256(start.path) if isinstance(start, BundleStart) else "",
    }
    if others := [exposure for exposure in judges if judge.fingerprint not in exposure.weights]:
        seen["other judges"] = sha256_json(sorted(sorted(exposure.weights) for exposure in others))
    path = out / GUARDS_FILE
    if path.is_file():
        there = load_config(path, GuardsRecord)
        if _PREPROCESSING not in there.seen:  # a study that was begun without it is not held to it
            del seen[_PREPROCESSING]
        if changed := [name for name in {**there.seen, **seen} if there.seen.get(name) != seen.get(name)]:
            raise EvaluationError(
                f"{out}: {' and '.join(changed)} changed since the study began; restore what it was, or begin a new study in "
                "another folder"
            )
        return there
    record = GuardsRecord(
        begun=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        settings_sha256=sha256_json(config.model_dump(mode="json")),
        seen=seen,
        notes=tuple(require_untouched(studies, config, judges, teachers)),
    )
    write_json(path, record.model_dump())
    return record


def require_untouched(
    studies: StudySet, config: StudyConfig, judges: Sequence[Exposure], teachers: Sequence[Exposure]
) -> list[str]:
    """Makes sure that no judge was near a training, and that no held-out patient or image trained.

    Args:
        studies: The study set.
        config: The study.
        judges: Encoders that judge; the images of the judge's fold are looked at besides.
        teachers: Encoders that some arm is aligned to.

    Returns:
        One sentence for each thing that nobody recorded and that could not be looked at.

    Raises:
        OverlapError: If a judge overlaps a teacher or the corpus, or a held-out patient or image is in the training.
    """
    training = config.training
    corpus = corpus_exposure("the generators' corpus", studies, sources=training.sources, fold=training.fold)
    classifiers = _contents("the classifiers of the judge's fold", studies, judge_patients(studies, config))
    unknown = [*_about_tokenizer(config), *_about_start(studies, config)]
    for judge in [*judges, classifiers]:
        unknown += require_disjoint(judge, [*teachers, corpus])
    chosen = studies.select(split="train", sources=training.sources, fold=training.fold)
    known = {"the training": {record.patient_id for record in chosen.records()}}
    known["the judge's fold"] = set(judge_patients(studies, config).patients)
    encoders = [(f"what {encoder.name} learned from", encoder) for encoder in (*teachers, *judges)]
    learned = [("the training", corpus), *encoders]
    pixels = {name: {row.view_sha256 for row in near.images.rows} for name, near in learned if near.images}
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        held_out = held_out_stratum(studies, config, split)
        for name, patients in known.items():
            if shared := len(patients & set(held_out.patients)):
                raise OverlapError(
                    f"{shared} patients of the {split} split are in {name}: split the studies by patient again"
                )
        own = _contents(split, studies, held_out).images
        views = [row.view_sha256 for row in own.rows] if own else []
        for name, its_pixels in pixels.items():
            if copies := sum(view in its_pixels for view in views):
                raise OverlapError(
                    f"{copies} images of the {split} split are pixel for pixel in {name}: ingest with --drop-duplicates"
                )
    return list(dict.fromkeys(unknown))


def require_same_corpus(studies: StudySet, corpus: Corpus, config: StudyConfig) -> None:
    """Makes sure that corpus and study set belong together.

    Raises:
        EvaluationError: If they do not.
    """
    if corpus.info.study_set_sha256 != studies.content_sha256:
        raise EvaluationError(
            f"{config.training.corpus}: comes from study set {corpus.info.study_set_sha256[:12]}, {config.studies} is "
            f"{studies.content_sha256[:12]}: tokenize the study set again"
        )
    if corpus.info.num_views != config.views:
        raise EvaluationError(
            f"{config.training.corpus}: has {corpus.info.num_views} views of each training study, the study says "
            f"{config.views}: set views to {corpus.info.num_views}"
        )


def require_wordings(studies: StudySet, config: StudyConfig) -> None:
    """Makes sure that every finding whose prompts are drawn has a held-out wording.

    Raises:
        EvaluationError: If one has none.
    """
    modality = studies.spec.modality
    if unknown := [name for name in config.prompt_findings if not held_out_paraphrases(name, modality)]:
        raise EvaluationError(
            f"prompt_findings names {', '.join(unknown)}, for which there is no held-out wording: use harmonised names "
            f"of {modality} findings, such as those of arra-med bundle info"
        )


def _contents(name: str, studies: StudySet, images: RealImages) -> Exposure:
    wanted = {record.image_id for record in images.records}
    rows = [row for row, image in enumerate(studies.image_ids) if image in wanted]
    return Exposure(name, frozenset(), image_contents(studies, rows))


def _about_tokenizer(config: StudyConfig) -> list[str]:
    """What cannot be said of the images that the image tokenizer learned from: its training's settings lie beside it."""
    settings: Any = None
    path = config.training.image_tokenizer.parent / "config.yaml"
    if path.is_file():
        try:
            settings = load_config(path, TokenizerTrainConfig)
        except ConfigError:
            settings = None
    if settings is None:
        return ["which images the image tokenizer learned from is not recorded beside it"]
    if settings.fold != config.training.fold:
        return ["the image tokenizer learned from other patients than the arms, the judge's among them"]
    return []


def _about_start(studies: StudySet, config: StudyConfig) -> list[str]:
    """What a bundle to start from has seen; its training images are as much the arms' as their own.

    Raises:
        OverlapError: If it was trained on patients of the judge's fold or held-out ones.
    """
    start = config.training.start
    if not isinstance(start, BundleStart):
        return []
    info = read_bundle_info(start.path)
    if info.training.get("study_set_sha256") != studies.content_sha256:
        return [f"what {info.name}, the start, learned from is not known: it was trained on another study set"]
    takes = trained_on(info)
    trained = {record.patient_id for record in studies.records() if takes(record)}
    for name, patients in (
        ("the judge's fold", judge_patients(studies, config).patients),
        ("the test split", held_out_stratum(studies, config, "test").patients),
    ):
        if shared := len(trained & set(patients)):
            raise OverlapError(f"{shared} patients of {name} trained {info.name}, the start: start from another bundle")
    return []
