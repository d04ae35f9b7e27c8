"""What of a report the model reads, and why the rest is left out; for showing the report beside its prompt."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from arra_med.records.acquisition import without_acquisition
from arra_med.records.report import Prompt, normalised, sentence_spans
from arra_med.records.scrubbing import scrub_text
from arra_med.records.sections import section_spans, unix_lines

_WORD = re.compile(r"\s*\S+")
_LETTER = re.compile(r"[^\W\d_]")
_MAX_WORDS = 3000  # finding what was scrubbed takes time that grows with the square of it

SCRUBBED = "names, dates and numbers are taken out"
TOO_LONG = "longer than the model reads"
ACQUISITION = "says which image it is: view, eye and age group stand at the beginning of what the model reads"
OTHER_PARAGRAPH = "without headers only the last paragraph is read"
_REASONS = {
    "findings": "findings are read where there is no impression",
    "impression": "another section is read",
    "indication": "why the image was taken, not what it shows",
    "comparison": "about earlier images",
    "technique": "how the image was taken: view, eye and age group are looked up here",
    "other": "does not describe the image",
    "": "outside the sections",
}


@dataclass(frozen=True)
class ReportPart:
    """A stretch of a report.

    Attributes:
        text: As it stands in the report.
        reason: Why the model does not read it, without a full stop; empty if it does.
    """

    text: str
    reason: str = ""


def report_parts(report: str, prompt: Prompt) -> tuple[ReportPart, ...]:
    """Divides a report into what a prompt holds of it and what it leaves out.

    Args:
        report: As it was typed.
        prompt: That `report_prompt` made of it.

    Returns:
        The parts, which together are the report; neighbours differ in their reason.
    """
    report = unix_lines(report)
    scrubbed = scrub_text(report)
    parts = _of_scrubbed(scrubbed, prompt)
    return tuple(_joined(_with_scrubbed(report, scrubbed, parts)))


def _of_scrubbed(text: str, prompt: Prompt) -> Iterator[ReportPart]:
    spans = section_spans(text)
    chosen = [span for span in spans if span.name == prompt.section]
    place = 0
    for span in spans:
        yield ReportPart(text[place : span.start], _header_reason(prompt, span.name))
        place = span.end
        body = text[span.start : span.end]
        if span not in chosen:
            yield ReportPart(body, _REASONS[span.name])
        elif prompt.section == "":
            yield from _paragraphs(body, prompt)
        else:
            yield from _sentences(body, prompt)
    yield ReportPart(text[place:], _REASONS["other"])


def _header_reason(prompt: Prompt, name: str) -> str:
    return "" if name == prompt.section else _REASONS[name]


def _paragraphs(body: str, prompt: Prompt) -> Iterator[ReportPart]:
    """Paragraphs outside headers: the last one that describes an image is read."""
    parts = re.split(r"(\n[ \t]*\n)", body)
    read = next(
        (
            at
            for at in reversed(range(len(parts)))
            if any(_end_in_prompt(one, prompt) for one in _normal_sentences(parts[at]))
        ),
        len(parts) - 1,
    )
    for at, part in enumerate(parts):
        if at == read:
            yield from _sentences(part, prompt)
        else:
            yield ReportPart(part, OTHER_PARAGRAPH)


def _normal_sentences(text: str) -> list[str]:
    return [normalised(text[start:end]) for start, end in sentence_spans(text)]


def _end_in_prompt(sentence: str, prompt: Prompt, start: int = 0) -> int:
    """Where a sentence, without what says which image it is, ends in the prompt; 0 if it does not stand there."""
    rest = next(iter(without_acquisition([sentence])), "")
    found = prompt.text.find(rest, start) if rest else -1
    return 0 if found < 0 else found + len(rest)


def _sentences(body: str, prompt: Prompt) -> Iterator[ReportPart]:
    place = read = 0
    for start, end in sentence_spans(body):
        sentence = normalised(body[start:end])
        here = _end_in_prompt(sentence, prompt, read)
        if here or not _LETTER.search(sentence):  # a list number alone is no sentence
            reason, read = "", here or read
        else:
            reason = TOO_LONG if without_acquisition([sentence]) else ACQUISITION
        yield ReportPart(body[place:end], reason)
        place = end
    yield ReportPart(body[place:])


def _with_scrubbed(report: str, scrubbed: str, parts: Iterator[ReportPart]) -> Iterator[ReportPart]:
    """The parts of the scrubbed report with what scrubbing took out between them."""
    reasons = [part.reason for part in parts for _ in part.text]
    before, after = (list(_WORD.finditer(text)) for text in (report, scrubbed))
    if max(len(before), len(after)) > _MAX_WORDS:
        yield from (ReportPart(character, reason) for character, reason in zip(scrubbed, reasons, strict=True))
        return
    words = [[word[0].strip(" \n\t.,;:").lower() for word in found] for found in (before, after)]
    for kind, first, last, other, _ in difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        for at in range(first, last):
            same = kind == "equal"
            yield ReportPart(before[at][0], reasons[after[other + at - first].end() - 1] if same else SCRUBBED)
    yield ReportPart(report[before[-1].end() :] if before else report)


def _joined(parts: Iterator[ReportPart]) -> Iterator[ReportPart]:
    text, reason = "", ""
    for part in parts:
        if not part.text.strip() or part.reason == reason or not text.strip():
            reason = part.reason if part.text.strip() else reason
            text += part.text
        else:
            yield ReportPart(text, reason)
            text, reason = part.text, part.reason
    if text:
        yield ReportPart(text, reason)
