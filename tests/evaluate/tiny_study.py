"""A tiny study: 16 px images whose lower part shows their label, a tokenizer fitted to them, random teacher and judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from timm.models import save_for_hf

from arra_med.corpus.folds import fold_of
from arra_med.corpus.tokenize import tokenize
from arra_med.evaluate.study_settings import StudyConfig
from arra_med.records.study import Split, StudyRecord
from arra_med.tokens.vq import VQConfig, VQTokenizer
from arra_med.training.encoder_run import ENCODER_FOLDER, train_encoder
from arra_med.training.encoder_settings import EncoderTrainConfig
from tests.corpus.tiny_studies import write_records

NUM_PATIENTS: dict[Split, int] = {"train": 24, "validation": 5, "test": 12}


class TinyStudy(NamedTuple):
    """Folders of a study's input."""

    studies: Path
    tokenizer: Path
    corpus: Path
    teacher: Path
    judge: Path


def tiny_records() -> list[StudyRecord]:
    """Two images of each patient, one with an effusion."""
    return [
        StudyRecord(
            image_id=f"nih_cxr14/{split}{patient}-{number}",
            patient_id=f"{split}{patient}",
            modality="cxr",
            view="PA",
            age_group="adult",
            labels=("Effusion",) if number else ("No Finding",),
            report="PA chest radiograph.",
            report_kind="from_labels",
            source="nih_cxr14",
            licence="open",
            redistributable=True,
            patient_known=True,
            attribution="made in a test",
            split=split,
        )
        for split, num_patients in NUM_PATIENTS.items()
        for patient in range(num_patients)
        for number in range(2)
    ]


def tiny_view(record: StudyRecord) -> np.ndarray:
    """The lower part is bright with an effusion."""
    rng = np.random.default_rng(list(record.image_id.encode()))
    pixels = rng.integers(40, 90, (1, 16, 16), dtype=np.uint8)
    pixels[:, 8:] += np.uint8(150 if record.labels == ("Effusion",) else 0)
    return pixels


def write_studies(
    folder: Path,
    records: list[StudyRecord],
    view_of: Callable[[StudyRecord], np.ndarray] = tiny_view,
) -> Path:
    """Writes a finished study set of one shard."""
    return write_records(folder, records, [view_of(record) for record in records])


def write_encoder(folder: Path, seed: int) -> Path:
    """Writes a tiny vision transformer with random weights."""
    torch.manual_seed(seed)
    save_for_hf(timm.create_model("test_vit", pretrained=False, num_classes=0), str(folder), safe_serialization=True)
    return folder


def write_classifier(data: "TinyStudy", out: Path, fold: int) -> Path:
    """Trains an in-house judge on the train patients of one fold for four steps; returns its encoder's folder."""
    values = {
        "name": "tiny classifier (in-house judge)",
        "studies": data.studies,
        "encoder": {"kind": "classifier", "model": "test_resnet", "findings": ["effusion"]},
        "absent_if_unlisted": ["nih_cxr14"],
        "fold": {"index": fold, "count": 2},
        "steps": 4,
        "batch_size": 6,
        "warmup_steps": 1,
        "device": "cpu",
    }
    train_encoder(EncoderTrainConfig.model_validate(values), out)
    return out / ENCODER_FOLDER


def _fitted(tokenizer: VQTokenizer) -> VQTokenizer:
    """A hundred steps are enough to tell the two kinds of images apart."""
    images = torch.from_numpy(np.stack([tiny_view(record) for record in tiny_records()[:16]])).float() / 255
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(tokenizer(images), images).backward()
        optimizer.step()
    return tokenizer


def write_tiny_study(root: Path) -> TinyStudy:
    """Writes everything that a tiny study reads."""
    studies = write_studies(root / "studies", tiny_records())
    torch.manual_seed(0)
    config = VQConfig(
        size_px=16, downsampling=4, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 4)
    )
    _fitted(VQTokenizer(config)).save_pretrained(root / "tokenizer")
    tokenize(studies, root / "tokenizer", root / "corpus", progress=False)
    teacher, judge = write_encoder(root / "teacher", 1), write_encoder(root / "judge", 2)
    return TinyStudy(studies, root / "tokenizer", root / "corpus", teacher, judge)


def settings(data: TinyStudy, **changes: Any) -> dict[str, Any]:
    """Settings as a YAML file would hold them; `changes` replace whole keys."""
    alignment = {"weight": 0.0, "layer": 1, "feature": "mean", "projector_width": 16}
    values: dict[str, Any] = {
        "name": "tiny",
        "question": "Does a tiny teacher help?",
        "start": "random weights",
        "studies": str(data.studies),
        "training": {
            "name": "tiny",
            "corpus": str(data.corpus),
            "image_tokenizer": str(data.tokenizer),
            "start": {"kind": "random", "preset": "tiny", "text_vocab_size": 300},
            "max_text_tokens": 100,
            "fold": {"index": 0, "count": 2},
            "steps": 4,
            "batch_size": 4,
            "learning_rate": 1e-6,
            "warmup_steps": 0,
            "log_every": 1,
            "evaluate_every": 2,
            "checkpoint_every": 2,
            "device": "cpu",
            "bf16": False,
        },
        "arms": {
            "plain": {"role": "baseline"},
            "arra": {"role": "treatment", "teacher": f"timm:{data.teacher}", "alignment": alignment},
        },
        "seeds": [0, 1],
        "held_out": {"source": "nih_cxr14", "age_group": "adult"},
        "judge": f"timm:{data.judge}",
        "num_dims": 2,
        "judge_fold": {"index": 1, "count": 2},
        "guidance": {"scales": [1.0]},
        "utility": False,
        "privacy": False,
    }
    return {**values, **changes}


def study_config(data: TinyStudy, **changes: Any) -> StudyConfig:
    """The settings, checked."""
    return StudyConfig.model_validate(settings(data, **changes))


def patients_of_fold(index: int) -> list[str]:
    """The train patients of one of two folds."""
    names = [f"train{patient}" for patient in range(NUM_PATIENTS["train"])]
    return [name for name in names if fold_of(name, 2) == index]
