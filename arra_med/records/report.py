"""A report becomes a prompt: find its sections, choose the one that describes the image, state view, eye and age group.

Template of the paper (arXiv 2503.07334): `{view} view chest X-ray image, {impression}`. Here it falls back from the
impression to the findings and then to the last paragraph, and names children, so that they are never mixed with adults
by accident; an adult is the default and is not written.
"""

import bisect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from arra_med.errors import ReportError
from arra_med.records.acquisition import stated_age_group, stated_laterality, stated_view, without_acquisition
from arra_med.records.scrubbing import scrub_text
from arra_med.records.sections import split_sections
from arra_med.records.study import AgeGroup, Laterality, Modality, View

__all__ = ["Prompt", "prompt_prefix", "report_prompt", "split_sections"]

_LIST_NUMBER = re.compile(r"(?:^|(?<=[\n.;] )|(?<=\n))[ \t]*\d{1,2}[.)][ \t]+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
_EYES = {"L": "left", "R": "right"}
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True)
class Prompt:
    """What the model reads in place of a report.

    Attributes:
        text: The prompt.
        section: Section the text comes from: `impression`, `findings` or `""` (text outside headers).
        view: Projection the prompt names (chest).
        age_group: `child` if the prompt says so; `adult` and unknown read alike.
        laterality: Eye the prompt names (fundus).
        notices: What a user should be told, in whole sentences without report text.
    """

    text: str
    section: str
    view: View | None
    age_group: AgeGroup | None
    laterality: Laterality | None
    notices: tuple[str, ...] = ()


def report_prompt(
    report: str,
    *,
    modality: Modality,
    view: View | None = None,
    age_group: AgeGroup | None = None,
    laterality: Laterality | None = None,
    max_chars: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int | None = None,
) -> Prompt:
    """Turns a report into a prompt: impression, else findings, else the last paragraph; of a `photo`, its text as it is.

    Identifiers and de-identification markers are scrubbed first. View, eye and age group are read from the report where
    they are not given; phrases that only state them are dropped.

    Args:
        report: Report text, with or without headers.
        modality: Which template to use.
        view: Projection; wins over the report.
        age_group: Wins over the report.
        laterality: Eye; wins over the report.
        max_chars: Greatest length of the prompt in characters.
        count_tokens: Counts the tokens of a prompt; needed with `max_tokens`.
        max_tokens: Greatest length of the prompt in tokens.

    Raises:
        ReportError: If the report is empty, describes no image (an indication alone), or the limit leaves no room.
    """
    if (max_tokens is None) != (count_tokens is None):
        raise ValueError("max_tokens and count_tokens belong together: give both or neither")
    report = scrub_text(report)
    if not normalised(report):
        raise ReportError("the report is empty: give at least one sentence, such as 'PA view. Pleural effusion.'")

    def fits(prompt: str) -> bool:
        short = max_chars is None or len(prompt) <= max_chars
        return short and (count_tokens is None or max_tokens is None or count_tokens(prompt) <= max_tokens)

    notices: list[str] = []
    if modality == "photo":
        text = _longest_that_fits("", [normalised(report)], fits, notices)
        return Prompt(text, "", None, None, None, tuple(notices))
    sections = split_sections(report)
    section, sentences = _describing_section(sections, notices)
    stated = "\n".join(body for name, body in sections.items() if name not in ("comparison", "other"))
    if modality == "cxr":
        laterality = None
        view = _prefer(view, stated_view(stated), "view", notices)
    else:
        view = None
        laterality = _prefer(laterality, stated_laterality(stated), "eye", notices)
    age_group = _prefer(age_group, stated_age_group(stated), "age group", notices)

    prefix = prompt_prefix(modality, view, age_group, laterality)
    text = _longest_that_fits(prefix, sentences, fits, notices)
    return Prompt(text, section, view, age_group, laterality, tuple(notices))


def _describing_section(sections: dict[str, str], notices: list[str]) -> tuple[str, list[str]]:
    """Returns the name of the section that describes the image, and its sentences without view, eye and age."""
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", sections.get("", "")) if normalised(part)]
    named = [(name, sections[name]) for name in ("impression", "findings") if normalised(sections.get(name, ""))]
    bodies = named + [("", paragraph) for paragraph in reversed(paragraphs)]
    if not bodies:
        found = ", ".join(sorted(name.upper() for name in sections)) or "no text"
        raise ReportError(f"the report holds {found}, but nothing that describes the image: add IMPRESSION or FINDINGS")
    for name, body in bodies:
        if sentences := without_acquisition(_SENTENCE_END.split(normalised(body))):
            if name == "" and len(paragraphs) > 1:
                notices.append("The report has no IMPRESSION or FINDINGS header: only its last paragraph is used.")
            return name, sentences
    notices.append("The report names no finding: the image follows its view, eye and age group alone.")
    return bodies[0][0], []


def _prefer(given: _Choice | None, stated: _Choice | None, what: str, notices: list[str]) -> _Choice | None:
    if given and stated and given != stated:
        says, wins = (_EYES.get(choice, choice) for choice in (stated, given))
        notices.append(f"The report says {what} {says}, but {wins} was asked for: {wins} is used.")
    return given or stated


def prompt_prefix(
    modality: Modality, view: View | None, age_group: AgeGroup | None, laterality: Laterality | None
) -> str:
    """Returns what a prompt begins with: view, eye and age group."""
    child = "paediatric " if age_group == "child" else ""
    if modality == "cxr":
        return (f"{view} view " if view else "") + child + "chest X-ray image"
    eye = {"L": "left eye ", "R": "right eye ", None: ""}[laterality]
    return eye + child + "fundus photograph"


def normalised(text: str) -> str:
    """Returns a text on one line, without list numbers, runs of punctuation and what is no letter at its ends."""
    text = re.sub(r"\s+", " ", _LIST_NUMBER.sub(" ", unicodedata.normalize("NFKC", text)))
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    text = re.sub(r"([.,;:!?])(?:\s*[.,;:])+", r"\1", text)
    return text.lstrip(" .,;:-*#)").rstrip(" ,;:-*#") if re.search(r"\w", text) else ""


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Returns where the sentences of a text begin and end, the space between them left out."""
    starts = [0, *(found.end() for found in _SENTENCE_END.finditer(text))]
    ends = [*(found.start() for found in _SENTENCE_END.finditer(text)), len(text)]
    return list(zip(starts, ends, strict=True))


def _longest_that_fits(prefix: str, sentences: list[str], fits: Callable[[str], bool], notices: list[str]) -> str:
    """Joins as many sentences as fit, or else as many words of the first one."""
    if not sentences and fits(prefix):
        return prefix
    if count := _greatest_count(prefix, sentences, fits):
        if count < len(sentences):
            notices.append(
                f"The report is longer than the model reads: {count} of its {len(sentences)} sentences are used."
            )
        return _joined(prefix, sentences[:count])
    words = sentences[0].split() if sentences else []
    if count := _greatest_count(prefix, words, fits):
        notices.append("The report's first sentence is longer than the model reads: only its beginning is used.")
        return _joined(prefix, words[:count])
    raise ReportError("the limit on the prompt's length leaves no room for the report: raise it")


def _greatest_count(prefix: str, parts: list[str], fits: Callable[[str], bool]) -> int:
    return bisect.bisect_left(
        range(1, len(parts) + 1), True, key=lambda count: not fits(_joined(prefix, parts[:count]))
    )


def _joined(prefix: str, parts: list[str]) -> str:
    return ", ".join(filter(None, (prefix, " ".join(parts))))
