import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.errors import ConfigError, ManifestError
from arra_med.records.splits import assign_splits, check_patient_disjoint
from arra_med.records.study import StudyRecord


def study(number, patient, source="ours", split=None):
    return StudyRecord(image_id=f"{source}/{number}", patient_id=patient, modality="cxr", source=source, split=split)


patients = st.lists(
    st.tuples(st.sampled_from(["ours", "theirs"]), st.sampled_from([f"p{n}" for n in range(12)])), max_size=60
)


def splits_of_patients(records):
    found = collections.defaultdict(set)
    for record in records:
        found[record.source, record.patient_id].add(record.split)
    return found


@given(patients, st.integers(min_value=0, max_value=5))
def test_no_patient_stands_in_two_splits(rows, seed):
    records = assign_splits([study(n, patient, source) for n, (source, patient) in enumerate(rows)], seed=seed)
    assert all(len(splits) == 1 and None not in splits for splits in splits_of_patients(records).values())
    check_patient_disjoint(records)


@given(patients, st.randoms(use_true_random=False))
def test_order_and_company_move_nobody(rows, rng):
    records = [study(n, patient, source) for n, (source, patient) in enumerate(rows)]
    whole = splits_of_patients(assign_splits(records))
    shuffled = rng.sample(records, len(records) // 2)
    for patient, splits in splits_of_patients(assign_splits(shuffled)).items():
        assert splits == whole[patient]


@given(patients, st.sampled_from(["train", "validation", "test"]))
def test_a_given_split_is_kept_and_holds_for_the_whole_patient(rows, split):
    records = [study(n, patient, source) for n, (source, patient) in enumerate([*rows, ("ours", "p0")])]
    records[-1] = records[-1].model_copy(update={"split": split})
    assigned = assign_splits(records)
    assert splits_of_patients(assigned)["ours", "p0"] == {split}
    assert assign_splits(assigned) == assigned


def test_shares_are_near_the_fractions_and_the_seed_matters():
    records = [study(n, f"p{n}") for n in range(4000)]
    first, second = assign_splits(records), assign_splits(records, seed=1)
    counts = collections.Counter(record.split for record in first)
    assert counts["train"] == pytest.approx(3200, abs=120)
    assert counts["validation"] == pytest.approx(400, abs=80)
    assert first != second


def test_all_to_one_part():
    records = [study(n, f"p{n}") for n in range(50)]
    assert {record.split for record in assign_splits(records, (0, 0, 1))} == {"test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.1, -0.1, 0)])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(ConfigError, match="sum to 1"):
        assign_splits([], fractions)


def test_a_patient_in_two_splits_is_refused_without_naming_them():
    records = [study(0, "Jane-Doe", split="train"), study(1, "Jane-Doe", split="test"), study(2, "other", split="test")]
    with pytest.raises(ManifestError, match="1 patients of ours stand in more than one split") as caught:
        check_patient_disjoint(records)
    assert "Jane" not in str(caught.value)
    with pytest.raises(ManifestError, match="more than one split"):
        assign_splits(records)


def test_equal_ids_of_two_sources_are_two_patients():
    check_patient_disjoint([study(0, "1", "ours", "train"), study(1, "1", "theirs", "test")])
