"""Which records of a source a run takes, and the rule that leaves each of the others out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from arra_med.errors import StudySetError
from arra_med.imaging.view import CanonicalView
from arra_med.records.cards import require_card
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.pseudonymous_record import pseudonymous_record
from arra_med.records.study import StudyRecord

Rule = Literal["other_modality", "not_redistributable", "over_limit"]


class Selection(NamedTuple):
    """The records of a source, divided.

    Attributes:
        chosen: Those to be read, in the source's order.
        left_out: The others, each with its rule.
    """

    chosen: list[StudyRecord]
    left_out: list[tuple[StudyRecord, Rule]]

    @property
    def rules(self) -> dict[str, int]:
        """Number of records left out by each rule."""
        return dict(sorted(Counter(rule for _, rule in self.left_out).items()))


def select_records(
    records: Sequence[StudyRecord], spec: CanonicalView, *, redistributable_only: bool = False, limit: int | None = None
) -> Selection:
    """Divides records into those to be read and those that a rule leaves out.

    Args:
        records: All records of a source.
        spec: The view wanted; records of another modality are left out.
        redistributable_only: Whether to leave out rows from which no open weights may be trained.
        limit: Takes only the first records that no other rule leaves out.

    Raises:
        StudySetError: If no record is left.
    """
    selection = Selection([], [])
    for record in records:
        if record.modality != spec.modality:
            selection.left_out.append((record, "other_modality"))
        elif redistributable_only and not record.redistributable:
            selection.left_out.append((record, "not_redistributable"))
        elif limit is not None and len(selection.chosen) >= limit:
            selection.left_out.append((record, "over_limit"))
        else:
            selection.chosen.append(record)
    if not selection.chosen:
        why = ", ".join(f"{rule}: {count}" for rule, count in selection.rules.items()) or "the input is empty"
        raise StudySetError(f"no {spec.modality} study is left to ingest ({why}); choose another source or modality")
    return selection


def pseudonymous_records(records: Sequence[StudyRecord], pseudonymizer: Pseudonymizer) -> Iterator[StudyRecord]:
    """Yields records as a study set names them; the image ids of data that were never published are hashed as well.

    Raises:
        CardError: If a source has no data card.
    """
    private = {name for name in sorted({record.source for record in records}) if not require_card(name).url}
    for record in records:
        yield pseudonymous_record(record, pseudonymizer, private=record.source in private)
