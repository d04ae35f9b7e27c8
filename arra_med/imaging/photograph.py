"""PNG and JPEG files: pixels as a viewer shows them, or one clear reason why not.

Eight bits are divided by 255. Sixteen bits are divided by 65,535, unless the middle 99% of the values spans less than
a quarter of that: such a file holds the 10, 12 or 14 bits of a detector, unscaled, and would be almost black; those
percentiles then become its black and white.
"""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from arra_med.imaging.reasons import refusal

MAX_PIXELS = 100_000_000
"""The largest image decoded; the largest detectors and fundus cameras have less than half of it."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

ROBUST_PERCENTILES = (0.5, 99.5)
"""What becomes black and white where a file does not say."""

_NARROW = 0.25  # of the 16-bit range
_LARGEST_16_BIT = 65_535
_JPEG_START_OF_SCAN, _JPEG_END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


def decode_photograph(data: bytes, *, grayscale: bool) -> NDArray[np.float32]:
    """Decodes a PNG or JPEG file, turned upright as its EXIF orientation says.

    Args:
        data: The file's bytes.
        grayscale: Whether one channel is wanted (luma of ITU-R BT.601) rather than RGB. What is transparent is black.

    Returns:
        float32 in [0, 1], (H, W) or (H, W, 3).

    Raises:
        ImageError: `truncated`, `too_large` or `decode_failed`.
    """
    _check_complete(data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            check_size(image.height, image.width)
            image.load()
            return _to_float(ImageOps.exif_transpose(image), grayscale=grayscale)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    except _FAILURES as error:
        if "truncated" in str(error):
            raise _truncated() from None
        raise refusal("decode_failed", "the PNG or JPEG data is damaged; export the image again") from None


def check_size(height: int, width: int) -> None:
    """Raises ImageError `too_large` for an image of more than `MAX_PIXELS` pixels, before it is decoded."""
    if height * width > MAX_PIXELS:
        raise _too_large(height, width)


def robust_window(values: NDArray[np.float64]) -> tuple[float, float]:
    """The values that become black and white where nothing says so: the 0.5th and 99.5th percentile."""
    low, high = np.percentile(values, ROBUST_PERCENTILES)
    return float(low), float(high)


def _check_complete(data: bytes) -> None:
    """Finds the end mark that a complete file has; Pillow alone lets some incomplete files pass."""
    if data.startswith(PNG_SIGNATURE):
        complete = b"IEND" in data[-64:] or data.rfind(b"IEND") > data.rfind(b"IDAT") >= 0
    else:
        complete = data.rfind(_JPEG_END_OF_IMAGE) > data.rfind(_JPEG_START_OF_SCAN)
    if not complete:
        raise _truncated()


def _to_float(image: Image.Image, *, grayscale: bool) -> NDArray[np.float32]:
    if image.mode.startswith(("I", "F")):
        gray = _scale_16_bit(np.asarray(image, dtype=np.float64))
        return gray if grayscale else np.repeat(gray[..., None], 3, axis=2)
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour)
    pixels: NDArray[np.float32] = np.asarray(image.convert("L" if grayscale else "RGB"), dtype=np.float32)
    return pixels / np.float32(255)


def _scale_16_bit(values: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = robust_window(values)
    if not low < high or high - low >= _NARROW * _LARGEST_16_BIT:
        low, high = 0.0, float(_LARGEST_16_BIT)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _truncated() -> Exception:
    return refusal("truncated", "the file ends before its image does; copy it again from its source")


def _too_large(height: int = 0, width: int = 0) -> Exception:
    found = f"found {width} x {height} pixels" if height else "found far more pixels"
    return refusal("too_large", f"{found}, at most {MAX_PIXELS:,} are decoded; scale the image down first")
