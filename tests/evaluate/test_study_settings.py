"""A study's settings: what is refused before anything runs, and that arms differ by what they say alone."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from arra_med.config import dump_config, load_config
from arra_med.evaluate.study_settings import HeldOutImages, StudyConfig, StudyRun
from tests.evaluate.tiny_study import TinyStudy, settings, study_config, tiny_records

DATA = TinyStudy(*(Path(name) for name in ("studies", "tokenizer", "corpus", "teacher", "judge")))
ARRA = settings(DATA)["arms"]["arra"]


def arms(**changes: Any) -> dict[str, Any]:
    return {"plain": {"role": "baseline"}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"arra": ARRA}}, "exactly one arm of role baseline"),
        ({"arms": arms(other={"role": "baseline"})}, "exactly one arm of role baseline"),
        ({"arms": arms(arra={"role": "treatment", "teacher": "biomedclip"})}, "both a teacher and an alignment"),
        ({"arms": {"plain": {**ARRA, "role": "baseline"}}}, "the baseline has no teacher and changes nothing"),
        ({"arms": {"plain": {"role": "baseline", "training": {"steps": 9}}}}, "the baseline has no teacher"),
        ({"arms": arms(more={"role": "treatment", "training": {"stepz": 9}})}, "stepz"),
        ({"arms": arms(more={"role": "treatment", "training": {"steps": 0}})}, "greater than 0"),
        (
            {"arms": arms(more={"role": "treatment", "training": {"fold": {}, "seed": 3}})},
            "arm more changes fold, seed of the training, which all arms share",
        ),
        ({"arms": arms(**{"../out": ARRA})}, "'../out' becomes a folder"),
        ({"seeds": [0]}, "one seed has no interval"),
        ({"seeds": [0, 1, 0]}, "a seed stands twice"),
        ({"judge_fold": {"index": 0, "count": 2}}, "judge_fold must be another fold"),
        ({"judge_fold": {"index": 1, "count": 3}}, "judge_fold must be another fold"),
        ({"num_dims": 65}, "less than or equal to 64"),
        ({"nickname": "x"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study_config(DATA, **changes)


def test_alignment_belongs_to_the_arms() -> None:
    block = {"teacher_features": "teacher.parquet"}
    values = settings(DATA)
    with pytest.raises(ValidationError, match="training.alignment belongs to the arms"):
        StudyConfig.model_validate({**values, "training": {**values["training"], "alignment": block}})


def test_arms_of_one_seed_differ_by_alignment_alone() -> None:
    config = study_config(DATA)
    for seed in config.seeds:
        plain = config.train_config(StudyRun("plain", seed), None).model_dump()
        arra = config.train_config(StudyRun("arra", seed), Path("features.parquet")).model_dump()
        assert {key for key in plain if plain[key] != arra[key]} == {"name", "alignment"}
        assert plain["alignment"] == ()
        (block,) = arra["alignment"]
        assert (block["teacher_features"], block["seed"], block["weight"]) == (Path("features.parquet"), seed, 0.0)
        assert (plain["seed"], plain["start"]["seed"]) == (seed, seed)


def test_seeds_of_one_arm_differ_by_their_seed_alone() -> None:
    config = study_config(DATA)
    first, second = (config.train_config(StudyRun("plain", seed), None).model_dump() for seed in (0, 1))
    assert {key for key in first if first[key] != second[key]} == {"name", "seed", "start"}
    assert {key for key in first["start"] if first["start"][key] != second["start"][key]} == {"seed"}


def test_an_exploratory_arm_changes_what_it_says() -> None:
    config = study_config(DATA, arms=arms(more={"role": "treatment", "training": {"steps": 9}}))
    plain, more = (config.train_config(StudyRun(arm, 0), None).model_dump() for arm in ("plain", "more"))
    assert {key for key in plain if plain[key] != more[key]} == {"name", "steps"}
    assert more["steps"] == 9


def test_an_arm_of_the_base_can_be_dropped() -> None:
    assert set(study_config(DATA, arms=arms(arra=ARRA, other=None)).arms) == {"plain", "arra"}


def test_runs_finish_one_seed_before_the_next() -> None:
    assert list(study_config(DATA).runs()) == [("plain", 0), ("arra", 0), ("plain", 1), ("arra", 1)]
    assert StudyRun("arra", 1).folder(Path("out")) == Path("out/arms/arra/seed_1")


def test_teachers_give_the_features_that_arms_ask_for() -> None:
    wide = {**ARRA, "alignment": {**ARRA["alignment"], "feature": "cls+mean"}}
    config = study_config(DATA, arms=arms(arra=ARRA, wide=wide))
    assert config.teacher_kinds(str(ARRA["teacher"])) == ("cls", "mean")
    assert config.teacher_kinds("another") == ()


def test_settings_survive_their_file(tmp_path: Path) -> None:
    config = study_config(DATA, other_judges=["efficientnet_lite0"], findings=["pleural effusion"])
    dump_config(config, tmp_path / "study.yaml")
    assert load_config(tmp_path / "study.yaml", StudyConfig) == config


def test_a_stratum_is_of_one_source_and_age_group() -> None:
    record = tiny_records()[0]
    assert HeldOutImages(source="nih_cxr14").holds(record)
    assert HeldOutImages(source="nih_cxr14", age_group="adult").holds(record)
    assert not HeldOutImages(source="nih_cxr14", age_group="child").holds(record)
    assert not HeldOutImages(source="openi").holds(record)
