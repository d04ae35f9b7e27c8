import pytest

from arra_med.corpus.selection import select_records
from arra_med.errors import StudySetError
from tests.corpus.tiny_studies import SPEC, record


def test_every_record_is_chosen_or_left_out_by_one_rule() -> None:
    eye = record(0, modality="fundus", view=None, redistributable=False)
    closed = record(1, redistributable=False)
    records = [eye, record(2), closed, record(3), record(4)]
    selection = select_records(records, SPEC, redistributable_only=True, limit=2)
    assert selection.chosen == [record(2), record(3)]
    assert selection.left_out == [
        (eye, "other_modality"),
        (closed, "not_redistributable"),
        (record(4), "over_limit"),
    ]
    assert selection.rules == {"not_redistributable": 1, "other_modality": 1, "over_limit": 1}


def test_without_rules_all_of_the_modality_are_chosen() -> None:
    records = [record(number, redistributable=False) for number in range(3)]
    assert select_records(records, SPEC).chosen == records


def test_nothing_left_says_which_rule_took_it() -> None:
    records = [record(number, redistributable=False) for number in range(3)]
    with pytest.raises(StudySetError, match=r"no cxr study is left to ingest \(not_redistributable: 3\)"):
        select_records(records, SPEC, redistributable_only=True)
    with pytest.raises(StudySetError, match="the input is empty"):
        select_records([], SPEC)
