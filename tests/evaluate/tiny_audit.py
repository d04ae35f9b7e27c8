"""A tiny study set with a report of its own for some images, its corpus, and bundles "trained" on it."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from arra_med.corpus.ingest import ingest
from arra_med.corpus.tokenize import Corpus, tokenize
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.start import RandomStart, build_start
from arra_med.records.manifest import write_manifest
from arra_med.records.study import StudyRecord
from arra_med.runs import write_json
from arra_med.tokens.vq import VQConfig, VQTokenizer

SIZE_PX, NUM_TRAIN, NUM_HELD_OUT = 32, 12, 100
OWN_REPORTS = {2: "Cardiomegaly.", 5: "Pneumothorax on the left."}


class TinyAudit(NamedTuple):
    """Folders of each stage."""

    studies: Path
    corpus: Path
    bundle: Path
    baseline: Path


def picture(seed: int) -> np.ndarray:
    """A smooth random picture, uint8 (S, S)."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE_PX, SIZE_PX)), 1.5)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


def write_bundle(folder: Path, tokenizer: Path, training: dict[str, Any], seed: int) -> Path:
    """Random weights behind the tokenizer of the corpus."""
    image_tokenizer = VQTokenizer.from_pretrained(tokenizer)
    start = build_start(
        RandomStart(preset="tiny", text_vocab_size=280, seed=seed),
        grid=image_tokenizer.grid,
        codebook_size=image_tokenizer.codebook_size,
        max_text_tokens=40,
        sentences=["Pleural effusion."],
    )
    info = BundleInfo(
        name=folder.name,
        variant="arra",
        layout=start.layout,
        canonical_view=CanonicalView(modality="cxr", size_px=SIZE_PX),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={},
        label_counts={},
        training=training,
    )
    parts = {"model": start.model, "text_tokenizer": start.text_tokenizer, "image_tokenizer": image_tokenizer}
    ModelBundle.save(folder, **parts, info=info, card="# tiny")
    return folder


def changed_bundle(bundle: Path, out: Path, **training: Any) -> Path:
    """A copy of a bundle that says something else about its training."""
    shutil.copytree(bundle, out)
    values = BundleInfo.model_validate_json((out / "bundle.json").read_text()).model_dump(mode="json")
    values["training"].update(training)
    write_json(out / "bundle.json", values)
    return out


@pytest.fixture(scope="session")
def tiny_audit(tmp_path_factory: pytest.TempPathFactory) -> TinyAudit:
    """12 training images, two with reports of their own, and 100 of other patients."""
    root = tmp_path_factory.mktemp("audit")
    records = []
    for number in range(NUM_TRAIN + NUM_HELD_OUT):
        path = root / f"{number}.png"
        Image.fromarray(picture(number)).save(path)
        records.append(
            StudyRecord(
                image_id=f"tiny/{number}",
                patient_id=f"patient-{number}",
                modality="cxr",
                view="PA",
                path=str(path),
                report=OWN_REPORTS.get(number, "Effusion."),
                report_kind="written",
                source="nih_cxr14",
                licence="open",
                redistributable=True,
                patient_known=True,
                attribution="made in a test",
                split="train" if number < NUM_TRAIN else "validation" if number % 2 else "test",
            )
        )
    write_manifest(records, root / "studies.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_KEY_FILE", str(root / "key"))
        spec = CanonicalView(modality="cxr", size_px=SIZE_PX)
        ingest(root / "studies.csv", root / "studies", spec, workers=0, progress=False)
    torch.manual_seed(0)
    shape = VQConfig(size_px=SIZE_PX, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 4))
    VQTokenizer(shape).save_pretrained(root / "tokenizer")
    tokenize(root / "studies", root / "tokenizer", root / "corpus", progress=False)
    info = Corpus.open(root / "corpus").info
    training = {
        "settings": {"seed": 0},
        "sequences": 3 * NUM_TRAIN,
        "study_set_sha256": info.study_set_sha256,
        "tokenizer_sha256": info.tokenizer_sha256,
    }
    bundles = [write_bundle(root / name, root / "tokenizer", training, s) for s, name in enumerate(("arra", "plain"))]
    return TinyAudit(root / "studies", root / "corpus", *bundles)
