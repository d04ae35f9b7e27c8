import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.records.observations import (
    OBSERVATIONS,
    Observation,
    labels_from_report,
    observation_rules,
    observations_of,
)
from arra_med.records.study import StudyRecord
from arra_med.records.wording import canonical_labels, draw_report, wording_bank
from tests.records.linear_time import assert_linear

EFFUSION, THORAX, OPACITY = "Pleural Effusion", "Pneumothorax", "Lung Opacity"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Small left pleural effusion.", {EFFUSION: "present"}),
        ("No pleural effusion or pneumothorax.", {"No Finding": "present", THORAX: "absent", EFFUSION: "absent"}),
        ("Possible effusion.", {EFFUSION: "uncertain"}),
        ("Effusion cannot be excluded.", {EFFUSION: "uncertain"}),
        ("Pneumothorax has resolved.", {"No Finding": "present", THORAX: "absent"}),
        ("Pneumothorax is not seen.", {"No Finding": "present", THORAX: "absent"}),
        # A denial reaches as far as "but", and beats a doubt in its own phrase only.
        ("No pneumothorax but there is an effusion.", {THORAX: "absent", EFFUSION: "present"}),
        ("No evidence to suggest pneumonia.", {"No Finding": "present", "Pneumonia": "absent"}),
        ("No effusion, possible pneumonia.", {"Pneumonia": "uncertain", EFFUSION: "absent"}),
        ("No change in the effusion.", {EFFUSION: "present"}),
        # A doubt reaches forwards: the opacity is seen, what it means is not known.
        ("Opacity may represent atelectasis.", {OPACITY: "present", "Atelectasis": "uncertain"}),
        ("The heart is enlarged.", {"Cardiomegaly": "present"}),
        ("The heart is not enlarged.", {"No Finding": "present", "Cardiomegaly": "absent"}),
        ("The heart does not appear enlarged.", {"No Finding": "present", "Cardiomegaly": "absent"}),
        ("Heart size is borderline.", {"Cardiomegaly": "uncertain"}),
        ("Enlargement of the heart.", {"Cardiomegaly": "present"}),
        ("Heart size is enlarged, pulmonary vascularity within normal limits.", {"Cardiomegaly": "present"}),
        ("The heart is stable.", {}),
        ("Large effusion behind the heart.", {EFFUSION: "present"}),
        (
            "Normal heart size and mediastinal contours.",
            {"No Finding": "present", "Enlarged Cardiomediastinum": "absent", "Cardiomegaly": "absent"},
        ),
        # The longest phrase counts.
        ("Nodular opacity.", {"Lung Lesion": "present"}),
        ("Large pericardial effusion.", {}),
        ("Subcutaneous emphysema.", {}),
        # Present wins over uncertain, uncertain over absent.
        ("No effusion. Possible effusion.", {EFFUSION: "uncertain"}),
        ("Possible effusion. No effusion. Effusion.", {EFFUSION: "present"}),
        # Only what describes the image is read.
        ("INDICATION: pneumonia?\nFINDINGS: Clear lungs.", {"No Finding": "present"}),
        ("COMPARISON: effusion\nIMPRESSION: 1. Mass.\n2. No effusion.", {"Lung Lesion": "present", EFFUSION: "absent"}),
        # A device is no pathology, and silence says nothing.
        ("Pacemaker. Lungs are clear.", {"No Finding": "present", "Support Devices": "present"}),
        ("Scoliosis.", {}),
        ("", {}),
    ],
)
def test_presence(text, found):
    assert observations_of(text) == found
    assert observations_of(text.upper()) == found


def test_the_names_are_chexperts_and_come_in_their_order():
    assert len(OBSERVATIONS) == 14
    assert get_args(Observation) == OBSERVATIONS
    text = "Fracture. Effusion. No mass. Cardiomegaly."
    assert list(observations_of(text)) == ["Cardiomegaly", "Lung Lesion", EFFUSION, "Fracture"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Effusion and cardiomegaly. No pneumothorax.", ("effusion", "cardiomegaly")),
        ("A nodule, a mass, emphysema and a hiatal hernia.", ("nodule", "mass", "emphysema", "hernia")),
        ("Possible pneumonia.", ()),
        ("No acute disease.", ("normal",)),
        ("Emphysema. No acute disease.", ("emphysema",)),
        ("Picc line. The lungs are clear.", ("normal",)),
        ("Scoliosis.", ()),
    ],
)
def test_labels(text, labels):
    assert labels_from_report(text) == labels


def test_labels_are_canonical():
    bank = wording_bank("cxr")
    names = set(observation_rules().findings) - {"support devices"}
    for name in (*names, "normal"):
        record = StudyRecord(image_id="a", patient_id="p", modality="cxr", source="s", labels=(name,))
        assert canonical_labels(record) == (name,)
    assert names - set(bank.findings) == {"enlarged cardiomediastinum", "lung opacity", "fracture"}


READ_BACK = ("effusion", "cardiomegaly", "pneumothorax", "atelectasis", "edema", "consolidation", "nodule", "mass", "emphysema")  # fmt: skip


@pytest.mark.parametrize("label", READ_BACK)
def test_the_banks_phrases_are_read_back(label):
    for phrase in wording_bank("cxr").findings[label].phrases:
        if phrase not in ("volume loss", "atelectatic opacity", "hyperinflation"):
            assert label in labels_from_report(f"There is {phrase}."), phrase
            assert label not in labels_from_report(f"There is no {phrase}."), phrase


@given(st.integers(min_value=0, max_value=2**32))
def test_a_normal_wording_is_read_as_normal(seed):
    record = StudyRecord(image_id="a", patient_id="p", modality="cxr", source="s", labels=("normal",))
    assert labels_from_report(draw_report(record, random.Random(seed))) == ("normal",)


@given(st.text(max_size=300))
def test_any_text_can_be_read(text):
    assert set(observations_of(text).values()) <= {"present", "absent", "uncertain"}


def test_many_different_words_are_read_in_linear_time():
    text = " ".join(f"opaci{number}" for number in range(15_000))
    assert_linear(observations_of, text)


@pytest.mark.parametrize(
    "unit", ["effusion ", "no ", "no effusion, ", "heart ", "heart enlarged ", "a", " ", ".", "\n", "h", "1. "]
)
def test_time_is_linear(unit):
    assert_linear(observations_of, (unit * 200_000)[:200_000])
