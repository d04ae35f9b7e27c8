"""Which of the 14 CheXpert observations a chest report names as present, absent or uncertain, by rules.

The rules are phrases, in `observations.yaml`: what names a finding, what is said of a structure ("the heart is not enlarged"),
and cues that deny or doubt, with the words that end their reach, after NegEx, NegBio and CheXpert (arXiv 1901.07031).
`docs/reports.md` states what they measure.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from arra_med.config import StrictModel, load_config
from arra_med.records.sections import split_sections

Observation = Literal[
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
Presence = Literal["present", "absent", "uncertain"]
OBSERVATIONS: tuple[Observation, ...] = get_args(Observation)

_STRENGTH: tuple[Presence, ...] = ("absent", "uncertain", "present")
_CUES = (
    "other_meanings",
    "enlarged",
    "borderline",
    "ordinary",
    "denies_following",
    "denies_preceding",
    "doubts_following",
    "doubts_preceding",
    "denies_nothing",
    "scope_ends",
)
_STATES = frozenset({"enlarged", "borderline", "ordinary"})
_REACH_MATCHES = 40  # phrases that a cue looks past; keeps the time linear in the length of a clause
_ADJACENT_WORDS = 2  # "enlargement of the heart"
_NO_PATHOLOGY = ("No Finding", "Support Devices")
_SENTENCE_BREAK = re.compile(r"(?<=[.;!?])\s+|\n[ \t]*\n\s*|(?:^|\n)[ \t]*(?:\d{1,2}[.)]|[-*])[ \t]+")
_CLAUSE_BREAK = re.compile(r", (?=(?:the )?(?:heart (?:is|size)|lungs (?:are|clear)|there (?:is|are))\b)")


class FindingRule(StrictModel):
    """What names one finding: phrases, and structures that are said to be enlarged."""

    observation: Observation | None = None
    phrases: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()


class ObservationRules(StrictModel):
    """The rules of `observations.yaml`; the file's comments say what each list is."""

    findings: dict[str, FindingRule]
    other_meanings: tuple[str, ...]
    enlarged: tuple[str, ...]
    borderline: tuple[str, ...]
    ordinary: tuple[str, ...]
    denies_following: tuple[str, ...]
    denies_preceding: tuple[str, ...]
    doubts_following: tuple[str, ...]
    doubts_preceding: tuple[str, ...]
    denies_nothing: tuple[str, ...]
    scope_ends: tuple[str, ...]
    normal_statements: tuple[str, ...]


@dataclass(frozen=True)
class _Match:
    """A phrase found in a clause: where, and what it is (the name of its list in the rules, or of its finding)."""

    start: int
    end: int
    cues: frozenset[str]
    findings: tuple[str, ...]
    structures: tuple[str, ...]


class _Phrases:
    """Finds the rules' phrases in lower-case text; of overlapping ones the longest counts."""

    def __init__(self, rules: ObservationRules) -> None:
        cues = {name: getattr(rules, name) for name in _CUES}
        findings = {name: rule.phrases for name, rule in rules.findings.items()}
        structures = {name: rule.structures for name, rule in rules.findings.items()}
        lists = (cues, findings, structures)
        self._pattern = _any_of(phrase for group in lists for phrases in group.values() for phrase in phrases)
        self._patterns = [{name: _any_of(phrases) for name, phrases in group.items() if phrases} for group in lists]
        self.normal_statement = _any_of(rules.normal_statements)
        self._meaning = functools.lru_cache(maxsize=4096)(self._look_up)

    def find(self, text: str) -> list[_Match]:
        return [_Match(found.start(), found.end(), *self._meaning(found[0])) for found in self._pattern.finditer(text)]

    def _look_up(self, words: str) -> tuple[frozenset[str], tuple[str, ...], tuple[str, ...]]:
        cues, findings, structures = (
            tuple(name for name, pattern in group.items() if pattern.fullmatch(words)) for group in self._patterns
        )
        return frozenset(cues), findings, structures


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(set(phrases), key=len, reverse=True)
    alternatives = "|".join(re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", "[ -]") for phrase in longest_first)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)")


@functools.cache
def observation_rules() -> ObservationRules:
    """Returns the rules that travel with the package."""
    return load_config(Path(__file__).with_name("observations.yaml"), ObservationRules)


@functools.cache
def _phrases() -> _Phrases:
    return _Phrases(observation_rules())


def observations_of(text: str) -> dict[Observation, Presence]:
    """Reads a chest radiograph's report.

    Findings, impression and text outside headers are read; indication, comparison, technique and notes are not. Where
    sentences differ, present wins over uncertain, and uncertain over absent, as in CheXpert. `No Finding` is present when no
    other observation but `Support Devices` is present or uncertain; unlike CheXpert's, it also needs a word that the image was
    looked at (a denial, "normal", "clear"), because silence says nothing.

    Args:
        text: A report with or without headers, or a part of one.

    Returns:
        Presence by observation; what is not mentioned is missing.
    """
    return _observations(_read(text), text)


def labels_from_report(text: str) -> tuple[str, ...]:
    """Returns what a chest report names as present, in the canonical words of `wording.canonical_labels`.

    Finer than the 14 observations where the text is: `nodule` and `mass` for `Lung Lesion`, and `emphysema`, `fibrosis` and
    `hernia`, which CheXpert has no name for. What is uncertain gets no label, nor do support devices, which no wording names;
    `normal` is the label of `No Finding` alone.
    """
    findings = {name: presence for name, presence in _read(text).items() if name != "support devices"}
    if all(presence == "absent" for presence in findings.values()) and "No Finding" in _observations(findings, text):
        return ("normal",)
    return tuple(name for name, presence in findings.items() if presence == "present")


def _observations(findings: dict[str, Presence], text: str) -> dict[Observation, Presence]:
    rules = observation_rules().findings
    found: dict[Observation, Presence] = {}
    for name, presence in findings.items():
        if observation := rules[name].observation:
            found[observation] = _stronger(found.get(observation), presence)
    pathologies = {observation: presence for observation, presence in found.items() if observation not in _NO_PATHOLOGY}
    looked_at = "absent" in findings.values() or _phrases().normal_statement.search(_described(text).lower())
    if looked_at and all(presence == "absent" for presence in pathologies.values()):
        found["No Finding"] = "present"
    return {observation: found[observation] for observation in OBSERVATIONS if observation in found}


def _read(text: str) -> dict[str, Presence]:
    """Returns presence by finding (canonical label), in the order of the rules."""
    found: dict[str, Presence] = {}
    for sentence in _SENTENCE_BREAK.split(_described(text).lower()):
        for clause in _CLAUSE_BREAK.split(" ".join(sentence.split())):
            for name, presence in _clause_findings(clause):
                found[name] = _stronger(found.get(name), presence)
    return {name: found[name] for name in observation_rules().findings if name in found}


def _described(text: str) -> str:
    sections = split_sections(text)
    return "\n\n".join(sections[name] for name in ("", "findings", "impression") if name in sections)


def _stronger(first: Presence | None, second: Presence) -> Presence:
    return second if first is None else max(first, second, key=_STRENGTH.index)


def _clause_findings(clause: str) -> Iterator[tuple[str, Presence]]:
    matches = _phrases().find(clause)
    for index, match in enumerate(matches):
        for name in match.findings:
            yield name, _presence(clause, matches, index)
        if match.structures and (presence := _structure_presence(clause, matches, index)):
            for name in match.structures:
                yield name, presence


def _presence(clause: str, matches: list[_Match], index: int) -> Presence:
    """Presence of the finding at `index`, by the cues on both sides as far as the next scope end."""
    denial = doubt = None
    for match in reversed(matches[max(0, index - _REACH_MATCHES) : index]):
        if "scope_ends" in match.cues:
            break
        if doubt is None and "doubts_following" in match.cues:
            doubt = match
        if "denies_following" in match.cues:
            denial = match
            break
    # "no evidence to suggest pneumonia" denies; "no effusion, possible pneumonia" doubts.
    if denial and not (doubt and "," in clause[denial.end : doubt.start]):
        return "absent"
    for match in matches[index + 1 : index + 1 + _REACH_MATCHES]:
        if "scope_ends" in match.cues:
            break
        if "denies_preceding" in match.cues:
            return "absent"
        if "doubts_preceding" in match.cues:
            return "uncertain"
    return "uncertain" if doubt else "present"


def _structure_presence(clause: str, matches: list[_Match], index: int) -> Presence | None:
    """What is said of the structure at `index`: enlarged is present, ordinary is absent, borderline uncertain."""
    structure = matches[index]
    state = None
    for place in range(index - 1, max(-1, index - 1 - _REACH_MATCHES), -1):
        before = matches[place]
        gap = clause[before.end : structure.start]
        if "scope_ends" in before.cues or "," in gap:
            break
        if before.cues & _STATES and (len(gap.split()) <= _ADJACENT_WORDS or "ordinary" in before.cues):
            state = place
            break
    for place in range(index + 1, min(len(matches), index + 1 + _REACH_MATCHES)):
        if state is not None and len(clause[matches[state].end : structure.start].split()) <= _ADJACENT_WORDS:
            break
        after = matches[place]
        if after.findings or "scope_ends" in after.cues:
            break
        if after.cues & _STATES:
            state = place
            break
    if state is None:
        return None
    if "ordinary" in matches[state].cues:
        return "absent"
    if "borderline" in matches[state].cues:
        return "uncertain"
    return _presence(clause, matches, state)
