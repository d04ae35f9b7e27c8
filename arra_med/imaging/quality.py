"""Whether an image shows what it should: cheap scores, and a threshold of the run for each of them.

Every score grows with the fault, and is named after the reason for which an image above the threshold is refused. The
defaults were chosen to refuse no ordinary image of some 11,000 real ones; `docs/quality.md` holds what they do refuse, and
how many made-up faults they find. `collimation_border` alone is never refused, only flagged.

All scores but `burned_in_text` and `extreme_aspect` are those of a small copy made of every n-th row and column.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from arra_med.config import StrictModel
from arra_med.imaging.burned_in import count_letters_in_lines
from arra_med.imaging.chest_likeness import chest_correlation, chest_likeness, content_box, thumbnail
from arra_med.imaging.fundus import brightest_channel
from arra_med.imaging.orientation import ViewPosition
from arra_med.imaging.reasons import Flag, Reason, refusal
from arra_med.imaging.view import Modality

SMALL_SIDE_PX = 256
"""The longer side of the small copy is at most this."""

_SATURATED_BLACK, _SATURATED_WHITE = 1.5 / 255, 253.5 / 255  # the last grey level at either end
_LIT = 0.1  # the brightest channel of what is no camera black
_COLOURLESS = 0.01  # mean saturation; JPEG adds as much to grey

_WHAT: Mapping[Reason, tuple[str, str]] = {
    "blank": ("the grey levels of the image hardly differ", "export it with its own window"),
    "clipped": ("much of the image is saturated", "export it with a wider window"),
    "extreme_aspect": ("the image is far from square", "check that it is a whole image"),
    "inverted": ("the image looks like the negative of a chest X-ray", "export it with air dark"),
    "wrong_body_part": (
        "the image does not look like what the study set holds",
        "check its kind and that it is upright",
    ),
    "burned_in_text": ("found what looks like lines of text in the pixels", "mask the text, or allow it for this run"),
}


class QualityThresholds(StrictModel):
    """What a run still accepts; an image is refused for a score above the threshold. None switches a check off.

    Attributes:
        blank: Of 1 minus the difference between the 1st and the 99th percentile of the brightness; range [0, 1].
        clipped: Of the share of saturated pixels, range [0, 1]. Chest X-ray: black or white, within its borders.
            Fundus: at least two channels at their end, of the lit part.
        extreme_aspect: Of the longer side divided by the shorter one; at least 1.
        inverted: Of the negative correlation with the mean frontal chest X-ray; range [-1, 1].
        wrong_body_part: Chest X-ray: of the negative likeness to an upright frontal chest, about -1 for one and about 1
            for one that is turned; 0.2 suits archives of frontal images. It is off by default because no lateral images
            were at hand to measure. Fundus: of the likeness of a colourless picture to a chest X-ray (-1 for every
            coloured picture); 0.4 suits archives of colour photographs.
        burned_in_text: Of the number of letter-like things in lines (`arra_med.imaging.burned_in`); markers such as
            L or PORTABLE SUPINE stay below the default.
        collimation_border: Of the share of the frame in black or white borders, range [0, 1]; flagged, never refused.
    """

    blank: float | None = 0.95
    clipped: float | None = 0.5
    extreme_aspect: float | None = 3.0
    inverted: float | None = 0.4
    wrong_body_part: float | None = None
    burned_in_text: float | None = 15
    collimation_border: float | None = 0.15


def quality_scores(
    pixels: NDArray[np.float32], modality: Modality, view: ViewPosition | None = None
) -> dict[str, float]:
    """Scores an image; see `QualityThresholds` for the meaning, unit and range of each score.

    Args:
        pixels: As read, (H, W) for `cxr`, (H, W, 3) for `fundus` and `photo`, range [0, 1].
        modality: What it should show.
        view: The projection of a chest X-ray, if known. A lateral one gets no score of a frontal chest.

    Returns:
        The scores that apply, by name: `inverted` and `collimation_border` are those of chest X-rays alone, and an
        everyday photograph, which may hold any letters and any white, has only `blank` and `extreme_aspect`.
    """
    height, width = pixels.shape[:2]
    step = max(1, -(-max(height, width) // SMALL_SIDE_PX))
    small = pixels[step // 2 :: step, step // 2 :: step]
    scores = {"extreme_aspect": max(height, width) / min(height, width)}
    if modality == "photo":
        return scores | {"blank": _flatness(brightest_channel(small))}
    scores |= _chest_scores(small, frontal=view != "lateral") if modality == "cxr" else _fundus_scores(small)
    return scores | {"burned_in_text": float(count_letters_in_lines(pixels))}


def check_quality(scores: Mapping[str, float], thresholds: QualityThresholds) -> None:
    """Refuses an image for the first score, in the order of `QualityThresholds`, that is above its threshold.

    Args:
        scores: Of `quality_scores`.
        thresholds: Of the run.

    Raises:
        ImageError: With the check's name as its reason; the message holds the score and the threshold.
    """
    for reason, (found, remedy) in _WHAT.items():
        threshold, score = getattr(thresholds, reason), scores.get(reason)
        if score is not None and threshold is not None and score > threshold:
            raise refusal(
                reason,
                f"{found}: its score is {score:.3g}, at most {threshold:.3g} is accepted; "
                f"{remedy}, or accept more (--quality {reason}=VALUE)",
            )


def quality_flags(scores: Mapping[str, float], thresholds: QualityThresholds) -> tuple[Flag, ...]:
    """Tells what is worth knowing of an image that is accepted."""
    border, threshold = scores.get("collimation_border"), thresholds.collimation_border
    return ("collimation_border",) if border is not None and threshold is not None and border > threshold else ()


def _chest_scores(small: NDArray[np.float32], *, frontal: bool) -> dict[str, float]:
    box = content_box(small)
    content = small[box.top : box.bottom, box.left : box.right]
    scores = {
        "blank": _flatness(small),
        "clipped": float(((content < _SATURATED_BLACK) | (content > _SATURATED_WHITE)).mean()),
        "collimation_border": 1 - content.size / small.size,
    }
    if frontal:
        view = thumbnail(small, box)
        scores |= {"inverted": -chest_correlation(view), "wrong_body_part": -chest_likeness(view)}
    return scores


def _fundus_scores(small: NDArray[np.float32]) -> dict[str, float]:
    brightness = brightest_channel(small)
    lit = small[brightness > _LIT]
    scores = {"blank": _flatness(brightness), "clipped": 0.0, "wrong_body_part": -1.0}
    if len(lit):
        scores["clipped"] = float(((lit > _SATURATED_WHITE) @ np.ones(3) >= 2).mean())
        brightest, darkest = brightest_channel(lit), -brightest_channel(-lit)
        if float(((brightest - darkest) / brightest).mean()) < _COLOURLESS:
            scores["wrong_body_part"] = max(-1.0, chest_likeness(thumbnail(brightness)))
    return scores


def _flatness(brightness: NDArray[np.float32]) -> float:
    low, high = np.percentile(brightness, (1, 99))
    return 1 - float(high - low)
