"""What can be left out of a prompt, and how it reads then."""

import random

import pytest

from arra_med.records.paraphrases import paraphrases
from arra_med.records.phrases import body_of, prefix_of, prompt_phrases, without_phrase
from arra_med.records.report import Prompt, report_prompt


def prompt(report: str, modality: str = "cxr") -> Prompt:
    return report_prompt(report, modality=modality)


def split(report: str, modality: str = "cxr") -> dict[str, str]:
    """Phrase -> the prompt without it."""
    made = prompt(report, modality)
    return {phrase.text(made.text): without_phrase(made, modality, phrase) for phrase in prompt_phrases(made, modality)}


def test_view_side_degree_and_statements_are_phrases():
    assert split("PA view. Large left pleural effusion, and mild cardiomegaly.") == {
        "PA view": "chest X-ray image, Large left pleural effusion, and mild cardiomegaly.",
        "Large": "PA view chest X-ray image, Left pleural effusion, and mild cardiomegaly.",
        "left": "PA view chest X-ray image, Large pleural effusion, and mild cardiomegaly.",
        "pleural effusion": "PA view chest X-ray image, Mild cardiomegaly.",
        "mild": "PA view chest X-ray image, Large left pleural effusion, and cardiomegaly.",
        "cardiomegaly": "PA view chest X-ray image, Large left pleural effusion.",
    }


def test_a_denial_stays_whole_up_to_its_but():
    assert split("No pneumothorax or effusion, but a nodule. Heart size and mediastinum are normal.") == {
        "No pneumothorax or effusion": "chest X-ray image, A nodule. Heart size and mediastinum are normal.",
        "a nodule": "chest X-ray image, No pneumothorax or effusion. Heart size and mediastinum are normal.",
        "Heart size and mediastinum are normal": "chest X-ray image, No pneumothorax or effusion, but a nodule.",
    }


def test_degrees_of_a_findings_name_stay_with_it_and_eye_and_child_are_phrases():
    found = split("Right eye of a child. Severe non-proliferative diabetic retinopathy. Severe glaucoma.", "fundus")
    assert list(found) == [
        "right eye",
        "paediatric",
        "Severe non-proliferative diabetic retinopathy",
        "Severe",
        "glaucoma",
    ]
    assert found["right eye"].startswith("paediatric fundus photograph, Severe non")
    assert found["paediatric"].startswith("right eye fundus photograph, Severe non")
    assert found["Severe"].endswith("retinopathy. Glaucoma.")


@pytest.mark.parametrize(
    "report", ["PA view.", "Effusion", "PA view. Bilateral.", "A, b; c! d?", "PA view. 3.5 cm mass."]
)
def test_without_its_only_phrases_a_prompt_is_shorter_and_never_empty(report: str):
    made = prompt(report)
    for phrase in prompt_phrases(made, "cxr"):
        shorter = without_phrase(made, "cxr", phrase)
        assert shorter
        assert len(shorter) < len(made.text)
        assert phrase.text(made.text) in made.text


def test_a_photographs_text_has_no_template():
    made = prompt("A red bird, on the sea", "photo")
    assert prefix_of(made, "photo") == ""
    assert [phrase.text(made.text) for phrase in prompt_phrases(made, "photo")] == ["A red bird", "on the sea"]


def test_paraphrases_keep_the_template_sides_and_findings():
    made = prompt("PA view. Large left pleural effusion. Cardiomegaly. The lungs are clear.")
    found = paraphrases(made, "cxr", 30, random.Random(0))
    assert len(found) == len(set(found)) == 30
    assert made.text not in found
    for text in found:
        assert text.startswith("PA view chest X-ray image, ")
        assert "large left" in text.lower()
    assert any("enlarged" in text.lower() or "enlargement" in text.lower() for text in found)
    assert any(text.lower().index("large left") > 40 for text in found)
    assert paraphrases(made, "cxr", 30, random.Random(0)) == found


def test_a_text_that_the_bank_does_not_know_varies_by_order_case_and_stop_alone():
    found = paraphrases(prompt("Odd shadow."), "cxr", 30, random.Random(0))
    assert {text.lower().rstrip(".") for text in found} == {"chest x-ray image, odd shadow"}
    assert len(found) == 5
    assert paraphrases(prompt("PA view."), "cxr", 30, random.Random(0)) == []


def test_the_body_is_what_the_template_does_not_say():
    made = prompt("AP view of a child. Nodule.")
    assert (prefix_of(made, "cxr"), body_of(made, "cxr")) == ("AP view paediatric chest X-ray image", "Nodule.")
