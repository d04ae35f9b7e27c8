"""An invisible mark that survives JPEG and resizing, and its detector.

It is a spread-spectrum mark in the discrete cosine transform of the whole image: about 3,600 coefficients between 10 and
35 periods across the image are pushed up or down by a fixed pattern of signs, hardly where the picture is smooth and
more where its own texture hides it. Coefficients of the whole image keep their place when it is resized, so that the
detector needs neither the original nor its size. The pattern is public: the mark tells an honest finder where an image
comes from; whoever wants to remove it can.

The detector whitens the image by its local contrast, takes the same coefficients y, limits the strong ones by an odd
function g, and computes T = sum(w g(y)) / sqrt(sum(g(y)^2)) with the signs w. Without the mark the signs have nothing to
do with the image, so that T has mean 0 and variance 1, its distribution is nearly normal, and P(T >= t) <= exp(-t^2 / 2)
whatever the image (Hoeffding). With the threshold 4.75 the normal tail is 1.0e-6 and the bound 1.3e-5.

Source: Cox, Kilian, Leighton, Shamoon 1997 (spread spectrum in the DCT); Barni, Bartolini, Cappellini, Piva 1998 (blind
detection, masking); Hoeffding 1963, theorem 2. `benchmarks/watermark.py` measures it.
"""

import functools
import hashlib
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from arra_med.errors import GenerationError, ImageError
from arra_med.imaging.read import read_image
from arra_med.imaging.rules import ReadingRules

WATERMARK_NAME = "arra-med-1"
"""Name of the pattern, for records; another pattern gets another name."""

THRESHOLD = 4.75
"""Detected at this statistic or above."""

MIN_DETECT_PX = 72
"""Shorter side of the smallest image whose coefficients are all there."""

MIN_EMBED_PX = 96
"""Shorter side of the smallest image that can lose a quarter of its size."""

_BAND = (20, 70)  # radius of the coefficients' indices; an index is half a period across the image
_TARGET = 8.0  # statistic that the mark must keep after JPEG and resizing
_STRENGTHS = tuple(0.25 * 2 ** (step / 4) for step in range(15))  # 0.25 to 2.8
_JPEG_QUALITY, _RESIZE = 80, 0.75
_MAX_DETECT_PX = 256  # larger images are averaged down: the mark's finest period is 7 px there
_TEXTURE_SCALE = 1.5 / 128  # of the shorter side: what is finer is texture
_FLOOR, _TEXTURE_SHARE, _MAX_AMPLITUDE = 1.0, 0.15, 4.0  # grey levels at strength 1
_RING = 4  # indices over which coefficients are taken to be alike
_ANY_IMAGE = ReadingRules(allow_burned_in=True, allow_for_processing=True)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG


def embed_watermark(picture: np.ndarray) -> np.ndarray | None:
    """Returns a copy with the weakest mark that JPEG at quality 80 and a resize to 75 %, in either order, leave clear.

    Args:
        picture: uint8 (H, W) or (H, W, 3).

    Returns:
        uint8 of the same shape; None if the picture is too small, or so flat that even the strongest mark would not last.
    """
    if min(picture.shape[:2]) < MIN_EMBED_PX:
        return None
    pattern = _spatial_pattern(picture)
    weak, strong = 0, len(_STRENGTHS) - 1
    if not _lasts(_added(picture, _STRENGTHS[strong] * pattern)):
        return None
    while weak < strong:
        middle = (weak + strong) // 2
        if _lasts(_added(picture, _STRENGTHS[middle] * pattern)):
            strong = middle
        else:
            weak = middle + 1
    return _added(picture, _STRENGTHS[strong] * pattern)


def watermark_statistic(picture: np.ndarray) -> float:
    """Returns the detector's statistic: standard normal without the mark; detected from `THRESHOLD` on.

    Args:
        picture: Grey levels 0 to 255, (H, W) or (H, W, 3), of `MIN_DETECT_PX` at least.
    """
    signs, rings = _signs()
    luma = _luma(picture)
    if (shorter := min(luma.shape)) > _MAX_DETECT_PX:
        height, width = (round(side * _MAX_DETECT_PX / shorter) for side in luma.shape)
        image = Image.fromarray(luma.astype(np.float32))
        luma = np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=float)
    texture, contrast = _texture(luma)
    whitened = dctn(texture / (contrast + _FLOOR), norm="ortho")[: signs.shape[0], : signs.shape[1]]
    used = signs != 0
    values, ring, sign = whitened[used], rings[used], signs[used]
    magnitude = np.bincount(ring, np.abs(values)) / np.maximum(np.bincount(ring), 1)
    limited = values / (np.abs(values) + magnitude[ring] + 1e-9)
    return float(sign @ limited / (np.linalg.norm(limited) + 1e-9))


def detect_watermark(path: Path) -> float:
    """Returns `watermark_statistic` of a file.

    Args:
        path: A PNG, JPEG or DICOM file.

    Raises:
        GenerationError: If it cannot be read as an image, or is too small to tell.
    """
    try:
        picture = 255.0 * read_image(path, "cxr", _ANY_IMAGE)  # the one way to grey levels, of colour images, too
    except ImageError as error:
        raise GenerationError(f"{path}: cannot be searched for a watermark: {error}") from None
    if min(picture.shape) < MIN_DETECT_PX:
        raise GenerationError(
            f"{path}: is {picture.shape[1]} x {picture.shape[0]} px, a watermark can be found from {MIN_DETECT_PX} px "
            "on: give the larger original"
        )
    return watermark_statistic(picture)


def false_alarm_bound(statistic: float) -> float:
    """Returns an upper bound of the chance that an image without the mark reaches a statistic (Hoeffding)."""
    return math.exp(-(max(statistic, 0.0) ** 2) / 2)


@functools.cache
def _signs() -> tuple[np.ndarray, np.ndarray]:
    """Returns the pattern, (72, 72) of -1, 1 and 0 outside the band, and each coefficient's ring number."""
    side = MIN_DETECT_PX
    bits = np.frombuffer(hashlib.shake_256(b"arra-med watermark 1").digest(side * side // 8), dtype=np.uint8)
    signs = 2.0 * np.unpackbits(bits).reshape(side, side) - 1
    radius = np.hypot(*np.mgrid[:side, :side])
    signs[(radius < _BAND[0]) | (radius > _BAND[1])] = 0
    return signs, np.round(radius / _RING).astype(int)


def _spatial_pattern(picture: np.ndarray) -> np.ndarray:
    """Returns what strength 1 adds, in grey levels, (H, W)."""
    signs, _ = _signs()
    luma = _luma(picture)
    spectrum = np.zeros(luma.shape)
    spectrum[: signs.shape[0], : signs.shape[1]] = signs
    pattern = idctn(spectrum, norm="ortho")
    amplitude = np.minimum(_FLOOR + _TEXTURE_SHARE * _texture(luma)[1], _MAX_AMPLITUDE)
    return amplitude * pattern / pattern.std()


def _texture(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is finer than the texture's scale, and its local contrast (standard deviation)."""
    scale = _TEXTURE_SCALE * min(luma.shape)
    texture = luma - gaussian_filter(luma, scale)
    return texture, np.sqrt(gaussian_filter(texture**2, 2 * scale))


def _luma(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float) if picture.ndim == 2 else picture.astype(float) @ _LUMA


def _added(picture: np.ndarray, change: np.ndarray) -> np.ndarray:
    change = change if picture.ndim == 2 else change[..., None]
    return np.clip(np.round(picture + change), 0, 255).astype(np.uint8)


def _lasts(picture: np.ndarray) -> bool:
    return all(watermark_statistic(worn) >= _TARGET for worn in (_resized(_jpeg(picture)), _jpeg(_resized(picture))))


def _jpeg(picture: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_JPEG_QUALITY)
    with Image.open(stream) as image:
        return np.asarray(image)


def _resized(picture: np.ndarray) -> np.ndarray:
    height, width = (round(side * _RESIZE) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
