"""Small pieces of HTML: the prompt, the forming pictures, and the settings in plain words."""

import base64
import html
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from arra_med.records.report import Prompt
from arra_med_apps import words

_LIVE_FORMAT = "PNG"


def prompt_panel(prompt: Prompt) -> str:
    """Returns the prompt and its notices."""
    notices = "".join(f"<li>{html.escape(notice)}</li>" for notice in prompt.notices)
    return (
        f'<div class="am-prompt"><span class="am-label">The model reads</span><p>{html.escape(prompt.text)}</p></div>'
        + (f'<ul class="am-notices">{notices}</ul>' if notices else "")
    )


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


def note_panel(text: str) -> str:
    """Returns one sentence that is no error, to stand above a half-made picture."""
    return f'<div class="am-note" role="status">{html.escape(text)}</div>'


def done_line(num_images: int, seconds: float) -> str:
    """Returns the status line above the finished gallery."""
    return (
        '<div class="am-live"><div class="am-status" role="status"><span>'
        f"{words.several(num_images, 'synthetic image')} made in {words.duration(seconds)}</span>"
        '<span class="am-muted">Click an image to enlarge it</span></div></div>'
    )


def settings_panel(settings: Mapping[str, str]) -> str:
    """Returns the settings as a definition list, in the given order."""
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in settings.items())
    notes = f"<p>{html.escape(words.REPEATABLE)} {html.escape(words.PROVENANCE_HINT)}</p>"
    return f'<div class="am-settings"><dl>{rows}</dl>{notes}</div>'


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
    """Packs the saved images and their settings, with a note on what they are."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(
            "README.txt", f"{banner}\nEach PNG and the JSON file beside it name the model, seed and settings.\n"
        )
        for file in files:
            out.write(file, file.name)


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
