"""Pictures for people: small copies inside a page, and boards of captioned panels in one PNG."""

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

_JPEG_QUALITY = 88
_JPEG_FROM_PX = 64  # smaller pictures are shown enlarged, where JPEG's blocks would be seen

_MARGIN_PX = 24
_GAP_PX = 20
_BOARD, _INK, _MUTED, _STAGE, _FRAME, _WARNING = "#12161c", "#f2f4f7", "#a7b0bd", "#1c222b", "#2b323d", "#f5c26b"
_TITLE_PX, _HEADING_PX, _WORDS_PX = 24, 18, 14
_LINE_HEIGHT = 1.4


@dataclass(frozen=True)
class Panel:
    """One picture of a board.

    Attributes:
        heading: Two or three words over the picture.
        pixels: uint8, (H, W) grayscale or (H, W, 3) RGB; `None` leaves the place empty, with `lines` below.
        lines: What was done to get there, one sentence or clause each.
    """

    heading: str
    pixels: np.ndarray | None
    lines: tuple[str, ...] = ()


def data_uri(pixels: np.ndarray, max_side_px: int) -> str:
    """Returns a picture as a data URI, at most `max_side_px` wide and high.

    Args:
        pixels: uint8, (H, W) grayscale or (H, W, 3) RGB.
        max_side_px: Larger pictures are made smaller, their proportions kept.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    kind, options = ("jpeg", {"quality": _JPEG_QUALITY}) if min(image.size) >= _JPEG_FROM_PX else ("png", {})
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def draw_board(
    title: str, panels: Sequence[Panel], *, notes: Sequence[str] = (), warning: str = "", panel_px: int = 384
) -> bytes:
    """Draws captioned panels side by side.

    Args:
        title: Over all panels.
        panels: From left to right; each picture is fitted into a square, its proportions kept.
        notes: Lines below the panels.
        warning: One line in another colour below the title.
        panel_px: Side of a panel's square.

    Returns:
        A PNG file; it carries no metadata but `Comment`, which repeats the warning.

    Raises:
        ValueError: If there is no panel.
    """
    if not panels:
        raise ValueError("a board needs at least one panel")
    title_font, heading_font, words_font = (
        ImageFont.load_default(size) for size in (_TITLE_PX, _HEADING_PX, _WORDS_PX)
    )
    line_px = round(_WORDS_PX * _LINE_HEIGHT)
    width = 2 * _MARGIN_PX + len(panels) * panel_px + (len(panels) - 1) * _GAP_PX
    captions = [_wrapped(panel.lines, words_font, panel_px) for panel in panels]
    note_lines = _wrapped(notes, words_font, width - 2 * _MARGIN_PX)
    warning_lines = _wrapped([warning] if warning else [], words_font, width - 2 * _MARGIN_PX)
    warning_top = _MARGIN_PX + round(_TITLE_PX * 1.5)
    heading_top = warning_top + len(warning_lines) * line_px + _GAP_PX
    picture_top = heading_top + round(_HEADING_PX * 1.6)
    caption_top = picture_top + panel_px + 10
    notes_top = caption_top + max(map(len, captions)) * line_px + (_GAP_PX if note_lines else 0)
    board = Image.new("RGB", (width, notes_top + len(note_lines) * line_px + _MARGIN_PX), _BOARD)
    draw = ImageDraw.Draw(board)

    def write_lines(left: int, top: int, lines: Sequence[str], ink: str) -> None:
        for number, line in enumerate(lines):
            draw.text((left, top + number * line_px), line, font=words_font, fill=ink)

    draw.text((_MARGIN_PX, _MARGIN_PX), title, font=title_font, fill=_INK)
    write_lines(_MARGIN_PX, warning_top, warning_lines, _WARNING)
    write_lines(_MARGIN_PX, notes_top, note_lines, _MUTED)
    for number, (panel, lines) in enumerate(zip(panels, captions, strict=True)):
        left = _MARGIN_PX + number * (panel_px + _GAP_PX)
        draw.text((left, heading_top), f"{number + 1}  {panel.heading}", font=heading_font, fill=_INK)
        frame = (left - 1, picture_top - 1, left + panel_px, picture_top + panel_px)
        draw.rectangle(frame, fill=_STAGE, outline=_FRAME)
        if panel.pixels is not None:
            picture = _fitted(panel.pixels, panel_px)
            corner = (left + (panel_px - picture.width) // 2, picture_top + (panel_px - picture.height) // 2)
            board.paste(picture, corner)
        write_lines(left, caption_top, lines, _MUTED)
    stream = io.BytesIO()
    comment = PngInfo()
    if warning:
        comment.add_text("Comment", warning)
    board.save(stream, format="PNG", optimize=True, pnginfo=comment)
    return stream.getvalue()


def _fitted(pixels: np.ndarray, side_px: int) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    scale = side_px / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    # Whole multiples show the pixels as they are; at other scales that would make them unequal.
    kernel = Image.Resampling.NEAREST if float(scale).is_integer() else Image.Resampling.LANCZOS
    return image.resize(size, kernel)


def _wrapped(lines: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Breaks lines at words so that each fits into the width."""
    wrapped = []
    for line in lines:
        num_characters = max(len(line), 1)
        while num_characters > 1 and any(
            font.getlength(part) > width_px for part in textwrap.wrap(line, num_characters)
        ):
            num_characters -= 1
        wrapped += textwrap.wrap(line, num_characters) or [""]
    return wrapped
