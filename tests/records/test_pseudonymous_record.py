import pytest

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.pseudonymous_record import pseudonymous_record
from arra_med.records.study import StudyRecord

PSEUDONYMS = Pseudonymizer(bytes(32))


def record(**values: object) -> StudyRecord:
    told = {"image_id": "ACC-4711", "patient_id": "MRN-12", "modality": "cxr", "source": "ours", **values}
    return StudyRecord.model_validate({**told, "path": "/archive/1.dcm", "report": "No effusion."})


def test_ids_of_private_data_are_hashed_and_the_rest_stays() -> None:
    expected = record(image_id=f"ours/{PSEUDONYMS.of('ACC-4711')}", patient_id=PSEUDONYMS.of("ours/MRN-12"))
    assert pseudonymous_record(record(), PSEUDONYMS, private=True) == expected


def test_image_ids_of_a_published_data_set_stay_and_its_patients_are_hashed() -> None:
    expected = record(patient_id=PSEUDONYMS.of("ours/MRN-12"))
    assert pseudonymous_record(record(), PSEUDONYMS, private=False) == expected


@pytest.mark.parametrize(("age", "told"), [(None, None), (0.5, 0.5), (89.0, 89.0), (93.0, 90.0)])
def test_ages_above_89_are_one_group(age: float | None, told: float | None) -> None:
    assert pseudonymous_record(record(age=age), PSEUDONYMS, private=False).age == told
