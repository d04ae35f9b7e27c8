"""A timm encoder whose head names findings: a judge that reads images, and one folder for both uses.

`config.json` of timm's layout holds the findings under `label_names`; writer and reader stand here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from arra_med.encoders.hub import display_name, read_json
from arra_med.encoders.timm_encoder import TimmEncoder, load_timm_encoder
from arra_med.errors import EncoderError
from arra_med.runs import atomic_folder

_CONFIG_FILE = "config.json"
_LABELS = "label_names"


@dataclass(frozen=True)
class FindingClassifier:
    """A multi-label classifier.

    Attributes:
        encoder: Its backbone, as any other frozen encoder.
        findings: Harmonised names, one for each output.
    """

    encoder: TimmEncoder
    findings: tuple[str, ...]

    @torch.no_grad()
    def logits(self, views: Tensor) -> Tensor:
        """Returns the log-odds of each finding.

        Args:
            views: (B, C, S, S) floating point in [0, 1]; C is 1 or 3.

        Returns:
            float32 (B, F), on the encoder's device.

        Raises:
            EncoderError: If `views` is not of that kind.
        """
        return self.encoder.network(self.encoder.preprocess(views)).float()


def save_finding_classifier(
    network: nn.Module,
    findings: Sequence[str],
    folder: Path,
    *,
    size_px: int,
    mean: float,
    std: float,
    model_args: dict[str, Any],
) -> None:
    """Writes a timm network and the findings that its outputs stand for, atomically.

    Args:
        network: With one output for each finding.
        findings: Their names.
        folder: Replaced.
        size_px: Side of its input.
        mean: Of each of the three channels, for pixels in [0, 1].
        std: Likewise.
        model_args: What timm has to be told to build it again.
    """
    told: Any = network
    told.pretrained_cfg = {
        **told.pretrained_cfg,
        "input_size": (3, size_px, size_px),
        "mean": (mean,) * 3,
        "std": (std,) * 3,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
    }
    with atomic_folder(folder) as partial:
        save_for_hf(
            told, str(partial), {_LABELS: list(findings)}, model_args=model_args or None, safe_serialization=True
        )


def load_finding_classifier(model: str) -> FindingClassifier:
    """Loads a classifier from a folder that `save_finding_classifier` wrote.

    Raises:
        EncoderError: If files are missing, damaged or do not fit, or the folder's network names no findings.
    """
    encoder = load_timm_encoder(model)
    names = read_json(Path(model).expanduser() / _CONFIG_FILE).get(_LABELS)
    num_outputs = getattr(encoder.network, "num_classes", 0)
    if not isinstance(names, list) or len(names) != num_outputs:
        raise EncoderError(
            f"{display_name(model)}: {_CONFIG_FILE} names {len(names) if isinstance(names, list) else 'no'} findings for "
            f"{num_outputs} outputs: give a classifier that arra-med encoder train wrote"
        )
    return FindingClassifier(encoder, tuple(str(name) for name in names))
