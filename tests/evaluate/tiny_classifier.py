"""A tiny classifier's folder as `arra-med encoder train` writes it, with what was measured of it."""

from pathlib import Path
from typing import Any

import timm
import torch

from arra_med.encoders.finding_classifier import load_finding_classifier, save_finding_classifier
from arra_med.encoders.provenance import EncoderProvenance, ImageContent, ImageContents, write_provenance
from arra_med.imaging.view import CanonicalView
from arra_med.training.encoder_metrics import write_measures

FINDINGS = ("effusion", "pneumothorax", "glaucoma")
_NETWORK = "resnet10t"


def auroc_row(finding: str, auroc: float | None, num_positive: int) -> dict[str, Any]:
    verdict = "estimable" if num_positive >= 30 else "not estimable"
    return {
        "finding": finding,
        "num_positive": num_positive,
        "num_negative": 92,
        "auroc": auroc,
        "verdict": verdict,
    }


def write_classifier(out: Path, *, kind: str = "classifier", name: str = "tiny judge", spoil: bool = False) -> Path:
    """Writes `out/encoder` and `out/held_out.json`; `spoil` puts NaN into the last layer. Returns the encoder's folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(_NETWORK, num_classes=len(FINDINGS)).eval()
    if spoil:
        with torch.no_grad():
            network.get_classifier().bias[0] = float("nan")
    folder = out / "encoder"
    save_finding_classifier(network, FINDINGS, folder, size_px=32, mean=0.5, std=0.5, model_args={})
    weights = load_finding_classifier(str(folder)).encoder.fingerprint
    spec = CanonicalView(modality="cxr", size_px=32)
    images = ImageContents((ImageContent("view", "file", "label"),), spec, "key")
    provenance = EncoderProvenance(
        name=name,
        kind=kind,
        weights_sha256=weights,
        initialisation_sha256=("start",),
        initialisation="random",
        label_source="none",
        study_set_sha256="set",
        spec=spec,
        key_id="key",
        num_images=1,
        images_sha256=images.sha256,
        config={},
        steps=1,
        seed=0,
        device="cpu",
        versions={},
    )
    write_provenance(folder, provenance, images)
    rows = {
        "all sources": [auroc_row("effusion", 0.95, 60)],
        "kermany_pneumonia": [auroc_row("effusion", None, 0)],
        "nih_cxr14": [auroc_row("effusion", 0.77, 16), auroc_row("pneumothorax", 0.66, 40)],
    }
    write_measures(out, {"weights_sha256": weights, "held_out": {"validation": {"auroc": rows}}})
    return folder
