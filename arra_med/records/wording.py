"""The bank of report wordings: each epoch, a study's labels are put into other words, so that free text works.

The words stand in `wording_cxr.yaml` and `wording_fundus.yaml`; photographs keep their one text. A drawn report never says more than the labels hold: no
side, severity, device or number, and nothing is denied that the labels do not deny ("unknown is not no").
"""

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import Field

from arra_med.config import StrictModel, load_config
from arra_med.errors import ReportError
from arra_med.records.report import report_prompt
from arra_med.records.scrubbing import scrub_text
from arra_med.records.study import Modality, StudyRecord

NORMAL = "normal"

KEEP_VIEW_PROBABILITY = 0.85
OWN_TEXT_PROBABILITY = {"written": 0.5, "keywords": 0.25, "from_labels": 0.0}

READ_AS_NORMAL = frozenset({"nih_rsna_normal", "kermany_pneumonia"})
"""Sources whose images a reader judged normal as a whole; elsewhere "no finding" means none of the source's own labels."""

_EYES = {"L": "left eye", "R": "right eye"}


class FindingWording(StrictModel):
    """Wordings of one finding: noun phrases that fit into frames, and whole sentences."""

    phrases: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    held_out: tuple[str, ...] = Field(min_length=1)


class NormalWording(StrictModel):
    """Wordings of a normal image: summaries, details by topic, and findings that may be denied."""

    beside_findings: tuple[str, ...]
    summaries: tuple[str, ...]
    details: dict[str, tuple[str, ...]]
    details_of_whole_image: dict[str, tuple[str, ...]]
    absent: tuple[str, ...]
    absent_frames: tuple[str, ...]
    held_out: tuple[str, ...]


class Opening(StrictModel):
    """Sentences that say which image it is."""

    with_view: tuple[str, ...]
    without_view: tuple[str, ...]


class WordingBank(StrictModel):
    """All wordings of one modality; a phrase or sentence that stands twice is drawn twice as often."""

    labels: dict[str, tuple[str, ...]]
    opening: Opening
    frames: tuple[str, ...]
    list_frames: tuple[str, ...]
    findings: dict[str, FindingWording]
    normal: NormalWording


@functools.cache
def wording_bank(modality: Modality) -> WordingBank:
    """Returns the bank of a modality."""
    return load_config(Path(__file__).with_name(f"wording_{modality}.yaml"), WordingBank)


def canonical_labels(record: StudyRecord) -> tuple[str, ...]:
    """Returns the record's finding names, harmonised across sources, in the source's order without repeats.

    A label that the bank does not know stays as it is, in lower case.
    """
    known = wording_bank(record.modality).labels
    names = [" ".join(label.lower().replace("_", " ").split()) for label in record.labels]
    return tuple(dict.fromkeys(finding for name in names if name for finding in known.get(name, (name,))))


def held_out_paraphrases(label: str, modality: Modality = "cxr") -> list[str]:
    """Returns wordings of a canonical label that `draw_report` never emits; none for a label outside the bank."""
    bank = wording_bank(modality)
    if label == NORMAL:
        return list(bank.normal.held_out)
    return list(bank.findings[label].held_out) if label in bank.findings else []


def draw_report(record: StudyRecord, rng: random.Random) -> str:
    """Draws a report: the study's own text now and then, scrubbed (clinicians' text, keywords), else its labels' wording.

    Args:
        record: The study.
        rng: The only source of chance; equal states give equal reports.

    Returns:
        One to a few sentences, sometimes with section headers or an opening that states the view or eye.
    """
    if record.modality == "photo":
        return record.report
    labels, own = canonical_labels(record), scrub_text(record.report).strip()
    if own and (not labels or rng.random() < OWN_TEXT_PROBABILITY[record.report_kind or "written"]):
        return own
    opening = _draw_opening(record, rng)
    if not labels:
        return opening
    text = _draw_sections(record, labels, rng)
    if rng.random() < 0.3:
        text = f"{opening} {text}"
    chance = rng.random()
    if chance < 0.08:
        text = text.upper()
    elif chance < 0.2:
        text = text.lower()
    return text.removesuffix(".") if rng.random() < 0.1 else text


def prompt_text(
    record: StudyRecord,
    rng: random.Random,
    *,
    max_chars: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int | None = None,
) -> str:
    """Draws a report and returns its prompt, as `report_prompt` would make it from a user's text.

    View and eye are kept with probability 0.85, so that prompts without them are known to the model too. The limits
    are those of `report_prompt`.
    """
    if rng.random() >= KEEP_VIEW_PROBABILITY:
        record = record.model_copy(update={"view": None, "laterality": None})

    def prompt(report: str) -> str:
        return report_prompt(
            report,
            modality=record.modality,
            view=record.view,
            age_group=record.age_group,
            laterality=record.laterality,
            max_chars=max_chars,
            count_tokens=count_tokens,
            max_tokens=max_tokens,
        ).text

    report = draw_report(record, rng)
    try:
        return prompt(report)
    except ReportError:
        # A clinician's text that describes no image (a history alone): the labels speak, or else only view and age.
        return prompt(draw_report(record.model_copy(update={"report": ""}), rng))


def bank_sentences(modality: Modality) -> list[str]:
    """Returns every sentence of the bank once, phrases in all their frames: the text to train a tokenizer on.

    Sentences that join several findings stand for all pairs by one pair for each finding and frame. Held-out
    paraphrases are not among them.
    """
    return list(dict.fromkeys(_sentences(wording_bank(modality), modality)))


def _sentences(bank: WordingBank, modality: Modality) -> Iterator[str]:
    views = ("PA", "AP") if modality == "cxr" else tuple(_EYES.values())
    yield from bank.opening.without_view
    yield from (_sentence(frame, view=view) for frame in bank.opening.with_view for view in views)
    neighbour = "pleural effusion" if modality == "cxr" else "drusen"
    for wording in bank.findings.values():
        for phrase in wording.phrases:
            yield _sentence("{finding}.", finding=phrase)
            yield from (_sentence(frame, finding=phrase) for frame in bank.frames)
        if wording.phrases:
            joined = f"{wording.phrases[0]} and {neighbour}"
            yield from (_sentence(frame, findings=joined) for frame in bank.list_frames)
        yield from wording.sentences
    normal = bank.normal
    yield from (*normal.beside_findings, *normal.summaries)
    for topic in (*normal.details.values(), *normal.details_of_whole_image.values()):
        yield from topic
    yield from (_sentence(frame, absent=absent) for frame in normal.absent_frames for absent in normal.absent)


def _sentence(frame: str, **words: str) -> str:
    text = frame.format(**words)
    return text[0].upper() + text[1:]


def _join(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _draw_opening(record: StudyRecord, rng: random.Random) -> str:
    opening = wording_bank(record.modality).opening
    view = record.view if record.modality == "cxr" else _EYES.get(record.laterality or "")
    text = _sentence(rng.choice(opening.with_view), view=view) if view else rng.choice(opening.without_view)
    return text.replace(" chest", " paediatric chest", 1) if record.age_group == "child" else text


def _draw_sections(record: StudyRecord, labels: Sequence[str], rng: random.Random) -> str:
    chance = rng.random()
    if chance >= 0.25:
        return _draw_sentences(record, labels, rng)
    sections = ["Impression"] if chance < 0.1 else ["Findings"] if chance < 0.17 else ["Findings", "Impression"]
    spell = rng.choice((str.upper, str.upper, str.capitalize, str.lower))
    separator = rng.choice((" ", "\n"))
    return separator.join(f"{spell(section)}: {_draw_sentences(record, labels, rng)}" for section in sections)


def _draw_sentences(record: StudyRecord, labels: Sequence[str], rng: random.Random) -> str:
    bank = wording_bank(record.modality)
    present = [label for label in labels if label != NORMAL]
    rng.shuffle(present)
    wordings = [bank.findings.get(label) or FindingWording(phrases=(label,), held_out=("",)) for label in present]
    sentences: list[str] = []
    listed = [wording for wording in wordings if wording.phrases]
    if len(listed) > 1 and rng.random() < 0.5:
        phrases = [rng.choice(wording.phrases) for wording in listed]
        joined = _join(phrases, rng.choice(("and", "and", "with")) if len(phrases) == 2 else "and")
        sentences.append(
            _sentence(rng.choice(bank.list_frames) if rng.random() < 0.6 else "{findings}.", findings=joined)
        )
        wordings = [wording for wording in wordings if not wording.phrases]
    sentences += [_draw_finding(bank, wording, rng) for wording in wordings]
    if NORMAL in labels:
        sentences += [rng.choice(bank.normal.beside_findings)] if present else _draw_normal(bank, record, rng)
        rng.shuffle(sentences)
    return " ".join(sentences)


def _draw_finding(bank: WordingBank, wording: FindingWording, rng: random.Random) -> str:
    chance = rng.random()
    if wording.sentences and (not wording.phrases or chance < 0.3):
        return rng.choice(wording.sentences)
    frame = rng.choice(bank.frames) if chance < 0.6 else "{finding}."
    return _sentence(frame, finding=rng.choice(wording.phrases))


def _draw_normal(bank: WordingBank, record: StudyRecord, rng: random.Random) -> list[str]:
    chance = rng.random()
    summary = [rng.choice(bank.normal.summaries)] if chance < 0.7 else []
    if chance < 0.35:
        return summary
    topics = dict(bank.normal.details)
    if record.source in READ_AS_NORMAL:
        topics |= bank.normal.details_of_whole_image
    num_details = rng.choice((0, 1, 1, 2)) if summary else rng.choice((1, 2, 2, 3))
    details = [rng.choice(topics[topic]) for topic in rng.sample(sorted(topics), num_details)]
    if not details or rng.random() < 0.6:
        details.append(_draw_absent(bank, rng))
    return summary + details


def _draw_absent(bank: WordingBank, rng: random.Random) -> str:
    drawn = rng.sample(bank.normal.absent, rng.choice((1, 2, 2, 3)))
    distinct = [name for name in drawn if not any(name in other for other in drawn if other != name)]
    return _sentence(rng.choice(bank.normal.absent_frames), absent=_join(distinct, "or"))
