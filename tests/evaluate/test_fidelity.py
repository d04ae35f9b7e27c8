"""The whole command on a tiny bundle: figures, reports, guards, interruptions and bad input."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arra_med.cli import main
from arra_med.config import ConfigError, load_config, shipped_config
from arra_med.corpus.contents import image_contents
from arra_med.corpus.folds import PatientFold
from arra_med.encoders.provenance import Exposure, ImageContent, ImageContents
from arra_med.errors import EncoderError, EvaluationError, OverlapError
from arra_med.evaluate import fidelity, held_out
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.fidelity import measure_fidelity
from arra_med.evaluate.fidelity_settings import FidelityConfig
from arra_med.evaluate.held_out import held_out_studies, require_fair_judge
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.models.bundle import ModelBundle
from tests.corpus.tiny_studies import SPEC
from tests.evaluate.tiny_evaluation import write_studies
from tests.evaluate.tiny_judges import TinyJudge, smooth_images

JUDGE = "efficientnet_lite2"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    write_studies(tmp_path / "studies")
    return tmp_path / "studies"


@pytest.fixture(autouse=True)
def _tiny_parts(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> TinyJudge:
        if name == "rad-dino":
            raise EncoderError("encoder microsoft/rad-dino is not in the local Hugging Face cache")
        return TinyJudge()

    monkeypatch.setattr(fidelity, "load_encoder", load)
    monkeypatch.setattr(fidelity, "find_bundle", lambda name, modality: Path(name))
    monkeypatch.setattr(fidelity.ModelBundle, "load", lambda folder, device: bundle)


def config(studies: Path, **changes: Any) -> FidelityConfig:
    values: dict[str, Any] = {
        "studies": studies,
        "bundle": "tiny",
        "judges": (JUDGE,),
        "diversity": {"prompts": 2, "images": 2},
        "device": "cpu",
        **changes,
    }
    return FidelityConfig.model_validate(values)


def folder_of_images(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{number:03}.png")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_is_judged_and_an_absent_judge_is_listed(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = measure_fidelity(config(studies, judges=(JUDGE, "rad-dino")), out)
    assert json.loads((out / "fidelity.json").read_text()) == json.loads(json.dumps(result))
    (judged,) = result["judges"]
    assert (judged["judge"], judged["num_dims"], judged["rows"][0]["metric"]) == ("tiny-judge", 8, "frechet_8")
    by_metric = {row["metric"]: row for row in judged["rows"]}
    assert judged["torch_fidelity"]["frechet_distance"] == pytest.approx(
        by_metric["frechet_full_width"]["value"], rel=1e-3
    )
    assert judged["torch_fidelity"]["precision"] == pytest.approx(by_metric["precision"]["value"])
    assert [told["judge"] for told in result["missing_judges"]] == ["rad-dino"]
    assert result["held_out"] == {
        "split": "validation",
        "sources": [],
        "num_images": 40,
        "num_patients": 20,
        "num_repeated_left_out": 0,
    }
    assert result["diversity"]["generated"]["num_groups"] == 2
    assert result["diversity"]["real"]["num_groups"] == 2
    assert "the held-out patient" not in str(result["unrecorded"])
    assert any(
        "what images tiny-judge learned from is not recorded" in told for told in result["unrecorded"]["tiny-judge"]
    )


def test_reports_name_what_is_synthetic_and_the_judge_and_hold_no_report(studies: Path, tmp_path: Path) -> None:
    measure_fidelity(config(studies, judges=(JUDGE, "rad-dino"), pictures=3), tmp_path / "out")
    for name in ("fidelity.md", "fidelity.html"):
        text = (tmp_path / "out" / name).read_text()
        for words in (
            SYNTHETIC_NOTICE,
            "tiny-judge",
            "extrapolation",
            "microsoft/rad-dino is not in",
        ):
            assert words in text
        for words in ("Pleural effusion", "hash2", "nih_cxr14/img"):
            assert words not in text
    page = (tmp_path / "out" / "fidelity.html").read_text()
    assert page.count("<img ") == 9
    assert "real (NIH Clinical Center)" in page
    assert "| tiny-judge | frechet_8 (primary) |" in (tmp_path / "out" / "fidelity.md").read_text()


def test_an_interrupted_run_goes_on_and_says_the_same(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_fidelity(config(studies), tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(fidelity, "torch_fidelity_scores", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            measure_fidelity(config(studies), tmp_path / "cut")
    assert not (tmp_path / "cut" / "fidelity.json").exists()
    kept = files_of(tmp_path / "cut")
    monkeypatch.setattr("arra_med.evaluate.features.judged_features", _interrupt)  # features were kept
    assert measure_fidelity(config(studies), tmp_path / "cut") == whole
    assert kept.items() <= files_of(tmp_path / "cut").items()


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_another_run_is_refused_and_nothing_overwritten(studies: Path, tmp_path: Path) -> None:
    measure_fidelity(config(studies), tmp_path / "out")
    before = files_of(tmp_path / "out")
    changes: tuple[dict[str, Any], ...] = ({"seed": 1}, {"rules": {"guidance_scale": 1.0}}, {"num_images": 33})
    for change in changes:
        with pytest.raises(EvaluationError, match="holds a run with another settings; nothing was overwritten: choose"):
            measure_fidelity(config(studies, **change), tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_a_folder_of_real_like_images_beats_a_brighter_one(studies: Path, tmp_path: Path) -> None:
    values = {}
    for name, brightness in (("near", 0), ("far", 30)):
        folder = folder_of_images(tmp_path / name, smooth_images(45, 5, brightness))
        result = measure_fidelity(config(studies, bundle=None, images=folder), tmp_path / f"out_{name}")
        values[name] = result["judges"][0]["rows"][0]
        assert result["pixel_distance"] is None
        assert result["bundle"] is None
    assert values["near"]["value"] < values["far"]["value"] / 10
    assert values["far"]["interval"]["low"] > values["near"]["interval"]["high"]
    assert values["far"]["reconstruction_floor"] is values["far"]["excess"] is None
    assert values["far"]["num_images"] == 40  # as many as there are real ones


def test_what_drew_a_folder_gives_it_a_floor(studies: Path, tmp_path: Path) -> None:
    measure_fidelity(config(studies), tmp_path / "drawn")
    again = measure_fidelity(config(studies, images=tmp_path / "drawn" / "images"), tmp_path / "again")
    drawn = json.loads((tmp_path / "drawn" / "fidelity.json").read_text())
    assert again["judges"][0]["rows"][0]["excess"] == drawn["judges"][0]["rows"][0]["excess"]


def test_folders_that_cannot_be_judged_are_refused(studies: Path, tmp_path: Path) -> None:
    images = smooth_images(40, 5)

    def refused(folder: Path, message: str) -> None:
        with pytest.raises(EvaluationError, match=message):
            measure_fidelity(config(studies, bundle=None, images=folder), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds 0 PNG or JPEG images and at least 32 are needed: give more")
    refused(folder_of_images(tmp_path / "tiny", images[:5]), "holds 5 PNG or JPEG images and at least 32 are needed")
    refused(tmp_path / "nowhere", "is no folder; give one that holds images")
    mixed = folder_of_images(tmp_path / "mixed", images)
    Image.fromarray(smooth_images(1, 1, size=20)[0, 0]).save(mixed / "other.png")
    refused(mixed, "squares of one size are required, found 40 of 16 x 16, 1 of 20 x 20")
    large = folder_of_images(tmp_path / "large", smooth_images(40, 5, size=20))
    refused(large, r"holds images \(1, 20, 20\), and the study set's are 16 px: a judge sees what resizing")
    corrupt = folder_of_images(tmp_path / "corrupt", images)
    (corrupt / "007.png").write_bytes((corrupt / "007.png").read_bytes()[:50])
    (corrupt / "secret name.png").write_bytes(b"no image")
    with pytest.raises(
        EvaluationError,
        match=r"2 of 41 images cannot be read \(.*\), in the order of names the files number 8, 41: make",
    ) as told:
        measure_fidelity(config(studies, bundle=None, images=corrupt), tmp_path / "out")
    assert "secret" not in str(told.value)


def test_features_that_are_not_finite_end_the_run(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "load_encoder", lambda name: TinyJudge(factor=float("nan")))
    with pytest.raises(EvaluationError, match="40 of 40 rows of the tiny-judge features hold NaN or infinity"):
        measure_fidelity(config(studies), tmp_path / "out")
    assert not (tmp_path / "out" / "fidelity.json").exists()


def test_a_teacher_cannot_judge_whatever_its_name(
    studies: Path, tmp_path: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {"name": "another name", "sha256": TinyJudge().fingerprint}
    taught = dataclasses.replace(bundle, info=bundle.info.model_copy(update={"training": {"teachers": [teacher]}}))
    monkeypatch.setattr(fidelity.ModelBundle, "load", lambda folder, device: taught)
    with pytest.raises(OverlapError, match="tiny-judge cannot judge: weights .* of judge and the teacher another name"):
        measure_fidelity(config(studies), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "3 of its 3 training images are among the 40 of the generator's training images"),
        ("validation", "3 of its 3 training images are among the 40 of the held-out images"),
    ],
)
def test_a_judge_that_knows_the_images_cannot_judge(
    split: Any, message: str, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = fidelity.StudySet.open(studies).select(split=split).dataset.select(range(3))
    known = tuple(sorted(ImageContent(row["view_sha256"], "", "") for row in rows))
    exposure = Exposure("in-house judge", frozenset({"weights"}), ImageContents(known, SPEC, "key"))
    monkeypatch.setattr(held_out, "encoder_exposure", lambda encoder, name: exposure)
    with pytest.raises(OverlapError, match=message):
        measure_fidelity(config(studies), tmp_path / "out")


def test_a_judge_of_other_patients_of_the_train_split_can_judge(
    studies: Path, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = fidelity.StudySet.open(studies)
    chosen = held_out_studies(opened, "validation")

    def guard(fold: int, study_set_sha256: str) -> list[str]:
        training = {"study_set_sha256": study_set_sha256, "settings": {"fold": {"index": 0, "count": 2}}}
        seen = image_contents(opened.select(split="train", fold=PatientFold(index=fold, count=2)))
        exposure = Exposure("in-house judge", frozenset({"weights"}), seen)
        monkeypatch.setattr(held_out, "encoder_exposure", lambda encoder, name: exposure)
        contents = image_contents(chosen.studies, chosen.rows)
        return require_fair_judge(
            TinyJudge(), JUDGE, opened, contents, bundle.info.model_copy(update={"training": training})
        )

    assert guard(1, opened.content_sha256) == []
    for fold, trained_on in ((0, opened.content_sha256), (1, "another study set")):
        with pytest.raises(OverlapError, match="training images are among the .* of the generator's training images"):
            guard(fold, trained_on)


def test_a_held_out_patient_in_training_is_an_error_and_a_repeated_picture_is_left_out(tmp_path: Path) -> None:
    write_studies(tmp_path / "patient", patient_id="hash3")
    with pytest.raises(OverlapError, match="1 patients of the validation images are in the training split"):
        held_out_studies(fidelity.StudySet.open(tmp_path / "patient"), "validation")
    write_studies(tmp_path / "plain")
    plain = fidelity.StudySet.open(tmp_path / "plain")
    whole = held_out_studies(plain, "validation")
    first = held_out_studies(plain, "validation", num_images=10)
    assert [record.image_id for record in first.records] == [record.image_id for record in whole.records[:10]]
    assert np.array_equal(first.views, whole.views[:10])
    with pytest.raises(EvaluationError, match="split train is what models learned from"):
        held_out_studies(plain, "train")


def test_a_picture_that_stands_twice_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_studies(tmp_path / "studies")
    studies = fidelity.StudySet.open(tmp_path / "studies")
    pairs = {"nih_cxr14/img50": "nih_cxr14/img3", "nih_cxr14/img60": "nih_cxr14/img61"}
    monkeypatch.setattr(fidelity.StudySet, "duplicates", property(lambda self: pairs))
    chosen = held_out_studies(studies, "validation")
    assert chosen.num_repeated == 3
    assert not {record.image_id for record in chosen.records} & {*pairs, *pairs.values()}


def test_too_few_studies_and_mistyped_judges_are_named(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"0 validation images of sources openi and 32 are needed"):
        measure_fidelity(config(studies, sources=("openi",)), tmp_path / "out")
    with pytest.raises(EvaluationError, match=r"40 validation images of sources \(any\) and 50 are needed"):
        measure_fidelity(config(studies, num_images=50), tmp_path / "out")
    with pytest.raises(EvaluationError, match="there are 12 images on a side and at least 32 are needed"):
        measure_fidelity(config(studies, num_images=12), tmp_path / "out")
    with pytest.raises(EncoderError, match="'efficientnet_lite9' is neither a known name nor an existing folder"):
        measure_fidelity(config(studies, judges=(JUDGE, "efficientnet_lite9")), tmp_path / "out")
    with pytest.raises(EvaluationError, match="no judge can be loaded: encoder microsoft/rad-dino is not in the local"):
        measure_fidelity(config(studies, judges=("rad-dino",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["fidelity.yaml", "chexgenbench.yaml"])
def test_shipped_configs_load_and_say_what_they_measure(name: str) -> None:
    loaded = load_config(shipped_config(name), FidelityConfig)
    assert (loaded.protocol is not None) == (name == "chexgenbench.yaml")
    if loaded.protocol:
        assert loaded.precision_recall_neighbours == 5
        assert "wraps around" in loaded.protocol.not_measured["pixel distance as published"]


def test_a_config_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("studies: here\nbundel: mini\n")
    with pytest.raises(ConfigError, match="bundel: unknown key; did you mean 'bundle'"):
        load_config(tmp_path / "bad.yaml", FidelityConfig)
    (tmp_path / "bad.yaml").write_text("studies: here\n")
    with pytest.raises(ConfigError, match="give bundle, images, or both"):
        load_config(tmp_path / "bad.yaml", FidelityConfig)


def test_the_command_prints_each_metric(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of_images(tmp_path / "drawn", smooth_images(40, 5))
    words = ["evaluate", "fidelity", "--studies", studies, "--images", folder, "--judge", JUDGE, "--judge", "rad-dino"]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--out", str(tmp_path / "out"), "--set", "num_dims=4", "--device", "cpu"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "tiny-judge frechet_4: " in told
    assert "missing: encoder microsoft/rad-dino is not in" in told
    assert "research use only" in told


def test_the_default_feature_is_what_the_judge_offers(studies: Path, tmp_path: Path) -> None:
    result = measure_fidelity(config(studies), tmp_path / "out")
    whole = held_out_studies(fidelity.StudySet.open(studies), "validation")
    assert result["judges"][0]["feature"] == "mean"
    assert result["judges"][0]["width"] == judged_features(TinyJudge(), whole.views).shape[1]
