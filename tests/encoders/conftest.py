"""Tiny encoders in the layouts their libraries publish, with random weights, written once for all tests."""

import json
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor
from transformers import BertConfig, CLIPConfig, CLIPModel, ViTConfig, ViTImageProcessorPil, ViTModel

# The published open_clip_config.json of BioMedCLIP, with a tiny image tower and a small embedding.
BIOMEDCLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 160,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}
TINY_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def square_photo(name: str) -> Tensor:
    """Returns the middle square of a photograph that scikit-learn ships, (3, 427, 427) uint8."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, which ships the photographs, is missing")
    photo = torch.from_numpy(datasets.load_sample_image(name).copy()).permute(2, 0, 1)
    side = min(photo.shape[1:])
    top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
    return photo[:, top : top + side, left : left + side]


@pytest.fixture(scope="session")
def palace_photo() -> Tensor:
    """A palace by a lake, (3, 427, 427) uint8."""
    return square_photo("china.jpg")


@pytest.fixture(scope="session")
def flower_photo() -> Tensor:
    """A flower with many petals, (3, 427, 427) uint8."""
    return square_photo("flower.jpg")


@pytest.fixture(scope="session")
def views() -> Tensor:
    """Three different grayscale views, (3, 1, 64, 64) in [0, 1]."""
    return torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as timm publishes it."""
    folder = tmp_path_factory.mktemp("timm") / "tiny-vit"
    torch.manual_seed(1)
    save_for_hf(timm.create_model("test_vit", pretrained=False), str(folder), safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def transformers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as transformers publishes it."""
    folder = tmp_path_factory.mktemp("transformers") / "tiny-vit"
    torch.manual_seed(2)
    ViTModel(ViTConfig(**TINY_TOWER)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP, both towers, as transformers publishes it."""
    folder = tmp_path_factory.mktemp("transformers") / "tiny-clip"
    text = {**TINY_TOWER, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    del text["image_size"], text["patch_size"]
    torch.manual_seed(3)
    CLIPModel(CLIPConfig(text_config=text, vision_config=TINY_TOWER, projection_dim=16)).save_pretrained(folder)
    processor = {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def whole_biomedclip(tmp_path_factory: pytest.TempPathFactory) -> open_clip.CustomTextCLIP:
    """Both towers of a BioMedCLIP with random weights: a tiny ViT and a two-layer BERT."""
    bert = tmp_path_factory.mktemp("bert")
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertConfig(vocab_size=50, **tiny).save_pretrained(bert)
    config = BIOMEDCLIP_CONFIG["model_cfg"]
    text_cfg = {**config["text_cfg"], "hf_model_name": str(bert), "hf_model_pretrained": False}
    torch.manual_seed(4)
    return open_clip.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], text_cfg).eval()


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory, whole_biomedclip: open_clip.CustomTextCLIP) -> Path:
    """The tiny BioMedCLIP in the published layout: its text tower's configuration lies only on the hub."""
    folder = tmp_path_factory.mktemp("open_clip") / "tiny-biomedclip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(BIOMEDCLIP_CONFIG), encoding="utf-8")
    torch.save(whole_biomedclip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder
