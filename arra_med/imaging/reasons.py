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
]
REASONS: tuple[Reason, ...] = get_args(Reason)


def refusal(reason: Reason, message: str) -> ImageError:
    """Makes the error for a file that is refused.

    Args:
        reason: The code.
        message: What was found, what is required, what to do. It may name terms of the DICOM standard (a transfer
            syntax, a storage class), but no path and no other header value: callers know the path, and who may see it.
    """
    return ImageError(reason, message)
