"""Which image codes a marked region touches, and how a redrawn region is laid into its picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from arra_med.errors import GenerationError

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are the first ones outside."""


_HALF = 127


def box_mask(box: Box, size_px: int) -> np.ndarray:
    """Returns a rectangle as a mask, bool (size_px, size_px).

    Raises:
        GenerationError: If it is empty or reaches beyond the picture.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= size_px and 0 <= top < bottom <= size_px):
        raise GenerationError(
            f"the region from ({left}, {top}) to ({right}, {bottom}) is empty or reaches beyond the picture of "
            f"{size_px} x {size_px} pixels: give LEFT,TOP,RIGHT,BOTTOM within it"
        )
    mask = np.zeros((size_px, size_px), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def read_mask(file: Path, size_px: int) -> np.ndarray:
    """Reads a PNG, white where the picture is to be drawn anew, as a mask, bool (size_px, size_px).

    Raises:
        GenerationError: If it cannot be read or is no square.
    """
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.load()
            grey = image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow: SyntaxError for a broken PNG
        raise GenerationError("the mask cannot be read: give a PNG, white where the picture is drawn anew") from None
    if grey.width != grey.height:
        raise GenerationError(
            f"the mask has {grey.width} x {grey.height} pixels, the picture is a square: draw the mask on the picture"
        )
    return np.asarray(grey.resize((size_px, size_px), Image.Resampling.NEAREST)) > _HALF


def touched_cells(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns the codes whose square of pixels holds at least one marked pixel.

    Args:
        mask: bool (H, W), a whole number of pixels for each code.
        grid: Rows and columns of codes.

    Returns:
        bool (h, w).

    Raises:
        GenerationError: If nothing is marked, or the mask has another size.
    """
    height, width = grid
    if mask.ndim != 2 or mask.shape[0] % height or mask.shape[1] % width or not mask.size:
        raise GenerationError(
            f"the mask has shape {mask.shape}, which is no whole number of pixels for each of {height} x {width} codes: "
            "give a mask of the picture's size"
        )
    if not mask.any():
        raise GenerationError("nothing is marked, so nothing would be drawn anew: mark a region of the picture")
    blocks = mask.reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    return np.asarray(blocks.any(axis=(1, 3)))


def cell_pixels(cells: np.ndarray, size_px: int) -> np.ndarray:
    """Returns the pixels (size_px, size_px) that belong to marked codes (h, w), both bool."""
    height, width = cells.shape
    return cells.repeat(size_px // height, axis=0).repeat(size_px // width, axis=1)


def laid_into(original: np.ndarray, redrawn: np.ndarray, region: np.ndarray, feather_px: int) -> np.ndarray:
    """Lays a redrawn region into the original picture, whose other pixels stay exactly as they are.

    The seam is softened inside the region: a pixel that is d pixels from the nearest one outside is d / feather_px
    redrawn.

    Args:
        original: uint8 (H, W) or (H, W, 3).
        redrawn: Likewise.
        region: bool (H, W).
        feather_px: Width of the soft edge; 0 for a hard one.

    Returns:
        uint8, of the same shape.
    """
    from scipy.ndimage import distance_transform_edt

    if region.all():
        return redrawn.copy()
    depth = distance_transform_edt(region)
    weight = np.clip(depth / feather_px, 0, 1) if feather_px else region.astype(float)
    weight = weight if original.ndim == 2 else weight[..., None]
    mixed = np.rint(original + weight * (redrawn.astype(float) - original)).astype(np.uint8)
    return np.where(region if original.ndim == 2 else region[..., None], mixed, original)
