"""The arms of a reader study: from files, a study set, a table of prompts and bundles, or finished results.

Every image, real or not, passes the same steps: one canonical view, lines of letters covered, nothing but pixels kept.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, ImageError
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.held_out import one_source, order_by_hash
from arra_med.evaluate.reading_set import REAL, RECONSTRUCTED, ReadingArm, shown_report
from arra_med.generate.export_png import has_marks
from arra_med.generate.prompt_table import PromptRow
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.imaging.burned_in import cover_letters_in_lines
from arra_med.imaging.read import read_image
from arra_med.imaging.view import CanonicalView, Modality, canonical_view, from_uint8, to_uint8
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import Split
from arra_med.sources.folder import report_beside, visible_files

_NO_IMAGES = frozenset({".txt", ".csv", ".json", ".jsonl", ".html", ".md", ".zip"})
_LISTED = 5
_BATCH_IMAGES = 8


@dataclass(frozen=True)
class PreparedArm:
    """An arm, ready to be mixed.

    Attributes:
        arm: Its canonical views.
        num_covered: Images in which lines of letters were covered.
    """

    arm: ReadingArm
    num_covered: int


def arm_of_files(
    name: str, files: Sequence[Path], modality: Modality, size_px: int | None, *, paired: bool = False
) -> PreparedArm:
    """Returns an arm from DICOM, PNG or JPEG files, each with its report in a .txt file beside it.

    Args:
        name: `real`, `reconstructed`, or any other, which is then synthetic.
        files: In the order of their numbers.
        modality: What they show.
        size_px: Side of the view that they become; `None` requires squares of one size, which are views already.
        paired: Whether the file names, without their suffix, tell which images of two arms belong together. They stay
            in memory; a study's file never holds one.

    Raises:
        EvaluationError: If there is none, one cannot be read, carries the marks of an export, is smaller than the view,
            or has another size than the others where no size is given. No file is named.
    """
    if not files:
        raise EvaluationError(f"the arm {name} holds no image: give DICOM, PNG or JPEG files")
    views, covered, problems = [], 0, Counter[str]()
    numbers = []
    may_shrink = size_px is not None
    for number, path in enumerate(files, start=1):
        try:
            view, letters = _prepared(path, modality, size_px, may_shrink)
        except (ImageError, EvaluationError) as error:
            problems[error.reason if isinstance(error, ImageError) else str(error)] += 1
            numbers.append(number)
            continue
        size_px = view.shape[-1]
        views.append(view)
        covered += letters > 0
    if problems:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(problems.items()))
        told = ", ".join(map(str, numbers[:_LISTED])) + (", ..." if len(numbers) > _LISTED else "")
        raise EvaluationError(
            f"the arm {name}: {len(numbers)} of {len(files)} images cannot be used ({reasons}), in the order of names the "
            f"files number {told}: mend or take them away, none is left out silently"
        )
    reports = [shown_report(report_beside(path), modality) for path in files]
    origins = [path.stem if paired else f"file {number}" for number, path in enumerate(files, start=1)]
    return PreparedArm(ReadingArm(name, views, reports, origins), covered)


def arm_of_folder(
    name: str,
    folder: Path,
    modality: Modality,
    size_px: int | None,
    *,
    paired: bool = False,
    split: Split | None = None,
    source: str | None = None,
) -> PreparedArm:
    """Returns an arm from a folder of images, or from a study set.

    Raises:
        EvaluationError: As `arm_of_files`, or if there is no such folder.
        StudySetError: If a study set has no such images.
    """
    if not folder.is_dir():
        raise EvaluationError(f"the folder of the arm {name} is not there: give one that holds images")
    if (folder / "study_set.json").is_file():
        return arm_of_studies(name, StudySet.open(folder), split, source)
    files = [path for path in visible_files(folder) if path.suffix.lower() not in _NO_IMAGES]
    return arm_of_files(name, files, modality, size_px, paired=paired)


def arm_of_studies(name: str, studies: StudySet, split: Split | None = None, source: str | None = None) -> PreparedArm:
    """Returns an arm from a study set, whose views are canonical.

    Raises:
        StudySetError: If the split and source hold no image.
    """
    chosen = one_source(studies, split, source)
    records = chosen.records()
    views, covered = _covered([chosen.view(row) for row in range(len(chosen))])
    reports = [shown_report(record.report, record.modality) for record in records]
    return PreparedArm(ReadingArm(name, views, reports, [record.image_id for record in records]), covered)


def with_reconstructed(real: PreparedArm, bundle: ModelBundle) -> list[PreparedArm]:
    """Parts the real images into two halves of different images, and sends one through a bundle's tokenizer.

    Raises:
        EvaluationError: If they are fewer than 2, or not of the bundle's size.
    """
    arm = real.arm
    if len(arm.views) < 2:
        raise EvaluationError("1 real image cannot be parted into real and reconstructed ones: give more")
    order = order_by_hash(arm.origins, "reader-study")
    halves = (sorted(order[::2]), sorted(order[1::2]))
    kept, sent = (
        ReadingArm(name, [arm.views[r] for r in rows], [arm.reports[r] for r in rows], [arm.origins[r] for r in rows])
        for name, rows in zip((REAL, RECONSTRUCTED), halves, strict=True)
    )
    decoded = list(reconstruct_images(bundle, np.stack(sent.views)))
    return [
        PreparedArm(kept, real.num_covered),
        PreparedArm(ReadingArm(RECONSTRUCTED, decoded, sent.reports, sent.origins), 0),
    ]


def drawn_arms(
    sessions: Mapping[str, ReportToImage],
    rows: Sequence[PromptRow],
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, list[PreparedArm]]]:
    """Draws an arm with each of several bundles, from the same prompts at the same seeds.

    Args:
        sessions: Of each arm.
        rows: Of a table of prompts.
        should_stop: Asked after each grid row of a batch.

    Yields:
        Before each batch the number of images made so far, and at the end the arms; no marks are in their pixels.

    Raises:
        GenerationError: If a prompt does not fit a bundle.
        GenerationStopped: If `should_stop` returned true.
        ReportError: If a report holds nothing that describes an image.
    """
    requests, made = list(_single_images(rows)), 0
    arms: list[PreparedArm] = []
    for name, session in sessions.items():
        results = []
        for first in range(0, len(requests), _BATCH_IMAGES):
            yield made, []
            batch = requests[first : first + _BATCH_IMAGES]
            codes = session.draw_codes(batch, should_stop)
            results += [session.finish(request, its[None]) for request, its in zip(batch, codes, strict=True)]
            made += len(batch)
        arms.append(arm_of_results(name, results))
    yield made, arms


def _single_images(rows: Sequence[PromptRow]) -> Iterator[GenerationRequest]:
    """A request for each image of the rows."""
    for row in rows:
        for index in range(row.request.num_images):
            yield row.request.model_copy(update={"num_images": 1, "seed": row.request.seed + index})


def arm_of_results(name: str, results: Sequence[GenerationResult]) -> PreparedArm:
    """Returns an arm from finished images, such as those of the app's session.

    Images of the same report and seed have the same origin, whatever the model, so that they pair.

    Raises:
        EvaluationError: If there is none.
    """
    if not results:
        raise EvaluationError(f"the arm {name} holds no image: generate some first")
    views, reports, origins = [], [], []
    for result in results:
        for index, picture in enumerate(result.images):
            views.append(picture[None] if picture.ndim == 2 else np.ascontiguousarray(picture.transpose(2, 0, 1)))
            reports.append(shown_report(result.request.report, result.request.modality))
            origins.append(f"prompt {result.provenance['prompt_keyed_hash'][:12]}, seed {result.seed(index)}")
    views, covered = _covered(views)
    return PreparedArm(ReadingArm(name, views, reports, origins), covered)


def _prepared(path: Path, modality: Modality, size_px: int | None, may_shrink: bool) -> tuple[np.ndarray, int]:
    """One file's view, uint8 (C, S, S), and the number of letters covered in it."""
    if has_marks(path):
        raise EvaluationError("with the marks of an export, to be made with --no-visible-mark --no-watermark")
    pixels, letters = cover_letters_in_lines(read_image(path, modality))
    height, width = pixels.shape[:2]
    if height == width == (size_px or height):
        whole = to_uint8(pixels)
        return (whole[None] if whole.ndim == 2 else np.ascontiguousarray(whole.transpose(2, 0, 1))), letters
    if size_px is None or not may_shrink:
        raise EvaluationError("not square or of another size than the rest")
    if min(height, width) < size_px:
        raise EvaluationError(f"smaller than {size_px} px")
    return to_uint8(canonical_view(pixels, CanonicalView(modality=modality, size_px=size_px))), letters


def _covered(views: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
    covered = 0
    out = []
    for view in views:
        picture = from_uint8(view[0] if len(view) == 1 else np.ascontiguousarray(view.transpose(1, 2, 0)))
        masked, letters = cover_letters_in_lines(picture)
        covered += letters > 0
        clean = to_uint8(masked)
        out.append(view if not letters else clean[None] if clean.ndim == 2 else clean.transpose(2, 0, 1))
    return out, covered
