"""What is going on, as HTML: a status line that screen readers follow, a bar, the time left."""

import html

from arra_med_apps import words


def status_line(text: str, aside: str = "") -> str:
    """Returns a line that screen readers follow."""
    return (
        f'<div class="am-status" role="status"><span>{html.escape(text)}</span>'
        f'<span class="am-muted">{html.escape(aside)}</span></div>'
    )


def progress_bar(share: float) -> str:
    """Returns a bar for a share done, 0 to 1."""
    percent = round(100 * share)
    return (
        '<div class="am-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
    )


def time_left(seconds: float | None) -> str:
    """Returns the time left in words."""
    return f"about {words.duration(seconds)} left" if seconds is not None else ""


def working(text: str, share: float | None = None, seconds_left: float | None = None) -> str:
    """Returns what is going on, with a bar where its share is known."""
    bar = "" if share is None else progress_bar(share)
    return f'<div class="am-live">{status_line(text, time_left(seconds_left))}{bar}</div>'
