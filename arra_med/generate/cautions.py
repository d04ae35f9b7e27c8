"""What a user should know before trusting a picture: the training data hardly hold what the report names."""

import re
from collections.abc import Iterator, Mapping

from arra_med.records.study import Modality
from arra_med.records.wording import NORMAL, wording_bank

FEW_IMAGES = 100
"""Below this number of training images a finding gets a caution."""

_SENTENCE = re.compile(r"[^.;!?\n]+")
_DENIED = re.compile(
    r"\b(?:no|not|without|negative for|free of|absence of|absent)\b(?!.*\b(?:but|however|although|except)\b)"
)
_ARTICLE = re.compile(r"^(?:an?|the) ")


def label_cautions(text: str, modality: Modality, label_counts: Mapping[str, int]) -> tuple[str, ...]:
    """Names the findings of a prompt that few or no training images were labelled with.

    Args:
        text: The prompt.
        modality: Chooses the bank of wordings in which findings are recognised.
        label_counts: Training images for each canonical finding; empty if unknown, which gives no caution.

    Returns:
        One sentence for each such finding that the text affirms, in the text's order.
    """
    if not label_counts:
        return ()
    findings = _affirmed_findings(text, modality, label_counts)
    counts = {finding: label_counts.get(finding, 0) for finding in findings}
    return tuple(_caution(finding, count) for finding, count in counts.items() if count < FEW_IMAGES)


def _caution(finding: str, count: int) -> str:
    if count == 0:
        return f"No training image was labelled with {finding}: the picture may not show it."
    images = "1 training image was" if count == 1 else f"{count} training images were"
    return f"Only {images} labelled with {finding}: the picture may not show it well."


def _affirmed_findings(text: str, modality: Modality, label_counts: Mapping[str, int]) -> Iterator[str]:
    finding_of = _findings_by_term(modality, label_counts)
    longest_first = sorted(finding_of, key=len, reverse=True)  # "viral pneumonia" is no "pneumonia"
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?:e?s)?(?!\w)")
    for sentence in _SENTENCE.findall(text.lower()):
        for found in pattern.finditer(sentence):
            if not _DENIED.search(sentence[: found.start()]):
                yield finding_of[found[1]]


def _findings_by_term(modality: Modality, label_counts: Mapping[str, int]) -> dict[str, str]:
    terms = {name.lower(): name for name in label_counts}
    for name, wording in wording_bank(modality).findings.items():
        terms |= {_ARTICLE.sub("", phrase.lower()): name for phrase in (name, *wording.phrases)}
    return {term: name for term, name in terms.items() if name != NORMAL and not name.startswith("no ")}
