"""Where a text names a finding that labels know, and where it names what they often do not hold: side, place, degree."""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from arra_med.records.study import Modality
from arra_med.records.wording import NORMAL, wording_bank

QualifierKind = Literal["side", "place", "severity", "size", "number", "change", "device"]

_SENTENCE = re.compile(r"[^.;!?\n]+")
DENIED = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|absent)\b(?!.*\b(?:but|however|although|except)\b)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)

_WHERE = r"(?:(?:on|in|at|of|within|over) )?(?:the )?"
_PART = r"(?:lobes?|zones?|lungs?|fields?|hemithora(?:x|ces)|bases?|apex|apices|quadrants?|hemidiaphragm|side)"
_QUALIFIERS: dict[QualifierKind, str] = {
    "place": rf"(?:{_WHERE}(?<!left )(?<!right )(?<!bilateral )|)(?:(?:upper|lower|middle|mid|lingular|inferior|superior|nasal|temporal)(?:[ -]{_PART}))"
    r"|basal|basilar|apical|perihilar|retrocardiac|subpleural|peripheral|central|bibasal|bibasilar|inferotemporal"
    r"|superotemporal|inferonasal|superonasal|perifoveal|peripapillary",
    "side": r"(?:left|right|bilateral)(?= (?:upper|lower|middle|mid|lingular)\b)"
    rf"|{_WHERE}(?:left|right|bilateral|unilateral)(?:[ -]sided)?(?: (?:side|lungs?|hemithorax)\b)?"
    r"(?! eye| fundus| ventric| upper| lower| mid)"
    r"|bilaterally",
    "severity": r"mild(?:ly)?|moderate(?:ly)?|severe(?:ly)?|minimal(?:ly)?|marked(?:ly)?|massive|extensive|subtle|trace"
    r"|slight(?:ly)?|advanced|gross(?:ly)?",
    "size": r"tiny|small|large|huge|sizeable|\d+(?:[.,]\d+)? ?(?:mm|cm|millimet(?:re|er)s?|centimet(?:re|er)s?)",
    "number": r"multiple|several|single|solitary|numerous|few|two|three|four|five",
    "change": r"new|increas(?:ed|ing)|decreas(?:ed|ing)|improv(?:ed|ing)|worsen(?:ed|ing)|stable|unchanged|resolv(?:ed|ing)"
    r"|persistent|enlarging|interval change",
    "device": r"(?:endotracheal|nasogastric|tracheostomy|chest|feeding|et|ng) tubes?|(?:central )?(?:venous )?catheters?"
    r"|picc(?: line)?|central lines?|pacemakers?|icd|defibrillator|sternotomy wires|clips|prosthes[ie]s|stents?",
}
_QUALIFIER = re.compile(
    "|".join(rf"(?P<{kind}>(?<!\w)(?:{pattern})(?!\w))" for kind, pattern in _QUALIFIERS.items()), re.IGNORECASE
)


class Mention(NamedTuple):
    """A finding in a text: where, which, and whether the text denies it."""

    start: int
    stop: int
    finding: str
    is_denied: bool


class Qualifier(NamedTuple):
    """A word of side, place, degree, size, number, change or device in a text."""

    start: int
    stop: int
    kind: QualifierKind


def finding_mentions(text: str, modality: Modality, labels: Iterable[str] = ()) -> Iterator[Mention]:
    """Finds the findings of the bank of wordings, and of further labels, in a text, in its order.

    The longest wording wins: "viral pneumonia" is no "pneumonia". A normal image is no finding.

    Args:
        text: Any text.
        modality: Chooses the bank.
        labels: Names that are wordings of themselves, such as a bundle's.
    """
    finding_of, pattern = _vocabulary(modality, tuple(labels))
    for sentence in _SENTENCE.finditer(text):
        for found in pattern.finditer(sentence[0]):
            if finding := finding_of.get(found[1].lower()):
                start = sentence.start()
                denied = DENIED.search(sentence[0][: found.start()]) is not None
                yield Mention(start + found.start(), start + found.end(), finding, denied)


def qualifiers(text: str, mentions: Iterable[Mention] = ()) -> Iterator[Qualifier]:
    """Finds words of side, place, degree, size, number, change and devices that are no part of a finding's name.

    Args:
        text: Any text.
        mentions: The findings in it: "severe" of "severe nonproliferative diabetic retinopathy" is one's name.
    """
    named = [(mention.start, mention.stop) for mention in mentions]
    for found in _QUALIFIER.finditer(text):
        if not any(start < found.end() and found.start() < stop for start, stop in named):
            kind: QualifierKind = found.lastgroup  # type: ignore[assignment]
            yield Qualifier(found.start(), found.end(), kind)


@functools.lru_cache(maxsize=32)
def _vocabulary(modality: Modality, labels: tuple[str, ...]) -> tuple[dict[str, str], re.Pattern[str]]:
    """The finding of each term, and what finds terms in a text."""
    terms = {name.lower(): name for name in labels}
    for name, wording in wording_bank(modality).findings.items():
        terms |= {_ARTICLE.sub("", phrase.lower()): name for phrase in (name, *wording.phrases)}
    finding_of = {term: name for term, name in terms.items() if name != NORMAL and not name.startswith("no ")}
    longest_first = map(re.escape, sorted(finding_of, key=len, reverse=True))
    return finding_of, re.compile(rf"(?<!\w)({'|'.join(longest_first)})(?:e?s)?(?!\w)", re.IGNORECASE)
