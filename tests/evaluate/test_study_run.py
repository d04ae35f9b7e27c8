"""A whole study at toy size: a planted effect is found and none is not, and whatever stops it, nothing is done twice."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from arra_med.cli import app
from arra_med.config import load_config
from arra_med.errors import ConfigError, EncoderError, EvaluationError, OverlapError
from arra_med.evaluate import drawing, study_run
from arra_med.evaluate.drawing import read_drawing
from arra_med.evaluate.frechet import frechet_distance
from arra_med.evaluate.site_export import site_moments
from arra_med.evaluate.site_moments import write_site_moments
from arra_med.evaluate.study_comparison import compare
from arra_med.evaluate.study_folder import claim_folder
from arra_med.evaluate.study_report import write_report
from arra_med.evaluate.study_run import Study
from arra_med.evaluate.study_samples import NUM_SAMPLES, sample_pairs
from arra_med.evaluate.study_settings import StudyConfig, StudyRun
from arra_med.evaluate.study_sites import read_sites
from arra_med.models.bundle import read_bundle_info
from arra_med.training.task import TrainingTask
from tests.evaluate.tiny_study import (
    TinyStudy,
    settings,
    study_config,
    tiny_records,
    write_classifier,
    write_studies,
)

pytestmark = pytest.mark.slow

RARELY = {"evaluate_every": 100, "checkpoint_every": 100}


def config_of(data: TinyStudy) -> StudyConfig:
    """A baseline that learns nothing, alignment of weight zero as treatment and control, and an arm that learns."""
    arms = settings(data)["arms"]
    learns = {"role": "treatment", "training": {"learning_rate": 3e-3, "steps": 100, "batch_size": 16, **RARELY}}
    control = {**arms["arra"], "role": "control", "teacher": f"permuted:{arms['arra']['teacher']}"}
    arms = {**arms, "learns": learns, "permuted": control}
    return study_config(data, arms=arms, seeds=[0, 1, 2], other_judges=["timm:nowhere/at/all"])


class StoppedError(Exception):
    """What stops a study in these tests."""


class Stops:
    """Stops a function once, at a chosen call; counts its calls."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
        self.calls, real = 0, getattr(owner, name)

        def stopping(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                raise StoppedError
            return real(*args, **kwargs)

        patch.setattr(owner, name, stopping)


@pytest.fixture(scope="module")
def ended(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A study that was stopped within a training and within a drawing, and went on each time."""
    out = tmp_path_factory.mktemp("study") / "out"
    config, said = config_of(tiny_study), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "SHARD_IMAGES", 8)
        steps = Stops(patch, TrainingTask, "forward", at=8)  # step 4 of the second training: after its checkpoint
        batches = Stops(patch, drawing, "_draw_batch", at=10)  # second shard of a test drawing, after four sweeps
        runs = Counter()
        real_train = study_run.train

        def counted(training: Any, folder: Path) -> Path:
            runs[training.name] += 1
            return real_train(training, folder)

        patch.setattr(study_run, "train", counted)
        for _ in range(2):
            with pytest.raises(StoppedError):
                Study(config, out, said.append).run()
        (out / "real" / "test_timm_judge.safetensors").write_bytes(b"features of an earlier format")
        study = Study(config, out, said.append)
        study.run()
        told = compare(study)
        Study(config, out, said.append).run()  # nothing is left to do
        counted_calls = {"runs": runs, "steps": steps.calls, "batches": batches.calls}
        yield {"study": study, "told": told, "said": said, **counted_calls}


def test_a_stopped_study_goes_on_and_does_nothing_twice(ended: dict[str, Any]) -> None:
    runs = ended["runs"]
    assert {name: count for name, count in runs.items() if count > 1} == {"tiny-arra-0": 2}
    assert len(runs) == 12
    # nine trainings of 4 steps and three of 100, the stopped step, and step 3 again after the checkpoint at step 2
    assert ended["steps"] == 9 * 4 + 3 * 100 + 1 + 1
    # four sweeps of 10 images in shards of 8, twelve drawings of 24, and the batch that was stopped
    assert ended["batches"] == 4 * 2 + 12 * 3 + 1
    begun = Counter(line for line in ended["said"] if " of 12)" in line)
    again = {"trainings: train_arra_0 (2 of 12)", "drawings: draw_test_plain_0 (1 of 12)"}
    assert {line for line, times in begun.items() if times > 1} == again
    assert not list(ended["study"].out.rglob("checkpoints"))


def test_an_arm_that_was_stopped_is_the_one_that_was_not(ended: dict[str, Any]) -> None:
    """Weight zero is bit-identical to the baseline; its first seed was stopped in training, the baseline's was not."""
    study = ended["study"]
    for seed in study.config.seeds:
        plain, arra = (study.bundle_folder(StudyRun(arm, seed)) / "model.safetensors" for arm in ("plain", "arra"))
        assert plain.read_bytes() == arra.read_bytes()
        plain_images, arra_images = (
            read_drawing(study.drawing_folder(StudyRun(arm, seed), "test")) for arm in ("plain", "arra")
        )
        assert np.array_equal(plain_images, arra_images)


def test_a_planted_effect_is_found_and_none_is_not(ended: dict[str, Any]) -> None:
    primary = ended["told"]["primary"]
    by_arm = {effect["arm"]: effect["reduction"] for effect in primary["effects"]}
    assert by_arm["arra"]["log_ratios"] == (0.0, 0.0, 0.0)
    assert by_arm["learns"]["low"] > 0
    tiers = {verdict["arm"]: verdict["tier"] for verdict in primary["verdicts"]}
    assert tiers["arra"] == "not shown to help"
    assert tiers["learns"] in ("helps", "matches the paper", "exceeds the paper")
    losses = ended["told"]["held_out_loss"]["differences"]
    assert losses["arra"]["estimate"] == 0
    assert losses["learns"]["high"] < 0


def test_the_file_holds_what_the_report_needs_and_no_folder(ended: dict[str, Any], tiny_study: TinyStudy) -> None:
    out = ended["study"].out
    text = (out / "comparison.json").read_text(encoding="utf-8")
    told = json.loads(text)
    assert told == json.loads(json.dumps(ended["told"]))
    assert "ynthetic" in told["notice"]
    assert "Research use only" in told["notice"]
    assert str(tiny_study.studies.parent) not in text
    assert str(out) not in text
    assert "patient" not in json.dumps(told["settings"])
    primary = told["primary"]
    assert (primary["judge"], primary["n"], primary["num_patients"], primary["num_dims"]) == ("timm:judge", 24, 12, 2)
    assert [set(row) for row in primary["per_seed"]] == [{"seed", "plain", "arra", "learns", "permuted"}] * 3
    floor = primary["floors"]["reconstruction_floor"]
    for row, excess in zip(primary["per_seed"], primary["excess_per_seed"], strict=True):
        assert excess["plain"] == pytest.approx(row["plain"] - floor)
    assert primary["teacher"] == {"arra": "timm:teacher", "permuted": "permuted:timm:teacher"}
    names = {"kid", "frechet_full_width", "cmmd", "precision", "recall", "density", "coverage"}
    assert {row["measure"] for row in told["secondary"]} == names
    assert {row["judge"] for row in told["secondary"]} == {"timm:judge"}
    assert told["guidance"]["plain"]["num_images"] == 10
    assert any("could not be loaded and did not judge" in note for note in told["notes"])
    assert told["compute"]["num_training_images"] == primary_training(tiny_study)
    assert [len(values) for values in told["compute"]["seconds_per_training"].values()] == [3, 3, 3, 3]


def test_anyone_can_compute_the_intervals_again_from_the_file(ended: dict[str, Any]) -> None:
    """As the documentation shows it, with scipy alone."""
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "arra_med" not in code
    out = ended["study"].out
    told = subprocess.run([sys.executable, "-c", code], cwd=out, check=True, capture_output=True, text=True).stdout
    primary = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["primary"]
    effects = [
        f"{effect['arm']} against {effect['against']}: {effect['reduction']['reduction']:.6f} "
        f"[{effect['reduction']['low']:.6f}, {effect['reduction']['high']:.6f}]"
        for effect in primary["effects"]
    ]
    assert len(effects) == 5
    detectable = f"smallest detectable reduction: {primary['detectable']['reduction']:.6f}"
    excess = [f"{arm} above the floor: {one['low']:.6f} to {one['high']:.6f}" for arm, one in primary["excess"].items()]
    assert len(excess) == 4
    assert told.splitlines() == [*effects, detectable, *excess]


def test_all_arms_and_seeds_share_the_tokenizer_and_so_the_floor(ended: dict[str, Any]) -> None:
    study = ended["study"]
    bundles = [read_bundle_info(study.bundle_folder(run)).training for run in study.config.runs()]
    assert len({training["tokenizer_sha256"] for training in bundles}) == 1
    for row in ended["told"]["secondary"]:
        assert set(row["excess"]) == (set(study.config.arms) if row["floors"] else set())
        for arm, excess in row["excess"].items():
            mean = np.mean([seed[arm] for seed in row["per_seed"]])
            assert excess["estimate"] == pytest.approx(mean - row["floors"]["reconstruction_floor"])


def primary_training(data: TinyStudy) -> int:
    config = config_of(data)
    return sum(r.split == "train" and config.training.fold.holds(r.patient_id) for r in tiny_records())


def test_another_study_is_refused_and_nothing_is_changed(ended: dict[str, Any], tiny_study: TinyStudy) -> None:
    out = ended["study"].out
    before = (out / "study.yaml").read_bytes()
    with pytest.raises(
        EvaluationError, match=r"holds a study with other settings \(num_dims, seeds\); nothing was chan"
    ):
        Study(config_of(tiny_study).model_copy(update={"num_dims": 3, "seeds": (0, 1)}), out, print)
    assert (out / "study.yaml").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(EvaluationError, match="is not empty and holds no study"):
        Study(config_of(tiny_study), tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_result_says_what_to_do(ended: dict[str, Any], tmp_path: Path) -> None:
    out = shutil.copytree(ended["study"].out, tmp_path / "study")
    seconds = out / "arms" / "plain" / "seed_0" / "run.json"
    seconds.write_text("{", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"run\.json: is damaged or cannot be read: delete it and start the same"):
        compare(Study(ended["study"].config, out, lambda _: None))
    (out / "arms" / "plain" / "guidance.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"guidance\.json: is not valid YAML"):
        Study(ended["study"].config, out, lambda _: None).guidance("plain")


def test_drawings_that_were_lost_are_drawn_again(ended: dict[str, Any], tmp_path: Path) -> None:
    out, said = shutil.copytree(ended["study"].out, tmp_path / "study"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "SHARD_IMAGES", 8)
        study = Study(ended["study"].config, out, said.append)
        gone, cut = (StudyRun(arm, 0) for arm in ("plain", "learns"))
        before = {run: study.drawn(run, "test") for run in (gone, cut)}
        said.clear()
        shutil.rmtree(study.drawing_folder(gone, "test"))
        os.truncate(sorted(study.drawing_folder(cut, "test").glob("*.parquet"))[1], 99)
        for run, images in before.items():
            assert np.array_equal(study.drawn(run, "test"), images)
    assert [line.partition(": ")[2] for line in said] == ["is not whole any more; drawing what is missing"] * 2


def test_settings_that_never_began_give_way(tiny_study: TinyStudy, tmp_path: Path) -> None:
    config, out = study_config(tiny_study), tmp_path / "study"
    with pytest.raises(EncoderError):
        Study(study_config(tiny_study, judge="timm:nowhere/at/all"), out, print)
    Study(config, out, print)
    assert load_config(out / "study.yaml", StudyConfig) == config
    with pytest.raises(EvaluationError, match=r"holds a study with other settings \(num_dims\)"):
        Study(config.model_copy(update={"num_dims": 3}), out, print)
    (out / "guards.json").unlink()
    (out / "teachers").mkdir()
    with pytest.raises(EvaluationError, match=r"holds a study with other settings \(num_dims\)"):
        Study(config.model_copy(update={"num_dims": 3}), out, print)


def test_another_study_that_takes_the_folder_at_the_same_time_is_noticed(
    tiny_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = study_config(tiny_study), tmp_path / "study"

    def taken(*_: Any) -> None:
        claim_folder(config.model_copy(update={"num_dims": 3}), out)

    monkeypatch.setattr(study_run, "require_wordings", taken)
    with pytest.raises(EvaluationError, match=r"holds a study with other settings \(num_dims\); nothing was changed"):
        Study(config, out, print)
    assert not (out / "guards.json").exists()


def test_a_judge_with_other_preprocessing_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    judge = shutil.copytree(tiny_study.judge, tmp_path / "judge")
    config, out = study_config(tiny_study._replace(judge=judge)), tmp_path / "out"
    Study(config, out, print)
    text = (judge / "config.json").read_text(encoding="utf-8")
    described = json.loads(text)
    described["pretrained_cfg"]["mean"] = [0.1, 0.2, 0.3]
    (judge / "config.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(EvaluationError, match="the judge's preprocessing changed since the study began; restore"):
        Study(config, out, print)
    guards = json.loads((out / "guards.json").read_text(encoding="utf-8"))
    del guards["seen"]["the judge's preprocessing"]
    (out / "guards.json").write_text(json.dumps(guards), encoding="utf-8")
    Study(config, out, print)  # begun by a program that did not look at it


def test_a_judge_or_corpus_that_changed_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    data = tiny_study._replace(
        judge=shutil.copytree(tiny_study.judge, tmp_path / "judge"),
        studies=shutil.copytree(tiny_study.studies, tmp_path / "studies"),
    )
    config, out = study_config(data), tmp_path / "out"
    Study(config, out, print)
    Study(config, out, print)
    shutil.rmtree(data.judge)
    shutil.copytree(tiny_study.teacher, data.judge)
    with pytest.raises(
        EvaluationError, match="judge changed since the study began; restore what it was, or begin a new"
    ):
        Study(config, out, print)
    shutil.rmtree(data.studies)
    write_studies(data.studies, tiny_records()[:-1])
    with pytest.raises(EvaluationError, match="comes from study set .*: tokenize the study set again"):
        Study(config, out, print)


def test_the_report_of_a_finished_study_shows_its_images(ended: dict[str, Any]) -> None:
    study = ended["study"]
    samples = sample_pairs(study)
    assert len(samples) == NUM_SAMPLES
    images = read_drawing(study.drawing_folder(StudyRun("learns", 0), "test"))
    for sample in samples:
        assert [picture.kind for picture in sample.pictures] == ["real", "reconstructed", *["synthetic"] * 4]
        assert np.array_equal(sample.pictures[-2].pixels, images[sample.image_seed - study.config.image_seed, 0])
        assert sample.is_prompt
    html = write_report(study.out, ended["told"], samples).read_text(encoding="utf-8")
    assert html.count("made in a test") >= 2 * NUM_SAMPLES
    assert "arra was not shown to help" in html
    assert "learns helped" in html
    assert "A fall is shown against permuted, too." in html
    assert (study.out / "plots" / "curves.png").is_file()


def test_a_finding_without_wordings_is_refused_before_anything_is_trained(
    ended: dict[str, Any], tmp_path: Path
) -> None:
    config = ended["study"].config.model_copy(update={"prompt_findings": ("pleural effusion",)})
    with pytest.raises(EvaluationError, match="names pleural effusion, for which there is no held-out wording"):
        Study(config, tmp_path / "study", print)


def test_sites_that_share_no_image_are_compared_as_if_their_images_were_in_one_set(
    ended: dict[str, Any], tmp_path: Path
) -> None:
    study: Study = ended["study"]
    views = study.real("test").views
    files = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for file, part in zip(files, (views[:10], views[10:]), strict=True):
        write_site_moments(site_moments(list(part), study.studies.spec, study.judge, public=True), file)
    drawn = study.drawn_features(study.judge, StudyRun("plain", 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "config", study.config.model_copy(update={"sites": tuple(files)}))
        sites = read_sites(study)
        assert sites is not None
        assert (sites.num_sites, sites.num_images) == (2, len(views))
        pooled = frechet_distance(study.real_features(study.judge, "test", study.real("test")), drawn)
        assert sites.distance(drawn) == pytest.approx(pooled, rel=1e-6)
        generated = site_moments(list(views), study.studies.spec, study.judge, public=True, generated=True)
        write_site_moments(generated, files[0])
        with pytest.raises(EvaluationError, match="holds moments of generated images"):
            read_sites(study)
        own = site_moments(list(views), study.studies.spec, study.judge, public=True)
        for told, other in (("feature", "cls"), ("preprocessing_sha256", "f" * 64)):
            info = own.info.model_copy(update={told: other})
            write_site_moments(replace(own, info=info), files[0])
            with pytest.raises(EvaluationError, match=f"has another {told} than this study's judge timm:judge: export"):
                read_sites(study)
    assert read_sites(study) is None


def test_a_study_with_controls_reads_its_images_and_audits_them(tiny_study: TinyStudy, tmp_path: Path) -> None:
    """All parts at once; the weights are so small that no arm differs from the baseline by more than luck."""
    block = {"weight": 1e-3, "layer": 1, "feature": "mean", "projector_width": 16}
    teacher = f"timm:{tiny_study.teacher}"
    arms = {
        "plain": {"role": "baseline"},
        "arra": {"role": "treatment", "teacher": teacher, "alignment": block},
        "other": {"role": "treatment", "teacher": f"random:{teacher}", "alignment": block},
        "permuted": {"role": "control", "control_of": "arra", "teacher": f"permuted:{teacher}", "alignment": block},
    }
    training = {**settings(tiny_study)["training"], "learning_rate": 1e-3, "evaluate_every": 4, "checkpoint_every": 4}
    in_house = write_classifier(tiny_study, tmp_path / "classifier", fold=1)
    parts = {"utility": True, "privacy": True, "prompt_findings": ["effusion"], "other_judges": [str(in_house)]}
    config = study_config(tiny_study, arms=arms, training=training, **parts)
    study = Study(config, tmp_path / "study", lambda _: None)
    told = compare(study)
    judges = {"timm:judge", "tiny classifier (in-house judge)"}
    assert {row["judge"] for row in told["agreement"]["rows"]} == judges
    assert {row["judge"] for row in told["secondary"]} == judges
    assert "other judges" in study.guards.seen
    assert str(in_house) not in json.dumps(told)
    assert not {verdict["tier"] for verdict in told["primary"]["verdicts"]} & {
        "helps",
        "matches the paper",
        "exceeds the paper",
    }
    assert told["primary"]["controls"] == {"arra": ["permuted"], "other": []}
    assert {row["arm"] for row in told["agreement"]["rows"]} == set(arms)
    assert set(told["utility"]) == {"plain", "arra", "other"}
    assert {row["arm"] for row in told["agreement"]["prompt_effect"]} == {"plain", "arra", "other"}
    assert all(row["num_seeds"] == 64 for row in told["agreement"]["prompt_effect"])
    assert "needs 299 held-out images" in told["privacy"]["copies"]["reason"]
    cosine = {row["arm"]: row["mean_cosine"] for row in told["teachers"]}
    assert cosine["permuted"] == pytest.approx(cosine["arra"], abs=1e-6)  # the same features, each at another image
    assert -1 <= cosine["other"] <= 1
    page = write_report(study.out, told, sample_pairs(study)).read_text(encoding="utf-8")
    assert "has no control with its own teacher" in page or "was not shown to help" in page
    for title in ("Teachers", "Agreement with the report", "Utility for training", "Privacy"):
        assert title in page


def test_an_in_house_judge_of_the_generators_patients_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    """By what it learned from, which its folder tells, whatever it is called."""
    near = write_classifier(tiny_study, tmp_path / "near", fold=0)
    config = study_config(tiny_study, other_judges=[str(near)])
    num = primary_training(tiny_study)
    message = (
        rf"tiny classifier \(in-house judge\) cannot judge: {num} of its {num} training images are among the {num}"
    )
    with pytest.raises(OverlapError, match=message):
        Study(config, tmp_path / "study", print)
    assert not (tmp_path / "study" / "guards.json").exists()


def test_an_in_house_judge_and_a_teacher_of_the_same_patients_are_refused(
    tiny_study: TinyStudy, tmp_path: Path
) -> None:
    teacher, judge = (write_classifier(tiny_study, tmp_path / name, fold=1) for name in ("teacher", "judge"))
    arms = settings(tiny_study)["arms"]
    arms["arra"]["teacher"] = str(teacher)
    with pytest.raises(
        OverlapError, match=r"cannot judge: weights or initialisation .* of its \d+ training images are"
    ):
        Study(study_config(tiny_study, arms=arms, other_judges=[str(judge)]), tmp_path / "study", print)


def test_a_judge_that_was_not_registered_is_guarded_and_named_so(
    ended: dict[str, Any], tiny_study: TinyStudy, tmp_path: Path
) -> None:
    study: Study = ended["study"]
    far, near = (write_classifier(tiny_study, tmp_path / name, fold) for name, fold in (("far", 1), ("near", 0)))
    with pytest.raises(OverlapError, match=r"tiny classifier \(in-house judge\) cannot judge: .* training images"):
        Study(study.config, study.out, print, later_judges=[str(near)])
    out, results = shutil.copytree(study.out, tmp_path / "study"), tmp_path / "results"
    options = ["--out", str(out), "--also-judge", str(far), "--page", str(results)]
    done = CliRunner().invoke(app, ["compare", str(out / "study.yaml"), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    name = "tiny classifier (in-house judge), not registered"
    assert {row["judge"] for row in told["secondary"]} == {"timm:judge", name}
    assert {row["judge"] for row in told["agreement"]["rows"]} == {"timm:judge", name}
    assert any(
        "what images timm:teacher learned from is not recorded: tiny classifier" in note for note in told["notes"]
    )
    for same in ("primary", "settings"):
        assert json.dumps(told[same]) == json.dumps(ended["told"][same])
    page = (results / "tiny.md").read_text(encoding="utf-8")
    assert f"## Secondary distances by {name}" in page
    assert "made in a test" in page
    assert sum(file.stat().st_size for file in results.iterdir()) < 600_000


def test_another_in_house_judge_is_refused_once_the_study_has_begun(tiny_study: TinyStudy, tmp_path: Path) -> None:
    folder = write_classifier(tiny_study, tmp_path / "classifier", fold=1)
    config, out = study_config(tiny_study, other_judges=[str(folder)]), tmp_path / "study"
    Study(config, out, print)
    Study(config, out, print)
    shutil.rmtree(folder)
    shutil.copytree(tiny_study.teacher, folder)
    with pytest.raises(EvaluationError, match="other judges changed since the study began"):
        Study(config, out, print)


def test_an_exploratory_study_leaves_the_test_images_alone(tiny_study: TinyStudy, tmp_path: Path) -> None:
    config = study_config(tiny_study, exploratory=True, seeds=[0])
    study = Study(config, tmp_path / "study", lambda _: None)
    assert {record.split for record in study.real("test").records} == {"validation"}
    told = compare(study)
    assert (told["primary"]["split"], told["primary"]["verdicts"]) == ("validation", [])
