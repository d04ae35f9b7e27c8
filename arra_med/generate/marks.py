"""How an exported picture says that it is synthetic: in words, in a mark that anybody sees, and in a watermark.

Marks are drawn on export alone. Evaluation, comparison and blinded reading take the pixels as the model made them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from arra_med.generate.watermark import MIN_EMBED_PX, WATERMARK_NAME, embed_watermark
from arra_med.records.study import Modality

IMAGE_TITLES: dict[Modality, str] = {
    "cxr": "Synthetic chest X-ray image",
    "fundus": "Synthetic fundus photograph",
    "photo": "Synthetic photograph",
}

EDITED_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC NewsCode of a picture that a trained model changed in part."""

_MARK_TEXT = "SYNTHETIC"
_MARK_SHARE = 16  # the visible mark is this part of the image's side in height
_MIN_TEXT_PX = 10  # below it the letters run together


def image_title(provenance: Mapping[str, Any]) -> str:
    """Returns what an image is called in its files, from its provenance."""
    title = IMAGE_TITLES[provenance["modality"]]
    is_edited = provenance["digital_source_type"] == EDITED_SOURCE_TYPE
    return title.replace("Synthetic", "Edited", 1) if is_edited else title


@dataclass(frozen=True)
class Marks:
    """What is drawn into the pixels of an exported image.

    Attributes:
        visible: The word SYNTHETIC in the lower left corner.
        watermark: The invisible watermark, in images that are large enough to carry it.
    """

    visible: bool = True
    watermark: bool = True

    def draw(self, picture: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns the marked picture, and what the record says: `visible`, and the watermark's name or None.

        Args:
            picture: uint8 (H, W) grayscale or (H, W, 3) RGB; it is not changed.
        """
        drawn = draw_visible_mark(picture) if self.visible else picture
        watermarked = embed_watermark(drawn) if self.watermark else None
        told = {"visible": self.visible, "watermark": None if watermarked is None else WATERMARK_NAME}
        return drawn if watermarked is None else watermarked, told

    def are_those_of(self, told: Any, picture: np.ndarray) -> bool:
        """Whether a record's marks, of a picture of this size, are what `draw` would draw."""
        has_room = min(picture.shape[:2]) >= MIN_EMBED_PX
        return bool(
            told == {"visible": self.visible, "watermark": WATERMARK_NAME if self.watermark and has_room else None}
        )


def draw_visible_mark(picture: np.ndarray) -> np.ndarray:
    """Returns a copy with SYNTHETIC in white letters on black, in the lower left corner.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
    """
    image = Image.fromarray(picture)
    height = max(_MIN_TEXT_PX, image.height // _MARK_SHARE)
    white, black = (255, 0) if picture.ndim == 2 else ((255, 255, 255), (0, 0, 0))
    font = ImageFont.load_default(size=height)
    drawing = ImageDraw.Draw(image)
    left, top, right, bottom = drawing.textbbox((0, 0), _MARK_TEXT, font=font)
    margin = max(2, height // 5)
    box_height = bottom - top + 2 * margin
    drawing.rectangle((0, image.height - box_height, right - left + 2 * margin - 1, image.height - 1), fill=black)
    drawing.text((margin - left, image.height - box_height + margin - top), _MARK_TEXT, fill=white, font=font)
    return np.asarray(image)
