import pytest

from arra_med.generate.cautions import label_cautions, qualifier_cautions

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


def test_sides_and_degrees_that_no_label_holds_are_named_once_for_each_kind():
    text = "PA view chest X-ray image, Large left effusion, mild. Small nodule on the right. Large heart, new."
    assert qualifier_cautions(text, "cxr", COUNTS) == (
        "No label of the training images tells the size of a finding: the picture need not follow “large” or “small”.",
        "No label of the training images tells the side of a finding: the picture need not follow “left” or “on the right”.",
        "No label of the training images tells how severe a finding is: the picture need not follow “mild”.",
        "No label of the training images tells change over time: the picture need not follow “new”.",
    )


def test_a_degree_that_is_a_labels_name_was_taught_if_images_had_it():
    npdr = "severe nonproliferative diabetic retinopathy"
    text = "left eye fundus photograph, Severe NPDR. Severe glaucoma."
    (caution,) = qualifier_cautions(text, "fundus", {npdr: 125, "glaucoma": 9})
    assert caution.endswith("the picture need not follow “severe”.")
    assert qualifier_cautions("left eye fundus photograph, Severe NPDR.", "fundus", {npdr: 125}) == ()
    assert qualifier_cautions("left eye fundus photograph, Severe NPDR.", "fundus", {"glaucoma": 9})


@pytest.mark.parametrize(
    "text",
    [
        "lateral view chest X-ray image, The lungs are clear. Heart size is normal.",
        "right eye fundus photograph",
        "PA view chest X-ray image, The left ventricle is normal.",
    ],
)
def test_what_the_template_says_is_no_side(text: str):
    assert qualifier_cautions(text, "fundus" if "eye" in text else "cxr", COUNTS) == ()


def test_a_report_of_which_the_labels_know_nothing_gets_one_sentence():
    (caution,) = label_cautions("PA view chest X-ray image, Pneumoperitoneum.", "cxr", COUNTS)
    assert caution.startswith("No label of the training images is a finding that this report names")
    for text in ("PA view chest X-ray image", "PA view chest X-ray image, No acute disease.", "The lungs are clear."):
        assert label_cautions(text, "cxr", COUNTS) == ()
    assert label_cautions("PA view chest X-ray image, Pneumoperitoneum.", "cxr", {}) == ()
