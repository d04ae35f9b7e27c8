import pytest

from arra_med.errors import GenerationError
from arra_med.generate.request import GenerationRequest, request_from_settings
from arra_med.generate.sampling import SamplingRules


def test_flat_settings_equal_nested_ones():
    flat = request_from_settings(report="Effusion.", modality="cxr", view="PA", seed=3, guidance_scale=2.0, top_k=5)
    rules = SamplingRules(guidance_scale=2.0, top_k=5)
    assert flat == GenerationRequest(report="Effusion.", modality="cxr", view="PA", seed=3, rules=rules)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_images": 0}, "num_images is 0, it must be greater than or equal to 1"),
        ({"seed": -1}, "seed is -1, it must be greater than or equal to 0"),
        ({"modality": "ct"}, "modality is 'ct', it must be 'cxr', 'fundus' or 'photo'"),
        ({"view": "oblique"}, "view is 'oblique', it must be 'PA', 'AP' or 'lateral'"),
        ({"temperature": float("nan")}, "temperature is nan, it must be a finite number"),
        ({"top_k": 0, "top_p": 2.0}, "top_k is 0, .*; top_p is 2.0, it must be less than or equal to 1"),
        ({"steps": 4}, "steps is no setting of a generation request"),
        ({"laterality": "L"}, "an eye was given for a chest X-ray"),
        ({"modality": "fundus", "view": "PA"}, "a view was given for a fundus photograph"),
        ({"report": None}, "report is not valid: it must be a valid string"),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(settings: dict, sentence: str):
    with pytest.raises(GenerationError, match=sentence):
        request_from_settings(**{"report": "Effusion.", "modality": "cxr", **settings})


def test_report_text_is_in_no_message_and_no_repr():
    report = "Secret finding. " * 100_000
    with pytest.raises(GenerationError, match="report is not valid: it must be at most 1000000 characters") as caught:
        GenerationRequest(report=report, modality="cxr")
    assert "Secret" not in str(caught.value)
    assert "Secret" not in repr(GenerationRequest(report="Secret finding.", modality="cxr"))
