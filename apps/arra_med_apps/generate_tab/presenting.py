"""Small pieces of HTML: the prompt, the forming pictures, and the settings in plain words."""

import base64
import html
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from arra_med.errors import GenerationError
from arra_med.records.report import Prompt
from arra_med.records.report_parts import ReportPart
from arra_med_apps import words
from arra_med_apps.generate_tab import words as own_words

_LIVE_FORMAT = "PNG"


def prompt_panel(prompt: Prompt, parts: Sequence[ReportPart] = (), notices: Sequence[str] = ()) -> str:
    """Returns the prompt, its notices and further ones, and what of the report is left out and why."""
    return (
        f'<div class="am-prompt"><span class="am-label">The model reads</span><p>{html.escape(prompt.text)}</p></div>'
        + _notices((*prompt.notices, *notices))
        + _left_out(parts)
    )


def _notices(notices: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(notice)}</li>" for notice in notices)
    return f'<ul class="am-notices">{items}</ul>' if items else ""


def _left_out(parts: Sequence[ReportPart]) -> str:
    reasons = list(dict.fromkeys(part.reason for part in parts if part.reason and part.text.strip()))
    if not reasons:
        return ""
    text = "".join(_part(part, reasons) for part in parts)
    listed = "".join(f"<li>{html.escape(words.sentence(reason))}</li>" for reason in reasons)
    return (
        f'<details class="am-left-out"><summary>{own_words.LEFT_OUT}: {words.several(len(reasons), "reason")}</summary>'
        f"<p>{text}</p><ol>{listed}</ol></details>"
    )


def _part(part: ReportPart, reasons: Sequence[str]) -> str:
    text = html.escape(part.text)
    if not part.reason or not part.text.strip():
        return text
    number = reasons.index(part.reason) + 1
    return f'<del title="{html.escape(part.reason)}">{text}</del><sup aria-label="left out, reason {number}">{number}</sup>'


def prompt_hint(text: str) -> str:
    """Returns the prompt panel while there is no prompt."""
    return (
        f'<div class="am-prompt am-muted"><span class="am-label">The model reads</span><p>{html.escape(text)}</p></div>'
    )


def empty_panel() -> str:
    """Returns the picture panel before the first picture."""
    return (
        '<div class="am-live"><div class="am-stage am-empty"><div>'
        f"<strong>{html.escape(words.NO_IMAGES_YET)}</strong><p>{html.escape(words.NO_IMAGES_HINT)}</p></div></div></div>"
    )


def problem_panel(text: str) -> str:
    """Returns one sentence about what went wrong, to stand above the picture panel."""
    return f'<div class="am-problem" role="alert">{html.escape(text)}</div>'


def help_text(text: str) -> str:
    """Returns a quiet paragraph."""
    return f'<p class="am-help">{html.escape(text)}</p>'


def waiting_panel(text: str, num_images: int) -> str:
    """Returns empty frames under a status line, before the first row of tokens."""
    return _live(text, "", 0.0, [_frame(None, 0.0, i, num_images) for i in range(num_images)])


def forming_panel(images: np.ndarray, progress: float, seconds_left: float | None) -> str:
    """Returns the partial pictures with a progress bar.

    Args:
        images: uint8 (n, H, W) or (n, H, W, 3); rows below `progress` are not made yet.
        progress: Share of the rows that are made, 0 to 1.
        seconds_left: Estimate; None while unknown.
    """
    frames = [_frame(image, progress, i, len(images)) for i, image in enumerate(images)]
    left = f"about {words.duration(seconds_left)} left" if seconds_left is not None else ""
    return _live(f"Making {words.several(len(images), 'image')}", left, progress, frames)


def table_panel(text: str, left: str, progress: float, pictures: Sequence[np.ndarray]) -> str:
    """Returns how far a table is, over its last finished pictures.

    Args:
        text: What is done.
        left: Speed and time left, or empty.
        progress: Share of the images that are done, 0 to 1.
        pictures: uint8 (H, W) or (H, W, 3), at most eight.
    """
    figures = [
        f'<figure><img alt="Finished image {at}" src="{data_uri(picture)}"></figure>'
        for at, picture in enumerate(pictures, start=1)
    ]
    return _live(text, left, progress, figures)


def note_panel(text: str) -> str:
    """Returns one sentence that is no error, to stand above a half-made picture."""
    return f'<div class="am-note" role="status">{html.escape(text)}</div>'


def window_panel() -> str:
    """Returns the window and level controls; page.js works them, in the browser alone."""
    return (
        '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><filter id="am-window-filter" '
        'color-interpolation-filters="sRGB"><feComponentTransfer>'
        + "".join(f'<feFunc{channel} type="linear" slope="1" intercept="0"/>' for channel in "RGB")
        + '</feComponentTransfer></filter></svg><div class="am-window">'
        '<label>Window <input id="am-window-width" type="range" min="1" max="255" value="255"></label>'
        '<label>Level <input id="am-window-level" type="range" min="0" max="255" value="128"></label>'
        '<output id="am-window-shown">255 / 128</output>'
        '<button id="am-window-reset" type="button">Reset</button></div>'
    )


def done_line(num_images: int, seconds: float, hint: str = "Click an image to enlarge it") -> str:
    """Returns the status line above the finished gallery."""
    return (
        '<div class="am-live"><div class="am-status" role="status"><span>'
        f"{words.several(num_images, 'synthetic image')} made in {words.duration(seconds)}</span>"
        f'<span class="am-muted">{html.escape(hint)}</span></div></div>'
    )


def settings_panel(settings: Mapping[str, str], cautions: Sequence[str] = ()) -> str:
    """Returns the settings as a definition list, in the given order, and what to mind."""
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in settings.items())
    notes = f"<p>{html.escape(words.REPEATABLE)} {html.escape(words.PROVENANCE_HINT)}</p>"
    return f'<div class="am-settings"><dl>{rows}</dl>{_notices(cautions)}{notes}</div>'


def model_panel(settings: Mapping[str, str], cautions: Sequence[str], counts: Mapping[str, int]) -> str:
    """Returns what a model is, what it cannot do and what it was trained on."""
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in settings.items())
    items = "".join(f"<li>{html.escape(words.sentence(caution))}</li>" for caution in cautions)
    chips = "".join(
        f"<span>{html.escape(label)} <b>{count:,}</b></span>"
        for label, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return (
        f'<div class="am-settings"><dl>{rows}</dl>'
        + (f"<h4>Mind</h4><ul>{items}</ul>" if items else "")
        + (f'<h4>Training images by finding</h4><div class="am-counts">{chips}</div>' if chips else "")
        + "</div>"
    )


def write_archive(files: Sequence[Path], archive: Path, banner: str) -> None:
    """Packs the saved images and their settings, with a note on what they are.

    Raises:
        GenerationError: If the disk is full.
    """
    note = f"{banner}\nEach PNG and the JSON file beside it name the model, seed and settings.\n"
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("README.txt", note)
            for file in files:
                out.write(file, file.name)
    except OSError as error:
        raise GenerationError(words.unwritten(error)) from error


def data_uri(image: np.ndarray) -> str:
    """Returns a uint8 (H, W) or (H, W, 3) image as a data URI, so that a partial picture never becomes a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, _LIVE_FORMAT, compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _live(text: str, left: str, progress: float, frames: Sequence[str]) -> str:
    percent = round(100 * progress)
    return (
        f'<div class="am-live"><div class="am-status" role="status"><span>{html.escape(text)}</span>'
        f'<span class="am-muted">{html.escape(left)}</span></div>'
        f'<div class="am-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        f'<div class="am-stage"><div class="am-grid am-n{len(frames)}">{"".join(frames)}</div></div></div>'
    )


def _frame(image: np.ndarray | None, progress: float, index: int, count: int) -> str:
    name = f"Image {index + 1} of {count}"
    picture = f'<img alt="{name}, forming" src="{data_uri(image)}">' if image is not None else ""
    veil = f'<i style="height:{100 * (1 - progress):.1f}%"></i>'
    return f'<figure aria-label="{name}">{picture}{veil}</figure>'
