"""A folder of finished views, read for judging and for reading: all of them, or a sentence that says why not.

Nothing is cropped or resized: a judge, and a reader, would see that as a difference. Pictures that are no views yet are
`arra-med ingest`'s work.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from arra_med.errors import EvaluationError, ImageError
from arra_med.evaluate.drawing import DESCRIPTION_FILE, read_drawing
from arra_med.generate.export_png import has_marks
from arra_med.imaging.read import read_image
from arra_med.imaging.view import CanonicalView, Modality, to_uint8
from arra_med.sources.folder import IMAGE_SUFFIXES, report_beside, visible_files

_LISTED = 5


@dataclass(frozen=True)
class ViewFolder:
    """The views in a folder, in the order of their names.

    Attributes:
        spec: What all of them are, by their size.
        views: uint8 (C, S, S) each.
        reports: Text of the .txt file beside each image; "" where there is none.
    """

    spec: CanonicalView
    views: list[np.ndarray]
    reports: list[str]


def read_view_folder(folder: Path, modality: Modality, at_least: int = 1) -> ViewFolder:
    """Reads all PNG and JPEG files below a folder; other files are passed over.

    Args:
        folder: Holds square images of one size.
        modality: Decides the number of channels.
        at_least: Images required.

    Raises:
        EvaluationError: If there are too few images, one cannot be read or is one of ours with marks in its pixels, or
            they are not squares of one size. No file is named, since names can identify patients; the numbers are those
            in the order of names.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: is no folder; give one that holds images")
    files = [path for path in visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    _require(folder, len(files), at_least)
    if num_marked := sum(map(has_marks, files)):
        raise EvaluationError(
            f"{folder}: {num_marked} of {len(files)} images carry the marks of an export in their pixels, which a judge "
            "and a reader would see: generate them with --no-visible-mark --no-watermark"
        )
    views: list[np.ndarray] = []
    unreadable: dict[int, str] = {}
    for number, path in enumerate(files, start=1):
        try:
            pixels = to_uint8(read_image(path, modality))
        except ImageError as error:
            unreadable[number] = error.reason
        else:
            views.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    if unreadable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(unreadable.values()).items()))
        numbers = ", ".join(map(str, list(unreadable)[:_LISTED])) + (", ..." if len(unreadable) > _LISTED else "")
        raise EvaluationError(
            f"{folder}: {len(unreadable)} of {len(files)} images cannot be read ({reasons}), in the order of names the "
            f"files number {numbers}: make them again or take them away, none is left out silently"
        )
    return ViewFolder(_common_spec(folder, views, modality), views, [report_beside(path) for path in files])


def read_generated_images(folder: Path, spec: CanonicalView, at_least: int) -> np.ndarray:
    """Reads images that were generated elsewhere.

    Args:
        folder: As `read_view_folder`, or what `draw_images` wrote.
        spec: The canonical view that all of them must have already.
        at_least: Images required.

    Returns:
        uint8 (n, C, S, S).

    Raises:
        EvaluationError: As `read_view_folder`, or if they have another size.
    """
    if (folder / DESCRIPTION_FILE).is_file():
        images = read_drawing(folder)
        _require(folder, len(images), at_least)
    else:
        images = np.stack(read_view_folder(folder, spec.modality, at_least).views)
    if images.shape[1:] != (spec.channels, spec.size_px, spec.size_px):
        raise EvaluationError(
            f"{folder}: holds images {images.shape[1:]}, and the study set's are {spec.size_px} px: a judge sees what "
            "resizing does, so ingest the studies at the images' size, or generate at the studies'"
        )
    return images


def _require(folder: Path, found: int, at_least: int) -> None:
    if found < at_least:
        raise EvaluationError(
            f"{folder}: holds {found} PNG or JPEG images and at least {at_least} are needed: give more"
        )


def _common_spec(folder: Path, views: list[np.ndarray], modality: Modality) -> CanonicalView:
    sizes = Counter(view.shape[1:] for view in views)
    if len(sizes) > 1 or any(height != width for height, width in sizes):
        found = ", ".join(f"{count} of {height} x {width}" for (height, width), count in sizes.most_common(4))
        raise EvaluationError(
            f"{folder}: squares of one size are required, found {found}{', ...' if len(sizes) > 4 else ''}: make study "
            "sets of them with arra-med ingest"
        )
    try:
        return CanonicalView(modality=modality, size_px=views[0].shape[1])
    except pydantic.ValidationError:
        raise EvaluationError(
            f"{folder}: images of {views[0].shape[1]} px are no canonical views; give 16 to 2048 px"
        ) from None
