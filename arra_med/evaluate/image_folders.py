"""A folder of finished views (what `arra-med generate` writes, or reconstructions), read for judging and for reading.

Nothing is cropped or resized: a judge, and a reader, would see that as a difference. Pictures that are no views yet are
`arra-med ingest`'s work.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from arra_med.errors import EvaluationError, ImageError
from arra_med.imaging.read import read_image
from arra_med.imaging.view import CanonicalView, Modality, to_uint8
from arra_med.sources.folder import IMAGE_SUFFIXES, report_beside, visible_files


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


def read_view_folder(folder: Path, modality: Modality) -> ViewFolder:
    """Reads all PNG and JPEG files below a folder; other files are passed over.

    Args:
        folder: Holds square images of one size.
        modality: Decides the number of channels.

    Raises:
        EvaluationError: If there is no image, one cannot be read, or they are not squares of one size. No file is named,
            since names can identify patients; the number is that in the order of names.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: is no folder; give one that holds images")
    files = [path for path in visible_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise EvaluationError(f"{folder}: holds no image; give a folder of PNG or JPEG files")
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
        raise EvaluationError(
            f"{folder}: {len(unreadable)} of {len(files)} images cannot be read ({reasons}), the first is number "
            f"{min(unreadable)} in the order of names: replace or remove them"
        )
    return ViewFolder(_common_spec(folder, views, modality), views, [report_beside(path) for path in files])


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
