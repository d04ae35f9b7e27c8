"""A study's folder read back: its answer, its page without scripts or a network, and every way it can be damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.finished_study import read_finished_study
from tests.evaluate.told import invented

PAGE = "<!doctype html>\n<html><head><title>Study</title></head><body>Answer</body></html>"


def write_study(folder: Path, page: str = PAGE, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    told = invented()
    told["primary"]["judge_sha256"] = "ab" * 32
    (folder / "comparison.json").write_text(json.dumps({**told, **changes}))
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder


def test_the_answer_names_effect_interval_seeds_judge_and_date(tmp_path: Path) -> None:
    study = read_finished_study(write_study(tmp_path))
    assert study.name == "invented"
    assert study.question == "Does <b>alignment</b> help?"
    answer = " ".join(study.answers)
    assert "arra helped" in answer
    assert "95% interval over 5 training seeds" in answer
    assert study.facts["Judge"].startswith("efficientnet_lite2, weights ")
    assert study.facts["Training seeds"] == "5 for each arm"
    assert study.facts["Date"] == "2026-01-02"


def test_the_page_gets_a_policy_before_anything_else_of_it(tmp_path: Path) -> None:
    page = read_finished_study(write_study(tmp_path)).page
    assert page.startswith("<!doctype html>")
    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert "default-src 'none'" in page
    assert page.endswith("<body>Answer</body></html>")


@pytest.mark.parametrize("version", [0, 2, None, "<script>alert(1)</script>" * 9])
def test_another_format_version_is_a_short_sentence(tmp_path: Path, version: Any) -> None:
    with pytest.raises(EvaluationError, match="this program reads 1: run arra-med compare") as told:
        read_finished_study(write_study(tmp_path, format_version=version))
    assert len(str(told.value)) < 250 + len(str(tmp_path))


@pytest.mark.parametrize("change", [{"primary": None}, {"primary": {}}, {"settings": []}, {"begun": 5}])
def test_a_damaged_comparison_is_a_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="comparison.json: is damaged"):
        read_finished_study(write_study(tmp_path, **change))


def test_missing_and_unreadable_files_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is no folder; give one that arra-med compare wrote"):
        read_finished_study(tmp_path / "missing")
    with pytest.raises(EvaluationError, match="comparison.json: is not there"):
        read_finished_study(tmp_path)
    folder = write_study(tmp_path)
    (folder / "report.html").write_bytes(b"\xff\xfe")
    with pytest.raises(EvaluationError, match="report.html: is no UTF-8 text"):
        read_finished_study(folder)
    (folder / "report.html").unlink()
    with pytest.raises(EvaluationError, match="report.html: is not there"):
        read_finished_study(folder)
    (folder / "comparison.json").write_text("[]")
    with pytest.raises(EvaluationError, match="format version None"):
        read_finished_study(folder)
    (folder / "comparison.json").write_text("{")
    with pytest.raises(EvaluationError, match="comparison.json: is damaged"):
        read_finished_study(folder)


def test_a_page_without_a_head_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="report.html: is no page that arra-med compare"):
        read_finished_study(write_study(tmp_path, page="<script>alert(1)</script>"))
