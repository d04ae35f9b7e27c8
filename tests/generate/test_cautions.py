import pytest

from arra_med.generate.cautions import label_cautions

COUNTS = {"effusion": 400, "pneumothorax": 12, "pneumonia": 5, "viral pneumonia": 700, "hernia": 1, "normal": 900}


def test_a_rare_finding_and_an_absent_one_get_a_caution_in_order():
    found = label_cautions("PA view chest X-ray image, pneumothorax. Small nodules and effusion.", "cxr", COUNTS)
    assert found == (
        "Only 12 training images were labelled with pneumothorax: the picture may not show it well.",
        "No training image was labelled with nodule: the picture may not show it.",
    )


@pytest.mark.parametrize(
    "text",
    [
        "No pneumothorax.",
        "Effusion without pneumothorax or hernia.",
        "Viral pneumonia.",  # frequent, although plain pneumonia is not
        "Lungs are clear, pleural effusion.",
        "Negative for pneumonia, pneumothorax and hiatal hernia.",
    ],
)
def test_denied_and_frequent_findings_get_none(text: str):
    assert label_cautions(text, "cxr", COUNTS) == ()


def test_a_denial_ends_with_its_sentence_or_at_a_but():
    expected = ("Only 1 training image was labelled with hernia: the picture may not show it well.",)
    assert label_cautions("No effusion. Hiatal hernia.", "cxr", COUNTS) == expected
    assert label_cautions("No effusion but a hiatal hernia", "cxr", COUNTS) == expected


def test_synonyms_count_as_the_finding():
    assert "pneumothorax" in label_cautions("Air in the pleural space.", "cxr", COUNTS)[0]


def test_unknown_counts_give_no_caution():
    assert label_cautions("Pneumothorax.", "cxr", {}) == ()
    assert label_cautions("Glaucoma.", "fundus", {"normal": 5})[0].startswith("No training image")
