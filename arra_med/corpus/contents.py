"""The rows of a study set by content, for the guard that keeps judges apart from what they judge."""

from collections.abc import Sequence

from arra_med.corpus.folds import PatientFold
from arra_med.corpus.study_rows import record_of, view_sha256
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.provenance import Exposure, ImageContent, ImageContents
from arra_med.records.study import Split
from arra_med.runs import sha256_json


def image_contents(studies: StudySet, rows: Sequence[int] | None = None, *, labels: bool = True) -> ImageContents:
    """Returns the content hashes of some rows.

    Args:
        studies: The study set, or a selection of it.
        rows: Which rows; all of them by default.
        labels: Whether labels and reports were looked at, too.
    """
    chosen = studies.dataset if rows is None else studies.dataset.select(rows)
    contents = []
    for index, row in enumerate(chosen.remove_columns(["view_png"])):
        record = record_of(row)
        told = sha256_json([record.patient_id, list(record.labels), record.report]) if labels else ""
        pixels = row.get("view_sha256") or view_sha256(studies.view(index if rows is None else rows[index]))
        contents.append(ImageContent(pixels, row.get("file_hash") or "", told))
    return ImageContents(tuple(sorted(contents)), studies.spec, studies.info.key_id)


def corpus_exposure(
    name: str,
    studies: StudySet,
    split: Split = "train",
    *,
    sources: Sequence[str] = (),
    fold: PatientFold | None = None,
) -> Exposure:
    """Returns what a generator that is trained on one split of a study set has been near.

    Args:
        name: For messages.
        studies: The study set that the corpus was tokenised from.
        split: The part that trains.
        sources: Those that train; empty takes all.
        fold: The patients that train; `None` takes all.
    """
    return Exposure(name, frozenset(), image_contents(studies.select(split=split, sources=sources, fold=fold)))
