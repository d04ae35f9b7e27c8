"""A tiny corpus made by the project's own commands: 24 generated X-ray-like images of 12 patients, 16 tokens each."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from arra_med.corpus.features import extract_features
from arra_med.corpus.ingest import ingest
from arra_med.corpus.tokenize import tokenize
from arra_med.imaging.view import CanonicalView
from arra_med.records.manifest import write_manifest
from arra_med.records.study import StudyRecord
from arra_med.tokens.vq import VQConfig, VQTokenizer

SIZE_PX = 32
NUM_IMAGES = 24


class TinyData(NamedTuple):
    """Folders of each stage."""

    studies: Path
    tokenizer: Path
    corpus: Path
    features: Path


def write_source(folder: Path) -> Path:
    """Writes PNG files with a manifest; brightness and a bar depend on the label."""
    records = []
    for number in range(NUM_IMAGES):
        effusion = number % 2 == 1
        rng = np.random.default_rng(number)
        pixels = rng.integers(60, 120, (SIZE_PX, SIZE_PX), dtype=np.uint8)
        pixels[-12:] += 120 * effusion
        path = folder / f"image{number}.png"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        records.append(
            StudyRecord(
                image_id=f"tiny/{number}",
                patient_id=f"patient-{number // 2}",
                modality="cxr",
                view="PA",
                age_group="adult",
                path=str(path),
                report="PA chest radiograph.",
                report_kind="from_labels",
                labels=("Effusion",) if effusion else ("No Finding",),
                source="nih_cxr14",
                licence="open",
                redistributable=True,
                patient_known=True,
                attribution="made in a test",
                split="train" if number < 16 else "validation",
            )
        )
    write_manifest(records, folder / "studies.csv")
    return folder / "studies.csv"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Study set, tokenizer (untrained), corpus and teacher features of the tiny images."""
    root = tmp_path_factory.mktemp("tiny")
    os.environ["ARRA_MED_KEY_FILE"] = str(root / "key")
    ingest(
        write_source(root / "source"),
        root / "studies",
        CanonicalView(modality="cxr", size_px=SIZE_PX),
        workers=0,
        progress=False,
    )
    torch.manual_seed(0)
    config = VQConfig(size_px=SIZE_PX, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 4))
    VQTokenizer(config).save_pretrained(root / "tokenizer")
    tokenize(root / "studies", root / "tokenizer", root / "corpus", views=2, progress=False)
    teacher = timm.create_model("test_vit", pretrained=False, num_classes=0)
    save_for_hf(teacher, str(root / "teacher"), safe_serialization=True)
    extract_features(
        root / "studies",
        f"timm:{root / 'teacher'}",
        root / "features.parquet",
        views=2,
        kinds=("cls", "mean"),
        progress=False,
    )
    return TinyData(root / "studies", root / "tokenizer", root / "corpus", root / "features.parquet")
