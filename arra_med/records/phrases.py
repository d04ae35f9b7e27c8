"""The phrases of a prompt, and the prompt without one of them: what could be left out of a report."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from arra_med.records.mentions import DENIED, QualifierKind, finding_mentions, qualifiers
from arra_med.records.report import Prompt, prompt_prefix
from arra_med.records.study import Modality

PhraseKind = Literal["view", "eye", "age group", "statement"] | QualifierKind

_SENTENCE = re.compile(r"[^\s.,;!?].*?(?:[.;!?]+(?=\s|$)|$)")
_SEPARATOR = re.compile(
    r",\s+(?:and |but |with )?|\s+(?:but|however|although|except)\s+|\s+(?:and|with)\s+", re.IGNORECASE
)
_ENDS_DENIAL = re.compile(r"\b(?:but|however|although|except)\b", re.IGNORECASE)
_JOINS = re.compile(r"\s+(?:and|with)\s+", re.IGNORECASE)
_PREFIX_PARTS: tuple[tuple[PhraseKind, re.Pattern[str]], ...] = (
    ("view", re.compile(r"(?:PA|AP|lateral) view ")),
    ("eye", re.compile(r"(?:left|right) eye ")),
    ("age group", re.compile(r"paediatric ")),
)
_LEADING_JOIN = re.compile(r"^(?:and|with|or|but|however|although|except)\s+")


@dataclass(frozen=True)
class Phrase:
    """A phrase of a prompt.

    Attributes:
        spans: Its characters, [start, stop) each; a statement has several where side or degree stand between its words.
        left_out: Characters that go with it when it is left out: of a statement, its side and degree as well.
        kind: `statement`, what the prompt's template states (`view`, `eye`, `age group`), or a qualifier of a statement.
    """

    spans: tuple[tuple[int, int], ...]
    left_out: tuple[int, int]
    kind: PhraseKind

    def text(self, prompt: str) -> str:
        """Returns its words."""
        return " ".join(prompt[start:stop].strip() for start, stop in self.spans)


def prompt_phrases(prompt: Prompt, modality: Modality) -> list[Phrase]:
    """Splits a prompt into what can be left out, in its order.

    A sentence is split at commas and "but", and at "and" or "with" between two findings; what a sentence denies stays
    together, for without its "no" it would say the opposite. Words of side, place, degree, size, number, change and
    devices that belong to no finding's name are phrases of their own. The template's own words are none.
    """
    text = prompt.text
    body_start = _body_start(prompt, modality)
    phrases = list(_prefix_phrases(text[:body_start]))
    mentions = list(finding_mentions(text, modality))
    for sentence in _SENTENCE.finditer(text, body_start):
        for start, stop in _statements(text, sentence.start(), sentence.end(), [mention.start for mention in mentions]):
            denied = DENIED.search(text, start, stop)
            inner = [] if denied else [q for q in qualifiers(text, mentions) if start <= q.start and q.stop <= stop]
            rest = list(_between(text, start, stop, [(q.start, q.stop) for q in inner]))
            if rest:
                phrases.append(Phrase(tuple(rest), (start, stop), "statement"))
                phrases += [Phrase(((q.start, q.stop),), (q.start, q.stop), q.kind) for q in inner]
            else:
                alone = tuple((q.start, q.stop) for q in inner)
                phrases.append(
                    Phrase(alone or ((start, stop),), (start, stop), inner[0].kind if inner else "statement")
                )
    return sorted(phrases, key=lambda phrase: phrase.spans[0])


def without_phrase(prompt: Prompt, modality: Modality, phrase: Phrase) -> str:
    """Returns the prompt's text as it would read without a phrase."""
    start, stop = phrase.left_out
    body_start = _body_start(prompt, modality)
    prefix, body = prompt.text[:body_start].rstrip(" ,"), prompt.text[body_start:]
    if stop <= body_start:
        prefix = prefix[:start] + prefix[stop:]
    else:
        before, rest = body[: start - body_start].rstrip(), body[stop - body_start :]
        if not before or before[-1] in ".;!?":
            rest = _LEADING_JOIN.sub("", rest.lstrip(" ,"))
            rest = rest[:1].upper() + rest[1:] if prompt.text[start].isupper() else rest
        body = f"{before} {rest}"
    sentences = [_tidied(found[0]) for found in _SENTENCE.finditer(body)]
    return ", ".join(filter(None, (" ".join(prefix.split()), " ".join(filter(None, sentences)))))


def body_of(prompt: Prompt, modality: Modality) -> str:
    """Returns what a prompt says beyond its template."""
    return prompt.text[_body_start(prompt, modality) :]


def prefix_of(prompt: Prompt, modality: Modality) -> str:
    """Returns the template's part of a prompt."""
    return prompt.text[: _body_start(prompt, modality)].rstrip(" ,")


def _body_start(prompt: Prompt, modality: Modality) -> int:
    if modality == "photo":
        return 0
    prefix = prompt_prefix(modality, prompt.view, prompt.age_group, prompt.laterality)
    return min(len(prefix) + len(", "), len(prompt.text)) if prompt.text.startswith(prefix) else 0


def _prefix_phrases(prefix: str) -> Iterator[Phrase]:
    for kind, pattern in _PREFIX_PARTS:
        if found := pattern.search(prefix):
            yield Phrase(((found.start(), found.end() - 1),), found.span(), kind)


def _statements(text: str, start: int, stop: int, mentions: list[int]) -> Iterator[tuple[int, int]]:
    """Cuts the sentence [start, stop); separators belong to what follows them, the full stop to none."""
    while stop > start and text[stop - 1] in ".;!? ":
        stop -= 1
    first = start
    for found in _SEPARATOR.finditer(text, start, stop):
        is_denied = DENIED.search(text, first, found.start()) and not _ENDS_DENIAL.search(found[0])
        joins = _JOINS.fullmatch(found[0])
        names_both = any(first <= m < found.start() for m in mentions) and any(
            found.end() <= m < stop for m in mentions
        )
        if not is_denied and (names_both or not joins):
            yield first, found.start()
            first = found.start()
    if first < stop:
        yield first, stop


def _between(text: str, start: int, stop: int, holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of [start, stop) outside the holes, without separators around them; none if they hold no content."""
    pieces, at = [], start
    for hole_start, hole_stop in [*holes, (stop, stop)]:
        piece = text[at:hole_start]
        words = _LEADING_JOIN.sub("", piece.lstrip(" ,")) if at == start else piece.lstrip(" ,")
        first = hole_start - len(words)
        last = first + len(words.rstrip(" ,"))
        if re.search(r"\w", text[first:last]):
            pieces.append((first, last))
        at = hole_stop
    yield from pieces


def _tidied(sentence: str) -> str:
    words = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(sentence.split()))
    words = re.sub(r",(?:\s*[,.;!?])*(?=[,.;!?])", "", words)
    return words.rstrip(" ,:")
