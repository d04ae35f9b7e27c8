import pytest
from hypothesis import given
from hypothesis import strategies as st

from arra_med.errors import ReportError
from arra_med.records.report import report_prompt
from arra_med.records.report_parts import (
    ACQUISITION,
    OTHER_PARAGRAPH,
    SCRUBBED,
    TOO_LONG,
    report_parts,
)

REPORT = """EXAMINATION: CHEST (PA AND LAT)

INDICATION: Cough and fever.

FINDINGS: The lungs are clear.

IMPRESSION:
1. Small left pleural effusion.
2. No pneumothorax.

NOTIFICATION: Discussed at length."""


def parts_of(report: str, **settings) -> dict[str, str]:
    prompt = report_prompt(report, modality="cxr", **settings)
    parts = report_parts(report, prompt)
    assert "".join(part.text for part in parts) == report
    return {part.text.strip(): part.reason for part in parts}


def test_the_section_that_is_read_is_told_from_the_others():
    found = parts_of(REPORT)
    read = " ".join(text for text, reason in found.items() if not reason)
    assert "Small left pleural effusion." in read
    assert "No pneumothorax." in read
    assert not any(words in read for words in ("Cough", "lungs", "Discussed", "CHEST"))
    reason_of = {word: reason for text, reason in found.items() for word in text.split()}
    assert reason_of["Cough"] == "why the image was taken, not what it shows"
    assert reason_of["lungs"] == "findings are read where there is no impression"


def test_sentences_that_do_not_fit_are_named():
    found = parts_of("FINDINGS: Effusion. Cardiomegaly. Pneumothorax.", max_chars=40)
    assert found["Cardiomegaly. Pneumothorax."] == TOO_LONG
    assert found["FINDINGS: Effusion."] == ""


def test_view_and_earlier_paragraphs_are_not_read():
    found = parts_of("An old remark.\n\nPA view. Cardiomegaly.")
    assert found == {"An old remark.": OTHER_PARAGRAPH, "PA view.": ACQUISITION, "Cardiomegaly.": ""}


def test_what_scrubbing_takes_out_is_marked_and_the_rest_of_the_sentence_is_not():
    found = parts_of("IMPRESSION: Effusion, stable since 03/04/2020. No pneumothorax.")
    assert found["since 03/04/2020."] == SCRUBBED
    assert found["No pneumothorax."] == ""


@given(st.text(alphabet="AIMPRESIONFDGS:.\n aeflnost0123", max_size=200))
def test_the_parts_are_the_report(text: str):
    try:
        prompt = report_prompt(text, modality="cxr")
    except ReportError:
        return
    assert "".join(part.text for part in report_parts(text, prompt)) == text


@pytest.mark.parametrize("report", ["word " * 5000, "IMPRESSION: " + "Effusion 1/2/2020. " * 3000])
def test_a_long_report_is_divided_too(report: str):
    prompt = report_prompt(report, modality="cxr", max_chars=100)
    parts = report_parts(report, prompt)
    assert any(part.reason == TOO_LONG for part in parts)
