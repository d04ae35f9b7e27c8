"""The real images of a study: the held-out stratum, the judge's own patients, and what no arm may have seen of them."""

from collections import Counter
from collections.abc import Sequence

from arra_med.corpus.contents import corpus_exposure, image_contents
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders.provenance import Exposure, require_disjoint
from arra_med.errors import EvaluationError, OverlapError
from arra_med.evaluate.held_out import RealImages, order_by_hash, real_images
from arra_med.evaluate.resampling import MIN_PATIENTS
from arra_med.evaluate.study_settings import StudyConfig
from arra_med.records.study import Split
from arra_med.records.wording import held_out_paraphrases

_MAX_PROJECTION_IMAGES = 1500


def held_out_stratum(studies: StudySet, config: StudyConfig, split: Split) -> RealImages:
    """Returns the stratum's images of a held-out split.

    Raises:
        EvaluationError: If they are too few for the primary distance; of the test split also on halves of its patients,
            which floors and intervals are made of.
    """
    repeated = set(studies.duplicates)  # a copy biases every distance
    rows = [
        row
        for row, record in enumerate(studies.records())
        if record.split == split and config.held_out.holds(record) and record.image_id not in repeated
    ]
    images = real_images(studies, _first_by_hash(studies, rows, config.held_out.max_images))
    needed, source = config.num_dims + 1, config.held_out.source
    if len(images.records) < needed:
        raise EvaluationError(
            f"the {split} split has {len(images.records)} images of source {source} in this stratum, a distance of "
            f"{config.num_dims} dimensions needs {needed}: ingest more, widen held_out, or lower num_dims"
        )
    if split == "test":
        _require_halves(images, needed, source)
    return images


def _require_halves(images: RealImages, needed: int, source: str) -> None:
    """Whichever half of the patients is drawn, a distance can be taken of its images."""
    counts = sorted(Counter(images.patients).values())
    if len(counts) < MIN_PATIENTS:
        raise EvaluationError(
            f"the test images of source {source} come from {len(counts)} patients, an interval over patients needs "
            f"{MIN_PATIENTS}: ingest more, or widen held_out"
        )
    fewest = min(sum(counts[: len(counts) // 2]), (sum(counts) - counts[-1]) // 2)
    if fewest < needed:
        raise EvaluationError(
            f"the test split has {sum(counts)} images of {len(counts)} patients of source {source}; half of the patients "
            f"can have as few as {fewest}, and floors and intervals need {needed} there: ingest more, widen held_out, "
            f"or set num_dims to {max(fewest - 1, 1)}"
        )


def judge_patients(studies: StudySet, config: StudyConfig) -> RealImages:
    """Returns the stratum's train images of the judge's fold: no generator and no teacher learned from them.

    Raises:
        EvaluationError: If there are none.
    """
    rows = [
        row
        for row, record in enumerate(studies.records())
        if record.split == "train" and config.held_out.holds(record) and config.judge_fold.holds(record.patient_id)
    ]
    if not rows:
        raise EvaluationError("no train image of the stratum is in judge_fold: choose another fold or stratum")
    return real_images(studies, rows)


def training_reals(studies: StudySet, config: StudyConfig, limit: int | None = _MAX_PROJECTION_IMAGES) -> RealImages:
    """Returns real images that the arms trained on, at most `limit` by hash: the projection is fitted to 1,500."""
    training = config.training
    chosen = studies.select(split="train", sources=training.sources, fold=training.fold)
    return real_images(chosen, _first_by_hash(chosen, range(len(chosen)), limit))


def require_untouched(
    studies: StudySet, config: StudyConfig, judges: Sequence[Exposure], teachers: Sequence[Exposure]
) -> list[str]:
    """Makes sure that no judge was near a training, and that no held-out patient or image trained.

    Args:
        studies: The study set.
        config: The study.
        judges: Encoders that judge, and the classifiers' images of the judge's fold.
        teachers: Encoders that some arm is aligned to.

    Returns:
        One sentence for each thing that nobody recorded and that could not be looked at.

    Raises:
        OverlapError: If a judge overlaps a teacher or the corpus, or a held-out patient or image is in the training.
    """
    training = config.training
    corpus = corpus_exposure("the generators' corpus", studies, sources=training.sources, fold=training.fold)
    unknown: list[str] = []
    for judge in judges:
        unknown += require_disjoint(judge, [*teachers, corpus])
    chosen = studies.select(split="train", sources=training.sources, fold=training.fold)
    trained = {record.patient_id for record in chosen.records()}
    learned = [("the training", corpus), *((f"what {teacher.name} learned from", teacher) for teacher in teachers)]
    pixels = {name: {row.view_sha256 for row in near.images.rows} for name, near in learned if near.images}
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        held_out = held_out_stratum(studies, config, split)
        if shared := len(trained & set(held_out.patients)):
            raise OverlapError(
                f"{shared} patients of the {split} split are in the training: split the studies by patient again"
            )
        wanted = {record.image_id for record in held_out.records}
        rows = [row for row, image in enumerate(studies.image_ids) if image in wanted]
        views = [row.view_sha256 for row in image_contents(studies, rows, labels=False).rows]
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


def _first_by_hash(studies: StudySet, rows: Sequence[int], limit: int | None) -> list[int]:
    """At most `limit` rows, drawn by the image ids, in the study set's order."""
    names = studies.image_ids
    return sorted(rows[at] for at in order_by_hash([names[row] for row in rows])[:limit])
