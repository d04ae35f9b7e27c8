"""What a user should know before trusting a picture: the training data hardly hold what the report names.

A bundle tells how many training images had which label, and no more. A side or degree that stands in no label's name is
one that the labels could not teach.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from arra_med.records.mentions import QualifierKind, finding_mentions, qualifiers
from arra_med.records.report import Prompt
from arra_med.records.study import Modality

FEW_IMAGES = 100
"""Below this number of training images a finding gets a caution."""

_KIND_NAMES: dict[QualifierKind, str] = {
    "side": "the side of a finding",
    "place": "the place of a finding",
    "severity": "how severe a finding is",
    "size": "the size of a finding",
    "number": "the number of findings",
    "change": "change over time",
    "device": "devices",
}
_TEMPLATE = re.compile(r"^.*?\b(?:X-ray image|fundus photograph)(?:, |$)")
_SPEAKS_OF_NORMAL = re.compile(
    r"\b(?:no|not|without|normal|clear|unremarkable|healthy|intact|negative|absent|absence|free of|within)\b",
    re.IGNORECASE,
)
_UNKNOWN = (
    "No label of the training images is a finding that this report names: the picture may not show what it describes."
)


def cautioned(prompt: Prompt, modality: Modality, label_counts: Mapping[str, int]) -> Prompt:
    """Returns a prompt whose notices end with every caution; needs a bundle's description alone.

    Args:
        prompt: The prompt.
        modality: As in `label_cautions`.
        label_counts: As there.
    """
    known = prompt.text, modality, label_counts
    notices = (*prompt.notices, *label_cautions(*known), *qualifier_cautions(*known))
    return dataclasses.replace(prompt, notices=notices)


def label_cautions(text: str, modality: Modality, label_counts: Mapping[str, int]) -> tuple[str, ...]:
    """Names the findings of a prompt that few or no training images were labelled with.

    Args:
        text: The prompt.
        modality: Chooses the bank of wordings in which findings are recognised.
        label_counts: Training images for each canonical finding; empty if unknown, which gives no caution.

    Returns:
        One sentence for each such finding that the text affirms, in the text's order; where neither a finding nor a
        normal image is recognised, one that says so.
    """
    if not label_counts:
        return ()
    mentions = list(finding_mentions(text, modality, label_counts))
    body = _TEMPLATE.sub("", text)
    if not mentions and re.search(r"\w", body) and not _SPEAKS_OF_NORMAL.search(body) and modality != "photo":
        return (_UNKNOWN,)
    findings = [mention.finding for mention in mentions if not mention.is_denied]
    counts = {finding: label_counts.get(finding, 0) for finding in findings}
    return tuple(_caution(finding, count) for finding, count in counts.items() if count < FEW_IMAGES)


def qualifier_cautions(text: str, modality: Modality, label_counts: Mapping[str, int]) -> tuple[str, ...]:
    """Names the sides, places, degrees and the like of a prompt that no label of the training images holds.

    "Severe" of "severe nonproliferative diabetic retinopathy" is held where images were labelled with that.

    Args:
        text: The prompt.
        modality: As in `label_cautions`.
        label_counts: As there.

    Returns:
        One sentence for each kind, with the words in question, in the text's order.
    """
    if not label_counts or modality == "photo":
        return ()
    words: dict[QualifierKind, dict[str, None]] = {}
    for kind, word in _untaught(_TEMPLATE.sub("", text), modality, label_counts):
        words.setdefault(kind, {})[word.lower()] = None
    return tuple(
        f"No label of the training images tells {_KIND_NAMES[kind]}: the picture need not follow {_quoted(list(found))}."
        for kind, found in words.items()
    )


def _untaught(text: str, modality: Modality, label_counts: Mapping[str, int]) -> Iterator[tuple[QualifierKind, str]]:
    mentions = list(finding_mentions(text, modality, label_counts))
    taught = [mention for mention in mentions if label_counts.get(mention.finding)]
    for found in qualifiers(text, taught):
        yield found.kind, text[found.start : found.stop]


def _quoted(words: list[str]) -> str:
    marked = [f"\u201c{word}\u201d" for word in words]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} or {marked[-1]}"


def _caution(finding: str, count: int) -> str:
    if count == 0:
        return f"No training image was labelled with {finding}: the picture may not show it."
    images = "1 training image was" if count == 1 else f"{count} training images were"
    return f"Only {images} labelled with {finding}: the picture may not show it well."
