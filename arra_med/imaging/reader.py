"""The project's decoder as a MONAI reader, for pipelines that start from paths with `LoadImaged`.

MONAI's own `PydicomReader` applies neither a VOI LUT or window nor the inversion of MONOCHROME1, and gives columns
before rows; this one gives what `arra_med.imaging.read.read_image` gives, rows first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.transforms import Compose, LoadImaged
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from arra_med.imaging.read import read_image
from arra_med.imaging.view import CanonicalView, Modality, canonical_transforms


class DicomXrayReader(ImageReader):
    """Reads DICOM, PNG and JPEG files of one modality for `LoadImage` and `LoadImaged`.

    A refused file must stay refused, but `LoadImage` hands a file that one reader cannot `read` to the next one, which
    would show a CT slice or an inverted film. Therefore `read` only takes the paths, and `get_data` decodes.

    Example:
        `LoadImaged(keys="image", reader=DicomXrayReader("cxr"), ensure_channel_first=True)`

    Args:
        modality: `cxr` for (H, W) grayscale, `fundus` for (H, W, 3) RGB.
    """

    def __init__(self, modality: Modality = "cxr") -> None:
        self.modality: Modality = modality

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Whether this reader could be meant: always, since content and not the name decides."""
        return True

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> list[Path]:
        """Returns the paths; nothing is opened yet."""
        return [Path(str(item)) for item in (data if isinstance(data, list | tuple) else [data])]

    def get_data(self, img: Sequence[Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Decodes what `read` returned.

        Args:
            img: One path.

        Returns:
            float32 in [0, 1], (H, W) or (H, W, 3), and what MONAI wants to know of it (no header value).

        Raises:
            ImageError: As `read_image`; `Compose` wraps it in a RuntimeError, whose cause it is.
            ValueError: If there are several paths.
        """
        if len(img) != 1:
            raise ValueError(f"DicomXrayReader reads one file into one image, found {len(img)} paths; load them apart")
        pixels = read_image(img[0], self.modality)
        meta = {
            MetaKeys.SPATIAL_SHAPE: np.asarray(pixels.shape[:2]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if pixels.ndim == 2 else -1,
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.AFFINE: np.eye(4),
        }
        return pixels, {str(key): value for key, value in meta.items()}


def file_transforms(spec: CanonicalView, key: str = "image") -> Compose:
    """Returns the MONAI pipeline path -> canonical view (C, size_px, size_px) float32 in [0, 1]."""
    load = LoadImaged(keys=key, reader=DicomXrayReader(spec.modality), image_only=True, ensure_channel_first=True)
    return Compose([load, canonical_transforms(spec, key)])
