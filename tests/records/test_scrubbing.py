import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.records.scrubbing import scrub_text
from arra_med.records.study import Modality
from arra_med.records.wording import bank_sentences
from tests.records.linear_time import assert_linear
from tests.records.planted_identifiers import KINDS, plants, recall_by_kind


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Dr. ___ was notified at 3:10 p.m.", ""),
        ("Compared to ___, effusion has grown", "Effusion has grown"),
        ("Compared to the study of ___, the effusion has grown.", "The effusion has grown."),
        ("In comparison with the study of ___, there is little change.", "There is little change."),
        ("Slightly larger effusion when compared to prior study from ___.", "Slightly larger effusion."),
        ("Effusion is unchanged since 03/04/2019.", "Effusion is unchanged."),
        ("No change from 3/4.", "No change."),
        ("The study of March 4, 2019 at 10:15 showed a mass.", "The study showed a mass."),
        ("A 93 year old man. A 45-year-old man.", "A man. A 45-year-old man."),
        ("___-year-old woman with cough.", "Woman with cough."),
        ("MRN: 1234567. Effusion.", "Effusion."),
        ("Call 555-123-4567 or e-mail jane@doe.org. Effusion.", "Effusion."),
        ("The XXXX are intact. The heart is normal.", "The heart is normal."),
        ("There are XXXX streaky opacities.", "There are streaky opacities."),
        ("Blunting due to a XXXX effusion.", "Blunting due to an effusion."),
        ("PA chest x-XXXX. Effusion.", "PA chest x-ray. Effusion."),
        ("Effusion (seen on [**2015-3-4**]).", "Effusion."),
        ("[NAME]'s effusion is small.", "Effusion is small."),
        ("Findings were discussed with John Smith by phone. No effusion.", "No effusion."),
        ("Read by Jane Doe, MD. No pneumothorax.", "No pneumothorax."),
        ("Transferred from St. Mary's Hospital, Springfield, IL 62704. No edema.", "Transferred. No edema."),
        ("Pacemaker serial number SN12345678 with leads in place.", "Pacemaker with leads in place."),
        ("IMPRESSION:\n1. Dr. Smith was told.\n2. Effusion.", "IMPRESSION:\n2. Effusion."),
        ("COMPARISON: ___\nFINDINGS: Mass.", "COMPARISON:\nFINDINGS: Mass."),
    ],
)
def test_an_identifier_goes_with_its_phrase_or_its_sentence(text, scrubbed):
    assert scrub_text(text) == scrubbed


MEASUREMENTS = (
    "2.3 cm", "5 x 3 mm", "12 mm", "1500 mL", "T12", "T11-12", "L4/5", "the 1st rib", "ribs 3-5", "two nodules", "3 of 5 lobes",
    "2/3 of the hemithorax", "16.2/24.7", "30 degrees", "100000 cc", "1:2", "a 45-year-old man", "segment 4", "grade 2", "20%",
)  # fmt: skip


@given(st.lists(st.sampled_from(MEASUREMENTS), min_size=1, max_size=4))
def test_measurements_levels_and_counts_stay_in_clean_text(measurements):
    text = " ".join(f"There is a finding of {measurement} here." for measurement in measurements)
    assert scrub_text(text) == text


@given(
    st.sampled_from(MEASUREMENTS), st.sampled_from(["since ___", "since 03/04/2019", "at 10:15", "on March 4, 2019"])
)
def test_measurements_stay_beside_identifiers(measurement, phrase):
    assert scrub_text(f"There is a finding of {measurement}, {phrase}.") == f"There is a finding of {measurement}."


@given(st.text(alphabet=st.sampled_from("aA. \n_X12:/-,DrMD"), max_size=80))
def test_scrubbing_twice_is_scrubbing_once(text):
    once = scrub_text(text)
    assert not re.search(r"_{2,}", once)
    assert scrub_text(once) == once


def test_planted_identifiers_go_and_their_neighbours_stay():
    planted = plants(count=25, seed=4)
    assert len(KINDS) == 18
    for plant in planted:
        scrubbed = scrub_text(plant.text)
        assert all(sentence in scrubbed for sentence in plant.around), plant.kind
    recalls = recall_by_kind(planted)
    assert {kind: recall for kind, recall in recalls.items() if recall < 0.99 and kind != "name"} == {}
    # A name without a title or label stays: hence "scrubbing", not "de-identification".
    assert 0.8 < recalls["name"] < 0.99


@pytest.mark.parametrize("denial", ["No", "NO", "Not", "Without", "Negative for", "Clear of"])
def test_a_denial_is_never_taken_for_a_name(denial):
    for name in ("Dr. Smith", "Dr. J.", "J. Smith, M.D.", "___", "Jane Doe, MD"):
        assert f"{denial} effusion." in scrub_text(f"Discussed with {name}. {denial} effusion.")


ADVERSARIAL = (
    "a",
    " ",
    "1 ",
    "Aa ",
    "___ ",
    "(",
    "\n",
    "1-",
    "a@",
    "of the ",
    "Smith, ",
    "[A",
    "12:",
    "and ___ ",
    "AB12",
)


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_time_is_linear(unit):
    assert_linear(scrub_text, (unit * 200_000)[:200_000])


@pytest.mark.parametrize(
    "text",
    [
        "DRUSEN.",
        "DRAINAGE CATHETER.",
        "DROWNED LUNG.",
        "DRY MACULA.",
        "MRSA PNEUMONIA.",
        "MR ANGIOGRAPHY.",
        "MRI of the chest.",
        "Compare with MR CHEST.",
    ],
)
def test_a_word_that_begins_like_a_title_is_no_name(text: str) -> None:
    assert scrub_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Seen by DR. SMITH.",
        "As per DrSmith.",
        "DR SMITH.",
        "Mr. Lee.",
        "MS JONES.",
        "Mr Chester Lee.",
        "MR SCANLON SMITH.",
    ],
)
def test_a_title_before_a_name_is_one_in_any_spelling(text: str) -> None:
    assert not any(name in scrub_text(text).lower() for name in ("smith", "lee", "jones", "chester", "scanlon"))


@pytest.mark.parametrize("modality", ["cxr", "fundus"])
def test_no_sentence_of_the_bank_is_taken_for_an_identifier_in_any_spelling(modality: Modality) -> None:
    for sentence in bank_sentences(modality):
        for spelling in (sentence, sentence.upper(), sentence.lower()):
            assert scrub_text(spelling) == spelling
