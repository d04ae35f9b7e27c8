"""Small pieces of HTML: the image to read with its window, consent, results. Nothing here knows an arm while reading."""

import base64
import html
from collections.abc import Sequence

from arra_med.evaluate.reader_records import Task
from arra_med.evaluate.reader_study import NOTICE, ReaderStudySettings
from arra_med.evaluate.reader_words import WordTable
from arra_med_apps.reader_tab import words

_SIDES = ("Left", "Right")


def consent_panel(settings: ReaderStudySettings, num_cases: int) -> str:
    """Returns what a reader should know before beginning."""
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in settings.consent.splitlines() if line.strip())
    ethics = f"<p><b>Ethics approval:</b> {html.escape(settings.ethics)}</p>" if settings.ethics else ""
    kind = "pairs of images" if settings.design == "preference" else "images"
    return (
        f'<div class="am-consent"><h3>{html.escape(settings.title)}</h3><p>{num_cases} {kind}. {html.escape(NOTICE)}</p>'
        f"{paragraphs or f'<p>{words.BEGIN_WITHOUT_CONSENT}</p>'}{ethics}</div>"
    )


def progress_line(place: int, total: int, code: str) -> str:
    """Returns `12 of 60`, a bar, and the reader's own code."""
    percent = round(100 * place / total)
    return (
        f'<div class="am-live"><div class="am-status" role="status"><span>{place + 1} of {total}</span>'
        f'<span class="am-muted">Your reader code: <code>{html.escape(code)}</code></span></div>'
        f'<div class="am-bar" role="progressbar" aria-label="Images answered" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div></div>'
    )


def task_panel(task: Task, settings: ReaderStudySettings) -> str:
    """Returns the image, or left and right, under one window and level."""
    figures = []
    for index, png in enumerate(task.pngs):
        side = f"{_SIDES[index]} image" if len(task.pngs) > 1 else "Image"
        source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
        caption = f"<figcaption>{_SIDES[index]}</figcaption>" if len(task.pngs) > 1 else ""
        alt = f"{side} {task.place + 1} of {task.total}"
        figures.append(f'<figure><img alt="{alt}" draggable="false" src="{source}">{caption}</figure>')
    report = f'<p class="am-read-report">{html.escape(task.report)}</p>' if task.report else ""
    return (
        f'<div id="am-read" data-place="{task.place}" data-design="{settings.design}">'
        f'<p class="am-read-notice">{html.escape(NOTICE)}</p>{report}'
        f'<div class="am-stage am-read-{len(task.pngs)}">{"".join(figures)}</div>'
        '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><filter id="am-read-window-filter" '
        'color-interpolation-filters="sRGB"><feComponentTransfer><feFuncR type="linear" slope="1" intercept="0"/>'
        '<feFuncG type="linear" slope="1" intercept="0"/><feFuncB type="linear" slope="1" intercept="0"/>'
        "</feComponentTransfer></filter></svg>"
        '<div class="am-window"><label>Window <input type="range" id="am-read-window" min="1" max="255" value="255">'
        '<output>255</output></label><label>Level <input type="range" id="am-read-level" min="0" max="255" value="128">'
        '<output>128</output></label><button type="button" id="am-read-window-reset">Reset</button></div></div>'
    )


def keys_line(settings: ReaderStudySettings) -> str:
    """Returns the keyboard's shortcuts."""
    keys = "".join(
        f"<span><kbd>{html.escape(key)}</kbd> {html.escape(what)}</span>"
        for key, what in (*words.KEYS[settings.design], *words.COMMON_KEYS)
    )
    return f'<div class="am-keys">{keys}<span>{words.MOUSE_HINT}</span></div>'


def question_line(settings: ReaderStudySettings) -> str:
    """Returns the question of a design that has one."""
    return "" if settings.items else f'<h3 class="am-question">{html.escape(settings.questions[0].text)}</h3>'


def thanks_panel(code: str) -> str:
    """Returns the last page."""
    return (
        f'<div class="am-consent" role="status"><h3>{words.THANKS}</h3><p>{words.THANKS_HINT}</p>'
        f"<p>Your reader code: <code>{html.escape(code)}</code></p></div>"
    )


def made_panel(code: str, owner_code: str, lines: Sequence[str]) -> str:
    """Returns what the owner of a new study has to write down."""
    told = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f'<div class="am-consent am-made" role="status"><h3>The study is ready</h3><dl><dt>Study code, for readers</dt>'
        f"<dd><code>{html.escape(code)}</code></dd><dt>{words.OWNER_CODE}</dt><dd><code>{html.escape(owner_code)}</code>"
        f"</dd><dt>Page for readers</dt><dd><code>?study={html.escape(code)}</code> at the end of this page's address</dd>"
        f"</dl><ul>{told}</ul><p>{words.SENSITIVE}</p></div>"
    )


def working_panel(text: str, done: int, total: int) -> str:
    """Returns how far the making of a study is."""
    percent = round(100 * done / total) if total else 0
    count = f"{done} of {total}" if total else ""
    return (
        f'<div class="am-live"><div class="am-status" role="status"><span>{html.escape(text)}</span>'
        f'<span class="am-muted">{count}</span></div><div class="am-bar" role="progressbar" aria-label="Progress" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div></div>'
    )


def results_panel(tables: Sequence[WordTable], notice: str, downloads: Sequence[tuple[str, str, str]]) -> str:
    """Returns the results with links that save them; the files are in the page, so that no other user can fetch them.

    Args:
        tables: Of `summary_tables`.
        notice: Above.
        downloads: Label, file name and content of each.
    """
    links = "".join(
        f'<a class="am-save" download="{html.escape(name)}" href="data:text/plain;charset=utf-8;base64,'
        f'{base64.b64encode(content.encode()).decode("ascii")}">{html.escape(label)}</a>'
        for label, name, content in downloads
    )
    return (
        f'<div class="am-results"><p class="am-read-notice">{html.escape(notice)}</p><p>{links}</p>'
        + "".join(map(_table, tables))
        + "</div>"
    )


def _table(table: WordTable) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    heading = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    title = html.escape(table.title)
    return (
        f'<h4>{title}</h4><div class="am-scroll" tabindex="0" role="region" aria-label="{title}">'
        f"<table>{heading}<tbody>{rows}</tbody></table></div>"
    )
