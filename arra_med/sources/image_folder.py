"""A folder of PNG or JPEG images, each with an optional report of the same stem that ends with .txt."""

from collections.abc import Sequence
from pathlib import Path

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Modality, StudyRecord
from arra_med.sources.folder import IMAGE_SUFFIXES, LOCAL_LICENCE, report_beside, with_report

SOURCE = "local_images"

_THUMBNAIL_PX = 32
# Mean difference between the colour channels, of 255. Compressed grayscale stays below 2, fundus photographs above 20.
_COLOUR_DIFFERENCE = 8.0


def read_image_folder(
    folder: Path, files: Sequence[Path], pseudonymizer: Pseudonymizer, modality: Modality | None = None
) -> list[StudyRecord]:
    """Makes a record of every image file; patients are unknown, so each image counts as its own patient.

    Args:
        folder: The folder that was named; ids are keyed hashes of the paths below it.
        files: The files below it; those without an image suffix are passed over.
        pseudonymizer: Makes the ids.
        modality: Modality of all images; by default grayscale is `cxr` and colour is `fundus`.
    """
    records = []
    for path in files:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        image_id = f"{SOURCE}/{pseudonymizer.of(path.relative_to(folder).as_posix())}"
        record = StudyRecord(
            image_id=image_id,
            patient_id=image_id,
            modality=modality or _modality_of(path),
            path=str(path),
            source=SOURCE,
            licence=LOCAL_LICENCE,
            redistributable=False,
            patient_known=False,
        )
        records.append(with_report(record, report_beside(path)))
    return records


def _modality_of(path: Path) -> Modality:
    """Tells fundus photographs from radiographs by colour; a file that is no image counts as a radiograph here."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                return "cxr"
            image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
            pixels = np.asarray(image.convert("RGB").resize((_THUMBNAIL_PX, _THUMBNAIL_PX)), dtype=np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "cxr"
    difference = float(np.mean(pixels.max(axis=-1) - pixels.min(axis=-1)))
    return "fundus" if difference > _COLOUR_DIFFERENCE else "cxr"
