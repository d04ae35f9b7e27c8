import pytest

from arra_med.records.acquisition import stated_age_group, stated_laterality, stated_view, without_acquisition


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA view", "PA"),
        ("Postero-anterior radiograph", "PA"),
        ("CHEST (PA AND LAT)", "PA"),
        ("PA/Lat", "PA"),
        ("chest PA", "PA"),
        ("AP", "AP"),
        ("Semi-erect portable AP view", "AP"),
        ("Portable chest radiograph", "AP"),
        ("supine film", "AP"),
        ("AP paediatric chest radiograph", "AP"),
        ("lateral radiograph", "lateral"),
        ("PA and AP views: a PA view and an AP view", None),
        ("AP diameter increased", None),
        ("the main PA is enlarged", None),
        ("portable oxygen", None),
        ("lateral costophrenic recess", None),
        ("", None),
    ],
)
def test_view(text, view):
    assert stated_view(text) == view


@pytest.mark.parametrize(
    ("text", "eye"),
    [
        ("left eye", "L"),
        ("RIGHT EYE", "R"),
        ("OS", "L"),
        ("OD:", "R"),
        ("os", None),
        ("left eye and right eye", None),
        ("OU", None),
    ],
)
def test_eye(text, eye):
    assert stated_laterality(text) == eye


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("8-year-old", "child"),
        ("17 years old", "child"),
        ("18 year old boy", "adult"),
        ("70 y/o", "adult"),
        ("6-month-old", "child"),
        ("paediatric", "child"),
        ("a newborn", "child"),
        ("adult", "adult"),
        ("childhood asthma", None),
        ("2 weeks of fever", None),
    ],
)
def test_age_group(text, group):
    assert stated_age_group(text) == group


@pytest.mark.parametrize(
    ("sentence", "rest"),
    [
        ("PA view.", ""),
        ("Single frontal view of the chest.", ""),
        ("AP portable upright view of the chest.", ""),
        ("Colour fundus photograph of the right eye.", ""),
        ("Frontal chest radiograph demonstrates a mass.", "a mass."),
        ("PA view: a mass.", "a mass."),
        ("PA view, a mass.", "a mass."),
        ("Chest X-ray with a mass.", "a mass."),
        ("45-year-old man with cough.", "cough."),
        ("The chest is normal.", "The chest is normal."),
        ("Left and right lungs are clear.", "Left and right lungs are clear."),
        ("PA view is rotated.", "PA view is rotated."),
        ("Fluid in the chest.", "Fluid in the chest."),
    ],
)
def test_only_what_is_no_description_is_dropped(sentence, rest):
    assert without_acquisition([sentence]) == ([rest] if rest else [])
