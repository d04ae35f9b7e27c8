"""`arra-med plan`: words, JSON, and mistakes."""

import json

import pytest

from arra_med.cli import main


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_a_plan_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "imagenet_111m_arra.yaml", "--gpus", "8", "--gpu", "a100-40"]
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert told.startswith("imagenet-111m-arra on 8 x NVIDIA A100 40 GB\n")
    assert "300.0 epochs" in told
    assert "\nfits " in told
    assert run(*words, "--mfu", "0.2", "--set", "batch_size=16", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sequences"], found["mfu"], found["num_gpus"]) == (256 * 1501368, 0.2, 8)


def test_mistakes_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "mimic_521_arra.yaml") == 2
    assert "did you mean mimic_512_arra.yaml" in capsys.readouterr().err
    assert run("plan", "mimic_512_arra.yaml", "--gpu", "h900") == 2
    assert "h900" in capsys.readouterr().err
    assert run("plan", "mimic_512_arra.yaml", "--gpus", "5") == 2
    assert "which 5 processes" in capsys.readouterr().err
