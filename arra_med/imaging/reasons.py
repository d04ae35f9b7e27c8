"""The closed vocabulary of why a file cannot become an image; these codes stand in the quarantine file."""

from typing import Literal, get_args

from arra_med.errors import ImageError

Reason = Literal[
    "missing",
    "empty",
    "truncated",
    "not_an_image",
    "no_pixels",
    "unsupported_transfer_syntax",
    "not_a_projection_xray",
    "not_a_fundus_photograph",
    "multi_frame",
    "too_large",
    "decode_failed",
    "blank",
    "for_processing",
    "burned_in_text",
    "clipped",
    "extreme_aspect",
    "inverted",
    "wrong_body_part",
    "duplicate",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

Flag = Literal[
    "percentile_window",
    "several_windows",
    "voi_lut_before_window",
    "polarity_contradiction",
    "for_processing",
    "burned_in_declared",
    "overlay_ignored",
    "resampled_to_square_pixels",
    "aspect_ratio_ignored",
    "orientation_suggests_mirror",
    "orientation_suggests_rotation_90",
    "orientation_suggests_rotation_180",
    "orientation_suggests_rotation_270",
    "orientation_suggests_mirror_and_rotation_90",
    "orientation_suggests_mirror_and_rotation_180",
    "orientation_suggests_mirror_and_rotation_270",
    "orientation_contradicts_view",
    "orientation_unusable",
    "collimation_border",
]
"""What was decided about an image that was read, where its file left a choice."""

FLAGS: tuple[Flag, ...] = get_args(Flag)


def refusal(reason: Reason, message: str) -> ImageError:
    """Makes the error for a file that is refused.

    Args:
        reason: The code.
        message: What was found, what is required, what to do. It may name terms of the DICOM standard (a transfer
            syntax, a storage class), but no path and no other header value: callers know the path, and who may see it.
    """
    return ImageError(reason, message)
