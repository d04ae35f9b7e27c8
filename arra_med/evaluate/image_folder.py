"""Images that were generated elsewhere, read from a folder: all of them, or a sentence that says why not."""

from collections import Counter
from pathlib import Path

import numpy as np

from arra_med.errors import EvaluationError, ImageError
from arra_med.evaluate.drawing import DESCRIPTION_FILE, read_drawing
from arra_med.imaging.read import read_image
from arra_med.imaging.view import CanonicalView, to_uint8
from arra_med.sources.folder import IMAGE_SUFFIXES

_LISTED = 5


def read_generated_images(folder: Path, spec: CanonicalView, at_least: int) -> np.ndarray:
    """Reads generated images.

    Args:
        folder: PNG or JPEG files, taken in the order of their names, or what `draw_images` wrote.
        spec: The canonical view that all of them must have already: nothing is cropped or resized, because a judge sees
            what resizing does.
        at_least: Images required.

    Returns:
        uint8 (n, C, S, S).

    Raises:
        EvaluationError: If there are too few, one cannot be read, or one has another size. Files are named by their place
            in the order, since a name may tell of a patient.
    """
    if (folder / DESCRIPTION_FILE).is_file():
        images = read_drawing(folder)
        _require(folder, len(images), at_least)
        if images.shape[1:] != (spec.channels, spec.size_px, spec.size_px):
            raise EvaluationError(f"{folder}: holds images {images.shape[1:]}, the study set's are {spec.size_px} px")
        return images
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: is no folder: give the one that holds the generated images")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    _require(folder, len(files), at_least)
    pictures, bad = [], {}
    for place, path in enumerate(files, start=1):
        try:
            pixels = read_image(path, spec.modality)
        except ImageError as error:
            bad[place] = error.reason
            continue
        pictures.append(to_uint8(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)))
    if bad:
        places = ", ".join(map(str, list(bad)[:_LISTED])) + (", ..." if len(bad) > _LISTED else "")
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(bad.values()).items())
        raise EvaluationError(
            f"{folder}: {len(bad)} of {len(files)} images cannot be read ({reasons}), by name the files number {places}: "
            "make them again or take them away, none is left out silently"
        )
    sizes = Counter(f"{image.shape[2]}x{image.shape[1]}" for image in pictures)
    if set(sizes) != {f"{spec.size_px}x{spec.size_px}"}:
        found = ", ".join(f"{count} of {size}" for size, count in sizes.most_common(_LISTED))
        raise EvaluationError(
            f"{folder}: holds images of {found} px, and the study set's are {spec.size_px}x{spec.size_px}: a judge sees "
            "what resizing does, so ingest the studies at the images' size, or generate at the studies'"
        )
    return np.stack(pictures)


def _require(folder: Path, found: int, at_least: int) -> None:
    if found < at_least:
        raise EvaluationError(
            f"{folder}: holds {found} images and at least {at_least} are needed for distances with floors: generate more"
        )
