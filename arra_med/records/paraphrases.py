"""Other wordings of a prompt that say the same: how far the words alone move a model."""

import random
import re
from collections.abc import Iterable

from arra_med.records.mentions import DENIED, finding_mentions
from arra_med.records.phrases import body_of, prefix_of
from arra_med.records.report import Prompt
from arra_med.records.study import Modality
from arra_med.records.wording import WordingBank, wording_bank

_SENTENCE = re.compile(r"[^\s.;!?].*?(?:[.;!?]+(?=\s|$)|$)")
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_TRIES_FOR_EACH = 40

# How often a wording is chosen. Case and full stop vary about as often as training varies them.
_REORDER, _SWAP_NAME, _SWAP_SENTENCE, _LOWER, _UPPER, _NO_STOP = 0.7, 0.7, 0.7, 0.12, 0.08, 0.1


def paraphrases(prompt: Prompt, modality: Modality, count: int, rng: random.Random) -> list[str]:
    """Draws other wordings of a prompt, all different, fewer than asked for where no more are known.

    Sentences change places; a finding's name becomes another of the bank of wordings; a sentence that only names a
    finding, or that the bank knows of a normal image, becomes another one that says the same; case and the last full
    stop vary. The template's words stay, and so does every word of side or degree.

    Args:
        prompt: The prompt.
        modality: Chooses the bank.
        count: How many at most.
        rng: The only source of chance.
    """
    bank, prefix = wording_bank(modality), prefix_of(prompt, modality)
    sentences = [found[0] for found in _SENTENCE.finditer(body_of(prompt, modality))]
    same_sentences = _same_sentences(bank)
    found: dict[str, None] = {}
    for _ in range(_TRIES_FOR_EACH * count if sentences else 0):
        if len(found) == count:
            break
        drawn = [_redrawn(sentence, modality, bank, same_sentences, rng) for sentence in sentences]
        if rng.random() < _REORDER:
            drawn = [words if words[-1] in ".;!?" else f"{words}." for words in drawn]
            rng.shuffle(drawn)
        body, chance = " ".join(drawn), rng.random()
        body = body.lower() if chance < _LOWER else body.upper() if chance < _LOWER + _UPPER else body
        if rng.random() < _NO_STOP:
            body = body.rstrip(".")
        text = f"{prefix}, {body}" if prefix else body
        if text != prompt.text:
            found[text] = None
    return list(found)


def _redrawn(
    sentence: str, modality: Modality, bank: WordingBank, same_sentences: dict[str, list[str]], rng: random.Random
) -> str:
    bare = _key(sentence)
    if (others := same_sentences.get(bare)) and rng.random() < _SWAP_SENTENCE:
        return rng.choice(others)
    mentions = list(finding_mentions(sentence, modality))
    if (
        len(mentions) == 1
        and _key(sentence[mentions[0].start : mentions[0].stop]) == bare
        and not DENIED.search(sentence)
    ):
        wording = bank.findings.get(mentions[0].finding)
        if wording and wording.phrases and rng.random() < _SWAP_SENTENCE:
            framed = [_capital(frame.format(finding=rng.choice(wording.phrases))) for frame in bank.frames]
            return rng.choice([*framed, *wording.sentences])
    for mention in reversed(mentions):
        wording = bank.findings.get(mention.finding)
        if wording and wording.phrases and rng.random() < _SWAP_NAME:
            name = _ARTICLE.sub("", rng.choice(wording.phrases))
            name = _capital(name) if sentence[mention.start].isupper() else name
            sentence = sentence[: mention.start] + name + sentence[mention.stop :]
    return sentence


def _same_sentences(bank: WordingBank) -> dict[str, list[str]]:
    """Sentence of a normal image or of a finding -> the bank's others that say the same."""
    normal = bank.normal
    groups: list[Iterable[str]] = [normal.summaries, normal.beside_findings]
    groups += [*normal.details.values(), *normal.details_of_whole_image.values()]
    groups += [wording.sentences for wording in bank.findings.values()]
    return {
        _key(one): others
        for group in groups
        for one in group
        if (others := [other for other in dict.fromkeys(group) if _key(other) != _key(one)])
    }


def _key(words: str) -> str:
    return _ARTICLE.sub("", words.strip().rstrip(".;!?").lower())


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
