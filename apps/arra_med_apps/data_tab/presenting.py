"""What is shown of a file, as HTML: the verdict, its stages, what a de-identified copy would lose."""

import html
from collections.abc import Iterable, Mapping

from arra_med.corpus.header_changes import HeaderChanges
from arra_med.corpus.inspection import FLAG_WORDS, Inspection
from arra_med.evaluate.training_search import MAY_HAVE_TRAINED, TrainingSearch
from arra_med.reporting.pictures import Panel, data_uri
from arra_med_apps import words as shared
from arra_med_apps.data_tab import words

_SIDE_PX = 360


def file_card(number: int, seen: Inspection | str, nearest: Panel | None = None, flagged: bool = False) -> str:
    """Returns a file's section.

    Args:
        number: What the file is called by, for its name may be a patient's.
        seen: The file at every stage, or why it cannot be looked at.
        nearest: The training image that it resembles most.
        flagged: Whether that is suspiciously near.
    """
    heading = f"<h3>File {number}</h3>"
    if isinstance(seen, str):
        return f'<section class="am-file">{heading}{problem(seen)}</section>'
    panels = "".join(_figure(panel) for panel in (*seen.panels, *([nearest] if nearest is not None else [])))
    return (
        f'<section class="am-file">{heading}{_verdict(seen)}{note(MAY_HAVE_TRAINED) if flagged else ""}'
        + (f'<div class="am-panels">{panels}</div>' if panels else "")
        + (_header(seen.header) if seen.header is not None else "")
        + (_scores(seen.scores) if seen.scores else "")
        + "</section>"
    )


def note(text: str) -> str:
    """Returns a sentence to heed."""
    return f'<div class="am-note" role="status">{html.escape(shared.sentence(text))}</div>'


def problem(text: str) -> str:
    """Returns a sentence about what went wrong."""
    return f'<div class="am-problem" role="alert">{html.escape(shared.sentence(text))}</div>'


def aside(text: str) -> str:
    """Returns a sentence that may be passed over."""
    return f'<p class="am-aside">{html.escape(text)}</p>'


def about_search(search: TrainingSearch) -> str:
    """Returns how likeness was measured, and what is not known about it."""
    how = words.NEAREST_HOW.format(num=len(search.held_out), source=search.source)
    return aside(how) + _list(search.notes)


def _verdict(seen: Inspection) -> str:
    if seen.refusal is not None:
        return problem(f"{words.REFUSED}: {seen.refusal}") + _list(FLAG_WORDS[flag] for flag in seen.flags)
    told = words.ACCEPTED
    if seen.flags:
        count = len(seen.flags)
        told = words.ACCEPTED_WITH_ONE if count == 1 else words.ACCEPTED_WITH.format(count=count)
    return f'<div class="am-fine" role="status">{html.escape(told)}</div>' + _list(
        FLAG_WORDS[flag] for flag in seen.flags
    )


def _list(warnings: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(shared.sentence(warning))}</li>" for warning in warnings)
    return f'<ul class="am-notices">{items}</ul>' if items else ""


def _figure(panel: Panel) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in panel.lines)
    heading = html.escape(panel.heading)
    picture = ""
    if panel.pixels is not None:
        picture = f'<img alt="{heading}" src="{data_uri(panel.pixels, _SIDE_PX)}">'
    return f"<figure>{picture}<figcaption><strong>{heading}</strong><ul>{lines}</ul></figcaption></figure>"


def _header(header: HeaderChanges) -> str:
    sentence = f"<p>{html.escape(header.sentence)}</p>"
    if not header.actions:
        return sentence
    rows = {
        shared.sentence(action.action)[:-1]: "".join(f"<li>{html.escape(name)}</li>" for name in action.attributes)
        for action in header.actions
    }
    return sentence + _details(words.HEADER_DETAILS, {action: f"<ul>{names}</ul>" for action, names in rows.items()})


def _scores(scores: Mapping[str, float]) -> str:
    return _details(
        words.SCORES_DETAILS,
        {name.replace("_", " ").capitalize(): f"{score:.3g}" for name, score in scores.items()},
    )


def _details(summary: str, rows: Mapping[str, str]) -> str:
    """A table that opens; the cells are HTML."""
    body = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{cell}</td></tr>' for name, cell in rows.items())
    return f'<details><summary>{summary}</summary><table class="am-data-table"><tbody>{body}</tbody></table></details>'
