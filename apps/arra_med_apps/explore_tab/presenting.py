"""Small pieces of HTML of the tab: progress, pairs with their map, ranked edits, and the report with its phrases marked."""

import html
from collections.abc import Iterable, Sequence

import numpy as np

from arra_med.evaluate.phrase_effect import LIMIT as EXPLAIN_LIMIT
from arra_med.evaluate.phrase_effect import RULE, Explanation
from arra_med.evaluate.phrase_page import COLUMNS, effect_rows, marked_prompt, noise_in_words
from arra_med.generate.counterfactual import LIMIT as PAIR_LIMIT
from arra_med.generate.counterfactual import Counterfactual, difference_picture
from arra_med.generate.editing import LIMIT as EDIT_LIMIT
from arra_med.generate.region import cell_pixels
from arra_med.generate.session import GenerationResult
from arra_med_apps import words as page_words
from arra_med_apps.explore_tab import words
from arra_med_apps.generate_tab.presenting import (
    data_uri,
    help_text,
    note_panel,
    problem_panel,
    prompt_hint,
    prompt_panel,
)

__all__ = [
    "edit_panel",
    "explain_panel",
    "help_text",
    "marked_picture",
    "note_panel",
    "pair_panel",
    "problem_panel",
    "progress_panel",
    "prompt_hint",
    "prompt_panel",
]

_MARK = np.array([34, 211, 238])
_LINE = np.array([120, 130, 145])
_MIN_SHOWN_PX = 384


def progress_panel(text: str, share: float, seconds_left: float | None = None) -> str:
    """Returns a status line over a progress bar."""
    percent = round(100 * share)
    left = f"about {page_words.duration(seconds_left)} left" if seconds_left is not None else ""
    return (
        f'<div class="am-live"><div class="am-status" role="status"><span>{html.escape(text)}</span>'
        f'<span class="am-muted">{left}</span></div><div class="am-bar" role="progressbar" aria-label="Progress" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div></div>'
    )


def pair_panel(pairs: Counterfactual) -> str:
    """Returns each pair beside the map of its difference."""
    rows = []
    for index, difference in enumerate(pairs.differences):
        seed = pairs.before.seed(index)
        changed = f"{pairs.tokens_changed[index]:.0%} of the image tokens differ"
        figures = (
            _figure(pairs.before.images[index], f"Report, seed {seed}"),
            _figure(pairs.after.images[index], f"Edited report, seed {seed}"),
            _figure(difference_picture(difference, pairs.scale), f"Difference. {changed}"),
        )
        rows.append(f'<div class="am-trio">{"".join(figures)}</div>')
    scale = (
        f'<div class="am-scale"><span>{pairs.scale} grey levels darker</span><i></i>'
        f"<span>{pairs.scale} brighter</span></div>"
    )
    return _shown([*rows, scale, _notes([PAIR_LIMIT, *pairs.notices, *pairs.after.prompt.notices])])


def edit_panel(result: GenerationResult) -> str:
    """Returns the edits, best first."""
    figures, best = [], result.details[0]["edit"]["log_likelihood_of_kept_codes_behind"]
    for index, image in enumerate(result.images):
        told = result.details[index]["edit"]
        behind = best - told["log_likelihood_of_kept_codes_behind"]
        fit = "" if not told["num_kept_codes_behind"] else f"fits {behind:.1f} nats worse, " if index else "fits best, "
        caption = f"{index + 1}. {fit}{told['num_codes_changed']} tokens changed, seed {result.seed(index)}"
        figures.append(_figure(image, caption))
    notes = [EDIT_LIMIT, words.NATS, result.provenance["notice"], *result.prompt.notices]
    if not result.details[0]["edit"]["num_kept_codes_behind"]:
        notes.insert(1, "Nothing was kept behind this region, so the tries stand in the order of their seeds.")
    return _shown([f'<div class="am-tries">{"".join(figures)}</div>', _notes(notes)])


def explain_panel(explanation: Explanation) -> str:
    """Returns the prompt with its phrases marked, the table, and how to read both."""
    marks = {True: "<mark>{}</mark>", False: "<s>{}</s>", None: "{}"}
    prompt = "".join(marks[has_effect].format(html.escape(part)) for part, has_effect in marked_prompt(explanation))
    rows = "".join(f"<tr>{_cells(row)}</tr>" for row in effect_rows(explanation))
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in COLUMNS)
    noise = html.escape(noise_in_words(explanation))
    table = f'<div class="am-scroll" tabindex="0"><table class="am-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    return _shown(
        [
            f'<p class="am-phrases">{prompt}</p>{help_text(words.EXPLAIN_LEGEND)}{table}<p class="am-help">{noise}</p>',
            _notes([RULE, words.NATS, EXPLAIN_LIMIT, *explanation.notices, *explanation.result.prompt.notices]),
        ]
    )


def marked_picture(pixels: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Draws the grid of squares over a picture and tints the marked ones.

    Args:
        pixels: uint8 (H, W) or (H, W, 3), square.
        cells: bool (h, w).

    Returns:
        uint8 (S, S, 3), S at least `_MIN_SHOWN_PX`.
    """
    factor = max(1, -(-_MIN_SHOWN_PX // pixels.shape[0]))
    coloured = pixels[..., None].repeat(3, axis=2) if pixels.ndim == 2 else pixels
    shown = coloured.repeat(factor, axis=0).repeat(factor, axis=1).astype(float)
    marked = cell_pixels(cells, len(shown))
    shown[marked] = 0.6 * shown[marked] + 0.4 * _MARK
    step = len(shown) // len(cells)
    for line in range(step, len(shown), step):
        shown[line] = 0.8 * shown[line] + 0.2 * _LINE
        shown[:, line] = 0.8 * shown[:, line] + 0.2 * _LINE
    return shown.round().astype(np.uint8)


def _figure(image: np.ndarray, caption: str) -> str:
    escaped = html.escape(caption)
    return f'<figure><img alt="{escaped}" src="{data_uri(image)}"><figcaption>{escaped}</figcaption></figure>'


def _cells(row: Sequence[str]) -> str:
    first, *rest = (html.escape(value) for value in row)
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{value}</td>" for value in rest)


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in dict.fromkeys(notes))
    return f'<ul class="am-notices">{items}</ul>'


def _shown(parts: Sequence[str]) -> str:
    banner = html.escape(page_words.BANNER)
    return f'<div class="am-shown" role="status"><p class="am-help">{banner}</p>{"".join(parts)}</div>'
