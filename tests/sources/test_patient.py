import pytest

from arra_med.sources.patient import age_fields, sex_of, view_of


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("PA", ["PA", "pa", "POSTEROANTERIOR", "postero-anterior"]),
        ("AP", ["AP", "AP AXIAL", "AP_horizontal", "antero-posterior", "ANTEROPOSTERIOR"]),
        ("lateral", ["LATERAL", "LL", "RL", "L", "Lateral", "lateral", "left lateral", "XTABLE LATERAL"]),
        (None, ["", "EXCLUDE", "COSTAL", "AP LLD", "PA RLD", "LAO", "RPO", "SWIMMERS", "Frontal", "UNK"]),
    ],
)
def test_views_of_all_sources(view, words):
    assert {word: view_of(word) for word in words} == dict.fromkeys(words, view)


@pytest.mark.parametrize(("word", "sex"), [("M", "M"), ("Female", "F"), ("male", "M"), ("O", None), ("Unknown", None)])
def test_sexes_of_all_sources(word, sex):
    assert sex_of(word) == sex


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("58", {"age": 58, "age_group": "adult"}),
        ("062.0", {"age": 62, "age_group": "adult"}),
        ("017Y", {"age": 17, "age_group": "child"}),
        ("006M", {"age": 0.5, "age_group": "child"}),
        ("089Y", {"age": 89, "age_group": "adult"}),
        ("90", {"age": 90, "age_group": "adult"}),
        ("104", {"age": 90, "age_group": "adult"}),
        ("414", {}),
        ("", {}),
        ("-3", {}),
        ("nan", {}),
    ],
)
def test_ages_of_all_sources(text, fields):
    assert age_fields(text) == fields
