import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.errors import ReportError
from arra_med.records.report import report_prompt, split_sections
from tests.records.test_sections import MIMIC


def text_of(report, modality="cxr", **given_facts):
    return report_prompt(report, modality=modality, **given_facts).text


@pytest.mark.parametrize(
    ("report", "prompt"),
    [
        ("PA view. Pleural effusion.", "PA view chest X-ray image, Pleural effusion."),
        ("pa view. cardiomegaly", "PA view chest X-ray image, cardiomegaly"),
        ("Pleural effusion.", "chest X-ray image, Pleural effusion."),
        ("AP chest radiograph. Findings: effusion, mass.", "AP view chest X-ray image, effusion, mass."),
        ("Frontal chest radiograph. No finding.", "chest X-ray image, No finding."),
        ("Portable chest. Edema.", "AP view chest X-ray image, Edema."),
        ("CHEST (PA AND LAT). No acute process.", "PA view chest X-ray image, No acute process."),
        ("Lateral view. Effusion.", "lateral view chest X-ray image, Effusion."),
        ("View: AP. Mass.", "AP view chest X-ray image, Mass."),
        ("Chest X-ray shows cardiomegaly.", "chest X-ray image, cardiomegaly."),
        ("chest x-ray with pleural effusion", "chest X-ray image, pleural effusion"),
        ("PA view chest X-ray image, effusion", "PA view chest X-ray image, effusion"),
        ("AP paediatric chest radiograph. Normal.", "AP view paediatric chest X-ray image, Normal."),
        ("8-year-old boy. Pneumonia.", "paediatric chest X-ray image, Pneumonia."),
        ("3 month old infant. Pneumonia.", "paediatric chest X-ray image, Pneumonia."),
        ("56-year-old man with pneumonia.", "chest X-ray image, pneumonia."),
        ("Pediatric chest. Pneumonia.", "paediatric chest X-ray image, Pneumonia."),
        # "AP" and "PA" are words of anatomy too, "left" is a finding's side, and "lateral" a place.
        ("AP diameter is enlarged. The PA is wide.", "chest X-ray image, AP diameter is enlarged. The PA is wide."),
        ("Left pleural effusion.", "chest X-ray image, Left pleural effusion."),
        ("Fluid in the lateral recess.", "chest X-ray image, Fluid in the lateral recess."),
        ("PA view.", "PA view chest X-ray image"),
    ],
)
def test_chest_template(report, prompt):
    assert text_of(report) == prompt


@pytest.mark.parametrize(
    ("report", "prompt"),
    [
        (
            "Colour fundus photograph of the left eye of a 56-year-old male. Normal fundus.",
            "left eye fundus photograph, Normal fundus.",
        ),
        ("Colour fundus photograph. No diabetic retinopathy.", "fundus photograph, No diabetic retinopathy."),
        ("Colour fundus photograph of a child's eye.", "paediatric fundus photograph"),
        ("OD. Cataract.", "right eye fundus photograph, Cataract."),
        ("right eye: glaucoma", "right eye fundus photograph, glaucoma"),
        ("Both eyes. Drusen.", "fundus photograph, Drusen."),
        ("Left eye normal, right eye drusen.", "fundus photograph, Left eye normal, right eye drusen."),
        (
            "Retinal photograph of the right eye of a 7-year-old girl. Normal.",
            "right eye paediatric fundus photograph, Normal.",
        ),
    ],
)
def test_fundus_template(report, prompt):
    assert text_of(report, "fundus") == prompt


def test_given_facts_win_and_say_so():
    prompt = report_prompt("AP view. 50-year-old. Effusion.", modality="cxr", view="PA", age_group="child")
    assert prompt.text == "PA view paediatric chest X-ray image, Effusion."
    assert prompt.view == "PA"
    assert prompt.notices == (
        "The report says view AP, but PA was asked for: PA is used.",
        "The report says age group adult, but child was asked for: child is used.",
    )
    eye = report_prompt("Left eye. Drusen.", modality="fundus", laterality="R")
    assert eye.notices == ("The report says eye left, but right was asked for: right is used.",)


def test_adult_is_not_written():
    assert text_of("Effusion.", age_group="adult") == text_of("Effusion.") == "chest X-ray image, Effusion."


def test_impression_then_findings_then_last_paragraph():
    assert text_of(MIMIC) == "AP view chest X-ray image, Cardiomegaly. Effusion."
    without = MIMIC.replace("IMPRESSION", "RECOMMENDATION")
    assert text_of(without).endswith("The heart is enlarged. There is a pleural effusion. No pneumothorax.")
    prompt = report_prompt("History of cough.\n\nEffusion.", modality="cxr")
    assert (prompt.text, prompt.section) == ("chest X-ray image, Effusion.", "")
    assert prompt.notices == ("The report has no IMPRESSION or FINDINGS header: only its last paragraph is used.",)
    assert report_prompt("IMPRESSION:\nFINDINGS: mass", modality="cxr").section == "findings"


def test_the_comparison_says_nothing_of_this_view():
    assert text_of("COMPARISON: PA view of last year. FINDINGS: Mass.") == "chest X-ray image, Mass."


def test_identifiers_and_markers_never_reach_a_prompt():
    report = "IMPRESSION:  Since ___ ,\n effusion  is larger . Dr. Keller was told at 3:10 p.m. The XXXX are intact."
    assert text_of(report) == "chest X-ray image, Effusion is larger."


def test_a_report_of_people_alone_is_refused():
    with pytest.raises(ReportError, match="nothing that describes the image"):
        report_prompt("INDICATION: cough\nIMPRESSION: Dr. Keller was told.", modality="cxr")


def test_a_view_alone_is_a_prompt_with_a_notice():
    prompt = report_prompt("AP view.", modality="cxr")
    assert "names no finding" in prompt.notices[0]


@pytest.mark.parametrize("report", ["", "  \n ", "___", "..."])
def test_an_empty_report_is_refused(report):
    with pytest.raises(ReportError, match="the report is empty"):
        report_prompt(report, modality="cxr")


def test_an_indication_alone_is_refused():
    with pytest.raises(ReportError, match="holds INDICATION, but nothing that describes the image"):
        report_prompt("INDICATION: cough", modality="cxr")


def test_a_long_report_is_cut_after_a_sentence_with_a_notice():
    report = "IMPRESSION: The heart is enlarged. There is an effusion. There is a mass."
    prompt = report_prompt(report, modality="cxr", max_chars=62)
    assert prompt.text == "chest X-ray image, The heart is enlarged."
    assert prompt.notices == ("The report is longer than the model reads: 1 of its 3 sentences are used.",)


def test_tokens_limit_like_characters():
    prompt = report_prompt(
        "Mass seen. Fluid seen.", modality="cxr", count_tokens=lambda text: len(text.split()), max_tokens=5
    )
    assert prompt.text == "chest X-ray image, Mass seen."
    assert len(prompt.notices) == 1


def test_a_long_first_sentence_is_cut_between_words():
    prompt = report_prompt("effusion " * 50, modality="cxr", max_chars=40)
    assert prompt.text == "chest X-ray image, effusion effusion"
    assert "only its beginning is used" in prompt.notices[0]


def test_a_limit_without_room_is_refused():
    with pytest.raises(ReportError, match="leaves no room"):
        report_prompt("Effusion.", modality="cxr", max_chars=5)


def test_half_a_token_limit_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="belong together"):
        report_prompt("Effusion.", modality="cxr", max_tokens=5)


@given(st.text(max_size=200), st.sampled_from(["cxr", "fundus"]), st.integers(min_value=60, max_value=120))
def test_any_text_gives_a_prompt_within_its_limit_or_one_clear_error(report, modality, max_chars):
    try:
        prompt = report_prompt(report, modality=modality, max_chars=max_chars)
    except ReportError:
        return
    assert len(prompt.text) <= max_chars
    assert "\n" not in prompt.text
    assert "chest X-ray image" in prompt.text or "fundus photograph" in prompt.text


@given(st.lists(st.sampled_from(["heart", "enlarged", "no", "effusion", "left."]), min_size=1, max_size=12))
def test_sections_lose_no_word(words):
    half = len(words) // 2
    text = f"{' '.join(words[:half])}\nIMPRESSION: {' '.join(words[half:])}"
    assert " ".join(split_sections(text).values()).split() == words
