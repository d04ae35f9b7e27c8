"""Every shipped YAML is tested code: it loads, and what it describes can be built."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.config import load_config, shipped_config, shipped_folder
from arra_med.encoders.config import parse_encoder
from arra_med.evaluate.fidelity_settings import FidelityConfig
from arra_med.evaluate.study_settings import StudyConfig, StudyRun
from arra_med.imaging.view import CanonicalView, Modality
from arra_med.models.presets import PRESETS, random_llama
from arra_med.records.study import StudyRecord
from arra_med.records.wording import wording_bank
from arra_med.tokens.vq import VQTokenizer
from arra_med.training.alignment import decoder_blocks, resolve_layer
from arra_med.training.encoder_data import EncoderImages
from arra_med.training.encoder_run import build_task
from arra_med.training.encoder_settings import ClassifierSettings, EncoderTrainConfig
from arra_med.training.plan import make_plan
from arra_med.training.settings import TrainConfig
from arra_med.training.tokenizer_run import TokenizerTrainConfig

ENCODER_NAMES = {"cxr_clip_mini", "fundus_clip_mini", "cxr_classifier", "cxr_autoencoder"}
CONFIGS = sorted(shipped_folder("configs").rglob("*.yaml"))
PAPER = [path for path in CONFIGS if path.parent.name == "paper"]
TOKENIZERS = [path for path in CONFIGS if path.stem.endswith("tokenizer")]
ENCODERS = [path for path in CONFIGS if path.stem in ENCODER_NAMES]
STUDIES = [p for p in CONFIGS if p.stem.startswith("study") and p not in TOKENIZERS and "normals" not in p.stem]
EVALUATIONS = [path for path in CONFIGS if path.stem in ("fidelity", "chexgenbench")]
TRAININGS = [path for path in CONFIGS if path not in (*TOKENIZERS, *ENCODERS, *STUDIES, *EVALUATIONS)]


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.name)
def test_a_tokenizer_config_builds_its_tokenizer(path: Path) -> None:
    config = load_config(path, TokenizerTrainConfig)
    side = 8 if path.stem.startswith("study") else 16
    assert VQTokenizer(config.tokenizer).grid == (side, side)


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.name)
def test_an_evaluation_config_names_encoders_that_exist(path: Path) -> None:
    for name in load_config(path, FidelityConfig).judges:
        assert parse_encoder(name).kind


@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: path.name)
def test_an_encoder_config_builds_its_network(path: Path) -> None:
    config = load_config(path, EncoderTrainConfig)
    modality: Modality = "fundus" if path.stem.startswith("fundus") else "cxr"
    spec = CanonicalView(modality=modality, size_px=128)
    findings = config.encoder.findings if isinstance(config.encoder, ClassifierSettings) else ("effusion",)
    labels = (*((finding,) for finding in findings), ("normal",))
    records = [
        StudyRecord(image_id=str(i), patient_id=str(i), modality=modality, source="nih_rsna_normal", labels=names)
        for i, names in enumerate(labels)
    ]
    images = EncoderImages(
        tuple(range(len(records))), tuple(records), np.zeros((len(records), spec.channels, 128, 128), np.uint8), labels
    )
    views = torch.rand(len(records), spec.channels, 128, 128)
    task = build_task(config, spec, images, {}, "cpu")
    assert task.loss(views, range(len(records)), 0).isfinite()


def test_a_judge_and_a_teacher_train_on_different_folds() -> None:
    folds = {path.stem: load_config(path, EncoderTrainConfig).fold for path in ENCODERS}
    assert folds["cxr_clip_mini"].count == folds["cxr_classifier"].count == folds["cxr_autoencoder"].count == 2
    assert folds["cxr_clip_mini"].index == 0
    assert folds["cxr_classifier"].index == folds["cxr_autoencoder"].index == 1


def test_every_finding_of_the_chest_judge_has_wordings() -> None:
    config = load_config(shipped_config("cxr_classifier.yaml"), EncoderTrainConfig)
    assert isinstance(config.encoder, ClassifierSettings)
    assert set(config.encoder.findings) <= set(wording_bank("cxr").findings)


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.name)
def test_a_training_config_builds_its_model(path: Path) -> None:
    config = load_config(path, TrainConfig)
    if config.start.kind != "random":
        pytest.skip("its language model is downloaded; tests/models/test_start.py opens it where it is installed")
    model = random_llama(PRESETS[config.start.preset], 300, 64, config.start.seed)
    for layer in (layer for block in config.alignment for layer in block.layers):
        resolve_layer(layer, len(decoder_blocks(model)))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_a_study_keeps_its_judges_apart_and_compares_arms_that_differ_by_alignment_alone(path: Path) -> None:
    config = load_config(path, StudyConfig)
    teachers = [arm.teacher for arm in config.arms.values()]
    assert not any(teacher and config.judge in teacher for teacher in teachers)
    assert config.training.fold.index != config.judge_fold.index
    if not config.exploratory:
        assert len(config.seeds) >= 5
        assert {arm.role for arm in config.arms.values()} == {"baseline", "treatment", "control"}
        assert {"permuted", "random"} <= {str(teacher).partition(":")[0] for teacher in teachers}
    baseline = config.train_config(StudyRun(config.baseline, config.seeds[0]), None)
    for name in config.arms:
        arm = config.train_config(StudyRun(name, config.seeds[0]), Path("teacher.parquet"))
        assert arm.model_copy(update={"alignment": (), "name": baseline.name}) == baseline


def test_what_a_study_trains_on_is_the_fold_of_its_tokenizer_and_teacher() -> None:
    for modality in ("cxr", "fundus"):
        study = load_config(shipped_config(f"study_{modality}.yaml"), StudyConfig)
        tokenizer = load_config(shipped_config(f"study_{modality}_tokenizer.yaml"), TokenizerTrainConfig)
        teacher = load_config(shipped_config(f"{modality}_clip_mini.yaml"), EncoderTrainConfig)
        assert study.training.fold == tokenizer.fold == teacher.fold
        assert study.training.sources == tokenizer.sources


def test_arra_is_the_baseline_plus_one_block() -> None:
    baseline = load_config(shipped_folder("configs") / "mini_cxr_finetune.yaml", TrainConfig)
    arra = load_config(shipped_folder("configs") / "mini_cxr_arra.yaml", TrainConfig)
    assert baseline.alignment == ()
    assert len(arra.alignment) == 1
    assert arra.model_copy(update={"alignment": (), "name": baseline.name}) == baseline


PAPER_BASELINES = {
    "mimic_512_arra": "mimic_512_finetune",
    "mimic_512_arra_medsam": "mimic_512_finetune",
    "mimic_512_arra_clip_l": "mimic_512_finetune",
    "mimic_512_adapt_arra": "mimic_512_adapt_finetune",
    "mimic_512_adapt_arra_medsam": "mimic_512_adapt_finetune",
    "mimic_256_arra": "mimic_256_finetune",
    "mimic_256_adapt_arra": "mimic_256_adapt_finetune",
    "deepeyenet_arra": "deepeyenet_finetune",
    "deepeyenet_adapt_arra": "deepeyenet_adapt_finetune",
    "imagenet_111m_arra": "imagenet_111m_baseline",
    "imagenet_343m_arra": "imagenet_343m_baseline",
}


def test_every_arra_row_of_the_paper_has_a_baseline() -> None:
    paper = {path.stem for path in PAPER}
    assert set(PAPER_BASELINES) == {name for name in paper if "_arra" in name}
    assert set(PAPER_BASELINES) | set(PAPER_BASELINES.values()) == paper


@pytest.mark.parametrize("name", sorted(PAPER_BASELINES))
def test_an_arra_row_of_the_paper_is_its_baseline_plus_one_block(name: str) -> None:
    arra = load_config(shipped_config(f"{name}.yaml"), TrainConfig)
    baseline = load_config(shipped_config(f"{PAPER_BASELINES[name]}.yaml"), TrainConfig)
    assert arra.alignment
    assert not baseline.alignment
    assert arra.expected is not None
    assert arra.expected.teacher_width is not None
    without = {
        "alignment": baseline.alignment,
        "name": baseline.name,
        "expected": arra.expected.model_copy(update={"teacher_width": None}),
    }
    assert arra.model_copy(update=without) == baseline


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_a_row_of_the_paper_fits_eight_gpus(path: Path) -> None:
    plan = make_plan(load_config(path, TrainConfig), "h100", 8)
    assert plan.gpu_memory_gib is not None
    assert plan.memory.total < plan.gpu_memory_gib * 2**30
    wanted = {"imagenet_111m": (117e6, 300), "imagenet_343m": (350e6, 300)}.get(path.stem[:13], (7.01e9, 10))
    assert plan.model.parameters == pytest.approx(wanted[0], rel=0.005)
    assert plan.epochs == pytest.approx(wanted[1], rel=1e-3)
