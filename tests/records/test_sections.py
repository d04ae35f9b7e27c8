import pytest

from arra_med.records.sections import split_sections

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___F with cough  // eval for pneumonia

 TECHNIQUE:  Single portable view.

 COMPARISON:  None.

 FINDINGS:

 The heart is enlarged.  There is a
 pleural effusion.

 No pneumothorax.

 IMPRESSION:

 1. Cardiomegaly.
 2. Effusion.

 NOTIFICATION:  Dr. ___ was told.
"""


def test_mimic_headers():
    sections = split_sections(MIMIC)
    assert set(sections) == {"technique", "indication", "comparison", "findings", "impression", "other"}
    assert sections["findings"].startswith("The heart is enlarged.")
    assert sections["findings"].endswith("No pneumothorax.")
    assert sections["impression"].split() == ["1.", "Cardiomegaly.", "2.", "Effusion."]
    assert sections["comparison"] == "None."
    assert sections["technique"] == "CHEST (PORTABLE AP)\n\nSingle portable view."
    assert "was told" in sections["other"]


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
def test_headers_in_any_case(spell):
    text = f"{spell('findings')}: heart big.\n{spell('impression')}: cardiomegaly."
    assert split_sections(text) == {"findings": "heart big.", "impression": "cardiomegaly."}


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("Pleural effusion.", {"": "Pleural effusion."}),
        ("", {}),
        ("IMPRESSION:", {}),
        ("PA view. Findings: pneumonia.", {"": "PA view.", "findings": "pneumonia."}),
        ("findings: a. impression: b.", {"findings": "a.", "impression": "b."}),
        ("heart enlarged IMPRESSION: cardiomegaly", {"": "heart enlarged", "impression": "cardiomegaly"}),
        ("IMPRESSION\nNormal.", {"impression": "Normal."}),
        ("Findings/Impression: Normal.", {"impression": "Normal."}),
        ("IMPRESSION: a.\nIMPRESSION: b.", {"impression": "a.\n\nb."}),
        ("REASON FOR EXAM: cough\r\nCONCLUSION: clear", {"indication": "cough", "impression": "clear"}),
        ("The clinical impression: is not a header", {"": "The clinical impression: is not a header"}),
        ("These findings are old.", {"": "These findings are old."}),
        # Headers of the section parser published with MIMIC-CXR.
        ("IMPRESSON: clear", {"impression": "clear"}),
        ("RECOMMENDATION(S): CT.\nCT FINDINGS: a", {"other": "CT.", "findings": "a"}),
        ("WET READ: a\nCONCLUSION: b", {"other": "a", "impression": "b"}),
        ("PFI: cough\nCHEST FINDINGS: a", {"indication": "cough", "findings": "a"}),
        ("CHEST, TWO VIEWS: Clear.", {"findings": "CHEST, TWO VIEWS: Clear."}),
        (
            "PORTABLE CHEST:\n\nINDICATION: a\nFINDINGS: b",
            {"technique": "PORTABLE CHEST:", "indication": "a", "findings": "b"},
        ),
        # Words of the text that look like headers.
        ("FINDINGS:\nLUNGS: clear\nHEART: normal", {"findings": "LUNGS: clear\nHEART: normal"}),
        ("FINDINGS: No acute\nfindings\nin this\nhistory", {"findings": "No acute\nfindings\nin this\nhistory"}),
    ],
)
def test_other_styles(text, sections):
    assert split_sections(text) == sections
