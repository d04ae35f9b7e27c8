"""The grid of pictures as HTML: a row for each model, a column for each seed, while it forms and when it is done."""

import html
from collections.abc import Sequence

import numpy as np

from arra_med_apps.compare_tab import words
from arra_med_apps.generate_tab.presenting import data_uri
from arra_med_apps.progress import progress_bar, status_line


def empty_grid() -> str:
    """Returns the stage before the first comparison."""
    return (
        '<div class="am-live"><div class="am-stage am-empty"><div>'
        f"<strong>{html.escape(words.GRID_EMPTY)}</strong><p>{html.escape(words.GRID_HINT)}</p></div></div></div>"
    )


def grid_panel(
    labels: Sequence[str],
    seeds: Sequence[int],
    pictures: Sequence[np.ndarray | None],
    progress: Sequence[float],
    status: str,
    aside: str = "",
) -> str:
    """Returns the grid under its status line.

    Args:
        labels: Of the models, one for each row.
        seeds: One for each column.
        pictures: For each row uint8 (n, H, W) or (n, H, W, 3), or none before the first.
        progress: For each row the share that is made.
        status: What is going on.
        aside: The time left, or a hint.
    """
    whole = sum(progress) / max(1, len(progress))
    head = "".join(f'<th scope="col">Seed {seed}</th>' for seed in seeds)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th>'
        + "".join(
            f"<td>{_cell(None if made is None else made[i], share, f'{label}, seed {seed}')}</td>"
            for i, seed in enumerate(seeds)
        )
        + "</tr>"
        for label, made, share in zip(labels, pictures, progress, strict=True)
    )
    bar = progress_bar(whole) if whole < 1 else ""
    return (
        f'<div class="am-live">{status_line(status, aside)}{bar}'
        '<div class="am-stage am-cmp-stage" role="region" aria-label="Pictures by model and seed" tabindex="0">'
        f'<table class="am-cmp-grid" style="--am-seeds:{len(seeds)}">'
        f'<caption class="am-cmp-hidden">Synthetic pictures, a row for each model, a column for each seed</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def zoomable(image: np.ndarray, caption: str, alternative: str) -> str:
    """Returns a picture that enlarges when it is pressed; tab.js opens it.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        caption: Shown under the enlarged picture.
        alternative: For screen readers.
    """
    told, spoken = html.escape(caption), html.escape(alternative)
    return (
        f'<button type="button" class="am-zoomable" data-caption="{told}" aria-label="Enlarge: {spoken}">'
        f'<img alt="{spoken}" src="{data_uri(image)}"></button>'
    )


def _cell(image: np.ndarray | None, progress: float, name: str) -> str:
    if image is not None and progress >= 1:
        return zoomable(image, f"Synthetic, {name}", f"{name}, synthetic")
    shown = f'<img alt="{html.escape(name)}, forming" src="{data_uri(image)}">' if image is not None else ""
    return (
        f'<figure aria-label="{html.escape(name)}">{shown}<i style="height:{100 * (1 - progress):.1f}%"></i></figure>'
    )
