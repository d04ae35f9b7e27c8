"""What a de-identified copy of one DICOM file would lose or change: names of attributes and what happens to them, no value."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydicom.datadict import dictionary_description, dictionary_has_tag, repeater_has_tag
from pydicom.tag import BaseTag

from arra_med.corpus.deidentified_copies import deidentified_copy
from arra_med.errors import ImageError
from arra_med.imaging.deidentify import AuditEntry
from arra_med.imaging.dicom import silent_pydicom
from arra_med.records.pseudonym import throwaway_pseudonymizer

ACTION_WORDS = {
    "X": "removed",
    "Z": "emptied",
    "D": "replaced",
    "U": "UID replaced",
    "C": "date moved",
}
"""What an action of `AuditEntry` does, in the order in which actions are told."""

PRIVATE = "private attributes of the manufacturer"
UNKNOWN = "attributes that the DICOM dictionary does not know"
_BURNED_IN = "They may hold text, so that a copy is made only when somebody has looked at them (--allow-burned-in)."


class ActionOnHeader(NamedTuple):
    """Attributes that are treated alike.

    Attributes:
        action: In words, one of `ACTION_WORDS`.
        attributes: Their names in the DICOM dictionary, `in` the sequences that hold them.
    """

    action: str
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class HeaderChanges:
    """What becomes of a header; it holds no value.

    Attributes:
        actions: What happens to which attributes.
        pixels_may_hold_text: Whether a copy is made only on request, because pixels stay as they are.
        refusal: Why no copy can be made at all, if so.
    """

    actions: tuple[ActionOnHeader, ...] = ()
    pixels_may_hold_text: bool = False
    refusal: ImageError | None = None

    @property
    def sentence(self) -> str:
        """Says it in a sentence or two."""
        if self.refusal is not None:
            return f"No de-identified copy can be made of it: {self.refusal}."
        counts = {action.action: len(action.attributes) for action in self.actions}
        removed, emptied = counts.pop("removed", 0), counts.pop("emptied", 0)
        told = (
            f"A de-identified copy (arra-med deidentify) would remove {removed} attributes of the header, empty {emptied} "
            f"and replace {sum(counts.values())}; the pixels stay as they are."
        )
        return f"{told} {_BURNED_IN}" if self.pixels_may_hold_text else told


def header_changes(file: Path) -> HeaderChanges | None:
    """Returns what `arra-med deidentify` would do to a file's header; none for a file that is not DICOM.

    Nothing is written, and no key is read or made.

    Args:
        file: Any file; its content says what it is.
    """
    try:
        with silent_pydicom():
            found, _, burned_in = deidentified_copy(file, throwaway_pseudonymizer(), allow_burned_in=True)
    except ImageError as refused:
        return None if refused.reason == "not_an_image" else HeaderChanges(refusal=refused)
    return HeaderChanges(_by_action(found.audit), burned_in)


def _by_action(audit: Iterable[AuditEntry]) -> tuple[ActionOnHeader, ...]:
    names: dict[str, dict[str, None]] = {action: {} for action in ACTION_WORDS}
    for entry in audit:
        names[entry.action][_name(entry.tag)] = None
    return tuple(ActionOnHeader(ACTION_WORDS[action], tuple(told)) for action, told in names.items() if told)


def _name(path: str) -> str:
    """Names `(gggg,eeee)>(gggg,eeee)`, the innermost first."""
    tags = [BaseTag(int(part.strip("()").replace(",", ""), 16)) for part in path.split(">")]
    if tags[-1].is_private:
        return PRIVATE
    if not all(dictionary_has_tag(tag) or repeater_has_tag(int(tag)) for tag in tags):
        return UNKNOWN
    return " in ".join(dictionary_description(tag) for tag in reversed(tags))
