"""The stand-in for BioMedCLIP: two small open_clip towers over images and report wordings."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import CustomTextCLIP
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import save_file
from tokenizers import processors
from torch import Tensor
from torch.nn import functional as F

from arra_med.errors import StudySetError
from arra_med.imaging.view import CanonicalView, Modality
from arra_med.models.presets import train_text_tokenizer
from arra_med.records.study import StudyRecord
from arra_med.records.wording import NORMAL, bank_sentences, prompt_text
from arra_med.runs import atomic_file
from arra_med.training.clip_losses import UNKNOWN_LABELS, label_aware_contrastive_loss, matching_pairs
from arra_med.training.encoder_data import EncoderImages, LabelSet, finding_targets
from arra_med.training.encoder_metrics import aurocs_by_source, label_retrieval, macro_auroc
from arra_med.training.encoder_settings import ClipSettings, EncoderTrainConfig, TextTower, TimmTower, VitTower
from arra_med.training.encoder_task import (
    MEAN,
    STD,
    EncoderTask,
    batched,
    evaluation_batches,
    normalised,
    start_network,
)

_PAD, _EOS = "<pad>", "<eos>"
_MAX_SCALE = 100.0  # of the cosines, as in CLIP
_WORDINGS_OF_A_SET = 8


class ClipTask(EncoderTask):
    """Trains both towers with the label-aware contrastive loss.

    Raises:
        StudySetError: If the images are photographs, which have no report wordings.
        EncoderError: If the encoder to start from cannot be loaded.
        TrainingError: If it is another network.
    """

    network: Any  # open_clip's `CustomTextCLIP`
    label_source = "report wordings drawn from labels, and reports"
    uses_labels = True

    def __init__(
        self,
        config: EncoderTrainConfig,
        settings: ClipSettings,
        images: EncoderImages,
        spec: CanonicalView,
        vocabulary: dict[str, frozenset[str]],
        device: str,
    ) -> None:
        if spec.modality == "photo":
            raise StudySetError(
                "a clip encoder learns from report wordings, and photographs have none: train a classifier"
            )
        self.config, self.settings, self.images, self.spec = config, settings, images, spec
        self.vocabulary, self.device = vocabulary, device
        self.text_tokenizer = _text_tokenizer(settings.text, spec.modality)
        self.model_cfg = _model_cfg(settings, spec.size_px, self.text_tokenizer)
        towers = {key: self.model_cfg[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
        self.network = CustomTextCLIP(**towers).to(device)
        trunk, start_from = self.network.visual, None
        if isinstance(settings.image, TimmTower):
            trunk, start_from = trunk.trunk, settings.image.start_from
        self.initialisation, self.initialisation_sha256 = start_network(trunk, start_from)
        self._label_ids = _ids(images.label_sets)
        self.findings = sorted({name for labels in images.label_sets for name in labels or ()} - {NORMAL})

    def loss(self, images: Tensor, indices: Sequence[int], step: int) -> Tensor:
        """The label-aware contrastive loss of a batch; see `EncoderTask.loss`."""
        captions = [self._caption(index, step) for index in indices]
        image_embeddings = self.network.encode_image(normalised(images, 3), normalize=True).float()
        text_embeddings = self.network.encode_text(self._token_ids(captions), normalize=True).float()
        logits = self.network.logit_scale.float().exp().clamp(max=_MAX_SCALE) * image_embeddings @ text_embeddings.T
        label_ids = torch.tensor([self._label_ids[index] for index in indices], device=self.device)
        caption_ids = torch.tensor(_ids(captions), device=self.device)
        return label_aware_contrastive_loss(logits, *matching_pairs(label_ids, caption_ids))

    @torch.no_grad()
    def measure(self, held_out: EncoderImages) -> dict[str, Any]:
        """Retrieval of each image's own set of labels, and zero-shot AUROC of each finding against a normal wording."""
        self.network.eval()
        parts = [
            self.network.encode_image(normalised(batch, 3), normalize=True)
            for batch in evaluation_batches(held_out, self.device)
        ]
        embedded = batched(parts)
        known = [row for row, labels in enumerate(held_out.label_sets) if labels is not None]
        label_sets = sorted({labels for labels in held_out.label_sets if labels is not None})
        own = [label_sets.index(labels) for labels in held_out.label_sets if labels is not None]
        retrieval = label_retrieval(embedded[known] @ self._set_embeddings(label_sets).T, own) if known else {}
        finding_texts = self._set_embeddings([(finding,) for finding in self.findings])
        scores = embedded @ (finding_texts - self._set_embeddings([(NORMAL,)])).T
        targets = finding_targets(held_out, self.findings, self.vocabulary, self.config.absent_if_unlisted)
        aurocs = aurocs_by_source(scores, targets, self.findings, [record.source for record in held_out.records])
        self.network.train()
        headline = {f"macro_auroc/{source}": macro_auroc(rows) for source, rows in aurocs.items()}
        headline |= {name: value for name, value in retrieval.items() if name.endswith("at_1")}
        return {"headline": headline, "label_retrieval": retrieval, "zero_shot_auroc": aurocs}

    def save(self, folder: Path) -> None:
        """Writes open_clip's layout: configuration, weights, and the text tokenizer beside them."""
        preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_file(folder / HF_SAFE_WEIGHTS_NAME) as partial:
            save_file(state, partial)
        with atomic_file(folder / HF_CONFIG_NAME) as partial:
            text = json.dumps({"model_cfg": self.model_cfg, "preprocess_cfg": preprocess}, indent=2)
            partial.write_text(text + "\n", encoding="utf-8")
        self.text_tokenizer.save_pretrained(folder)

    def _caption(self, index: int, step: int) -> str:
        record = self.images.records[index]
        return prompt_text(record, random.Random(f"{self.config.seed}:{step}:{record.image_id}"))

    def _token_ids(self, texts: Sequence[str]) -> Tensor:
        encoded = self.text_tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.settings.text.context_tokens
        )
        return torch.tensor(encoded["input_ids"], device=self.device)

    def _set_embeddings(self, label_sets: Sequence[LabelSet]) -> np.ndarray:
        """Unit-length means over several wordings of each set of labels, (L, D)."""
        rows = []
        for labels in label_sets:
            record = StudyRecord(
                image_id="wording", patient_id="none", modality=self.spec.modality, labels=labels, source="wording"
            )
            draws = (random.Random(f"{labels}:{number}") for number in range(_WORDINGS_OF_A_SET))
            texts = self._token_ids([prompt_text(record, draw) for draw in draws])
            mean = self.network.encode_text(texts, normalize=True).float().mean(dim=0, keepdim=True)
            rows.append(F.normalize(mean, dim=-1))
        return batched(rows)


def _text_tokenizer(settings: TextTower, modality: Modality) -> Any:
    tokenizer = train_text_tokenizer(bank_sentences(modality), settings.vocab_size - 2)
    tokenizer.add_special_tokens({"pad_token": _PAD, "eos_token": _EOS})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_EOS}", special_tokens=[(_EOS, tokenizer.eos_token_id)]
    )
    return tokenizer


def _model_cfg(settings: ClipSettings, size_px: int, text_tokenizer: Any) -> dict[str, Any]:
    """Returns open_clip's configuration of both towers."""
    text = settings.text
    return {
        "embed_dim": settings.embed_dim,
        "custom_text": True,
        "vision_cfg": _vision_cfg(settings.image, size_px),
        "text_cfg": {
            "context_length": text.context_tokens,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "layers": text.num_layers,
            "heads": text.num_heads,
            "hf_tokenizer_name": "local",  # open_clip then reads the tokenizer that lies in this folder
            "pool_type": "eos",
            "pad_id": text_tokenizer.pad_token_id,
            "eos_id": text_tokenizer.eos_token_id,
        },
    }


def _vision_cfg(tower: VitTower | TimmTower, size_px: int) -> dict[str, Any]:
    if isinstance(tower, TimmTower):
        return {
            "timm_model_name": tower.model,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": size_px,
        }
    return {
        "image_size": size_px,
        "patch_size": tower.patch_px,
        "width": tower.width,
        "layers": tower.num_layers,
        "head_width": tower.head_width,
    }


def _ids(keys: Sequence[Any]) -> list[int]:
    """Numbers equal keys alike; `None` is unknown."""
    numbers: dict[Any, int] = {}
    return [UNKNOWN_LABELS if key is None else numbers.setdefault(key, len(numbers)) for key in keys]
