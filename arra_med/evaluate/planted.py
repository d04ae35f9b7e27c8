"""Planted copies: what a copy of a training image can look like, to measure whether copies are found."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from arra_med.imaging.view import as_picture, augmented_view

Planting = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""uint8 (C, S, S) and a source of chance -> uint8 (C, S, S)."""

MAX_SHIFT = 0.0625  # of the side: 8 px of 128
KEPT_SIDE = 0.9
JPEG_QUALITIES = (50, 80)


def exact(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself."""
    return view.copy()


def shifted(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved by up to a sixteenth of the side in each direction; the strip is black or repeats the border, by chance."""
    reach = max(1, round(MAX_SHIFT * view.shape[-1]))
    down, across = rng.integers(-reach, reach + 1, 2)
    padded = np.pad(view, ((0, 0), (reach, reach), (reach, reach)), mode="edge" if rng.random() < 0.5 else "constant")
    side = view.shape[-1]
    return padded[:, reach + down : reach + down + side, reach + across : reach + across + side]


def cropped(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of nine tenths of the side, from anywhere, enlarged again."""
    side = view.shape[-1]
    kept = round(KEPT_SIDE * side)
    top, left = rng.integers(0, side - kept + 1, 2)
    return _from_image(
        Image.fromarray(as_picture(view[:, top : top + kept, left : left + kept])).resize(
            (side, side), Image.Resampling.BICUBIC
        )
    )


def recompressed(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Written as JPEG of quality 50 to 80 and read again."""
    stream = io.BytesIO()
    low, high = JPEG_QUALITIES
    Image.fromarray(as_picture(view)).save(stream, format="JPEG", quality=int(rng.integers(low, high + 1)))
    return _from_image(Image.open(stream))


def augmented(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As training may have shown it: a small shift, zoom and change of gamma (`augmented_view`)."""
    return augmented_view(view, "planted", 1, int(rng.integers(2**31)))


PLANTINGS: Mapping[str, Planting] = {
    "exact": exact,
    "shifted": shifted,
    "cropped": cropped,
    "recompressed": recompressed,
    "augmented": augmented,
}


def _from_image(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
