"""transformers models: every family's tokens are told apart, preprocessing is the library's, nothing is random."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, PretrainedConfig, ViTImageProcessorPil

from arra_med.encoders.transformers_encoder import load_transformers_encoder
from arra_med.errors import EncoderError

TOWER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SAM = {**TOWER, "output_channels": 16, "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8}
PROCESSOR = {"size": 32, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2}


@pytest.fixture
def broken(transformers_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny ViT, to be damaged."""
    return Path(shutil.copytree(transformers_folder, tmp_path / "broken"))


def saved(config: PretrainedConfig, folder: Path) -> str:
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("config", "grid", "patch_width", "cls_width"),
    [
        (transformers.Dinov2Config(**TOWER), (4, 4), 32, 32),
        (transformers.Dinov2WithRegistersConfig(**TOWER, num_register_tokens=4), (4, 4), 32, 32),
        (transformers.CLIPVisionConfig(**TOWER, intermediate_size=64), (4, 4), 32, 32),
        (transformers.SiglipVisionConfig(**TOWER, intermediate_size=64), (4, 4), 32, 32),
        (transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), (4, 4), 16, None),
        (
            transformers.SwinConfig(
                image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
            ),
            (8, 8),
            16,
            None,
        ),
        (transformers.SamVisionConfig(**SAM), (4, 4), 16, None),
    ],
    ids=lambda value: value.model_type if isinstance(value, PretrainedConfig) else None,
)
def test_every_family_s_tokens_are_told_apart(
    config: PretrainedConfig,
    grid: tuple[int, int],
    patch_width: int,
    cls_width: int | None,
    tmp_path: Path,
    views: Tensor,
) -> None:
    encoder = load_transformers_encoder(saved(config, tmp_path))
    features = encoder(views)
    assert features.grid == grid
    assert features.patch.shape == (3, grid[0] * grid[1], patch_width)
    assert (None if features.cls is None else features.cls.shape[1]) == cls_width
    assert features.mean.isfinite().all()


def test_features_are_transformers_own(transformers_folder: Path, views: Tensor) -> None:
    encoder = load_transformers_encoder(str(transformers_folder))
    model = AutoModel.from_pretrained(transformers_folder).eval()
    with torch.no_grad():
        tokens = model(pixel_values=encoder.preprocess(views)).last_hidden_state
    features = encoder(views)
    assert torch.equal(features.get("cls"), tokens[:, 0])
    assert torch.equal(features.patch, tokens[:, 1:])
    assert encoder.name == "transformers:tiny-vit"


def test_cls_of_a_clip_is_its_projected_embedding(clip_folder: Path, views: Tensor) -> None:
    encoder = load_transformers_encoder(str(clip_folder))
    model = AutoModel.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor([[1, 5, 2]]), pixel_values=encoder.preprocess(views), attention_mask=torch.ones(1, 3)
        )
    features = encoder(views)
    assert (encoder.width("cls"), encoder.width("trunk-cls")) == (16, 32)
    unit = torch.nn.functional.normalize(features.get("cls"), dim=-1)
    torch.testing.assert_close(unit, torch.nn.functional.normalize(output.image_embeds, dim=-1))
    assert not any("text" in name for name in encoder.state_dict())


def test_the_image_tower_of_a_whole_sam_is_found(tmp_path: Path, views: Tensor) -> None:
    config = transformers.SamConfig(
        vision_config=SAM,
        prompt_encoder_config={"hidden_size": 16, "image_size": 32, "patch_size": 8},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 16, "iou_head_hidden_dim": 16},
    )
    encoder = load_transformers_encoder(saved(config, tmp_path))
    assert encoder(views).patch.shape == (3, 16, 16)
    assert not any("mask_decoder" in name for name in encoder.state_dict())


def test_preprocessing_is_transformers_own(transformers_folder: Path, palace_photo: Tensor) -> None:
    encoder = load_transformers_encoder(str(transformers_folder))
    processor = ViTImageProcessorPil.from_pretrained(transformers_folder)
    expected = processor(Image.fromarray(palace_photo.permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"][0]
    difference = (encoder.preprocess(palace_photo[None] / 255)[0] - expected).abs()
    assert difference.max() <= 3 / 255 / min(encoder.preprocessing.std)
    assert difference.mean() <= 0.5 / 255 / min(encoder.preprocessing.std)


@pytest.mark.parametrize(
    ("changes", "size_px"),
    [
        ({"size": {"height": 16, "width": 24}}, (16, 24)),
        ({"size": {"longest_edge": 48}}, (48, 48)),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}, (32, 32)),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": False}, (40, 40)),
    ],
)
def test_the_whole_view_is_resized_to_the_network_s_input(
    changes: dict[str, object], size_px: tuple[int, int], broken: Path
) -> None:
    (broken / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **changes}), encoding="utf-8")
    assert load_transformers_encoder(str(broken)).preprocessing.size_px == size_px


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_mean": None}, r"names no image_mean and image_std"),
        ({"size": None}, r"names no input size"),
        ({"resample": 0}, r"asks for resample 0; only 2 \(bilinear\) and 3 \(bicubic\)"),
        ({"do_flip_channel_order": True}, r"asks for BGR channels"),
    ],
)
def test_preprocessing_that_cannot_be_met_is_refused(changes: dict[str, object], message: str, broken: Path) -> None:
    published = {key: value for key, value in {**PROCESSOR, **changes}.items() if value is not None}
    (broken / "preprocessor_config.json").write_text(json.dumps(published), encoding="utf-8")
    with pytest.raises(EncoderError, match=message):
        load_transformers_encoder(str(broken))


def test_a_missing_pooler_is_fine_and_changes_nothing(broken: Path, transformers_folder: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, broken / "model.safetensors", metadata={"format": "pt"})
    loaded = load_transformers_encoder(str(broken))
    assert loaded.fingerprint == load_transformers_encoder(str(transformers_folder)).fingerprint


def test_any_other_missing_tensor_is_refused(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 tensors of the image tower \(first: layernorm.weight\)"):
        load_transformers_encoder(str(broken))


def test_a_missing_projection_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 tensors of the image tower \(first: visual_projection.weight\)"):
        load_transformers_encoder(str(folder))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", r"has none of config.json"),
        ("preprocessor_config.json", r"has none of preprocessor_config.json, processor_config.json"),
        ("model.safetensors", r"has no readable weights: copy the published files there"),
    ],
)
def test_a_missing_file_is_named(file: str, message: str, broken: Path) -> None:
    (broken / file).unlink()
    with pytest.raises(EncoderError, match=message):
        load_transformers_encoder(str(broken))


def test_a_truncated_weight_file_is_refused(broken: Path) -> None:
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EncoderError, match=r"cannot be built from its files|has no readable weights"):
        load_transformers_encoder(str(broken))


def test_a_language_model_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    with pytest.raises(EncoderError, match=r"takes no pixels: choose a vision model"):
        load_transformers_encoder(saved(config, tmp_path))
