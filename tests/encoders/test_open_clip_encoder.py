"""open_clip: BioMedCLIP's published layout loads offline, image tower only, equal to open_clip's own embedding."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from arra_med.encoders.open_clip_encoder import load_open_clip_encoder
from arra_med.errors import EncoderError

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_pytorch_model.bin"


@pytest.fixture
def broken(open_clip_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny BioMedCLIP, to be damaged."""
    return Path(shutil.copytree(open_clip_folder, tmp_path / "broken"))


def change_config(folder: Path, part: str, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    group = config
    for key in part.split("."):
        group = group[key]
    group.update(changes)
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def test_cls_is_encode_image_of_the_model_that_was_saved(
    open_clip_folder: Path, whole_biomedclip: nn.Module, views: Tensor
) -> None:
    encoder = load_open_clip_encoder(str(open_clip_folder))
    with torch.no_grad():
        expected = whole_biomedclip.encode_image(encoder.preprocess(views))
    features = encoder(views)
    assert torch.equal(features.get("cls"), expected)
    assert encoder.name == "open_clip:tiny-biomedclip"


def test_cls_is_encode_image_of_open_clip_s_own_loader(open_clip_folder: Path, tmp_path: Path, views: Tensor) -> None:
    # open_clip itself needs the text tower's configuration beside the published files.
    bert = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "vocab_size": 50, **bert}), encoding="utf-8"
    )
    config = json.loads((open_clip_folder / CONFIG).read_text(encoding="utf-8"))
    text_cfg = {**config["model_cfg"]["text_cfg"], "hf_model_name": str(tmp_path), "hf_model_pretrained": False}
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{open_clip_folder}", text_cfg=text_cfg)
    encoder = load_open_clip_encoder(str(open_clip_folder))
    with torch.no_grad():
        expected = model.eval().encode_image(encoder.preprocess(views))
    torch.testing.assert_close(encoder(views).get("cls"), expected)


def test_trunk_cls_becomes_cls_through_the_projection(open_clip_folder: Path, views: Tensor) -> None:
    encoder = load_open_clip_encoder(str(open_clip_folder))
    features = encoder(views)
    assert (encoder.width("cls"), encoder.width("trunk-cls"), encoder.width("patch")) == (24, 64, 64)
    torch.testing.assert_close(encoder.network.head(features.get("trunk-cls")), features.get("cls"))


def test_patches_are_the_trunk_s_normed_tokens(open_clip_folder: Path, views: Tensor) -> None:
    encoder = load_open_clip_encoder(str(open_clip_folder))
    with torch.no_grad():
        tokens = encoder.network.trunk.forward_features(encoder.preprocess(views))
    features = encoder(views)
    assert features.grid == (10, 10)
    torch.testing.assert_close(features.patch, tokens[:, 1:])
    torch.testing.assert_close(features.get("trunk-cls"), tokens[:, 0])


def test_preprocessing_is_open_clip_s_own(open_clip_folder: Path, palace_photo: Tensor) -> None:
    encoder = load_open_clip_encoder(str(open_clip_folder))
    published = json.loads((open_clip_folder / CONFIG).read_text(encoding="utf-8"))["preprocess_cfg"]
    settings = merge_preprocess_dict(PreprocessCfg(), {**published, "size": 160})
    transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    expected = transform(Image.fromarray(palace_photo.permute(1, 2, 0).numpy()))
    difference = (encoder.preprocess(palace_photo[None] / 255)[0] - expected).abs()
    assert difference.max() <= 3 / 255 / min(encoder.preprocessing.std)
    assert difference.mean() <= 0.5 / 255 / min(encoder.preprocessing.std)


def test_safetensors_are_preferred_and_give_the_same_encoder(broken: Path, open_clip_folder: Path) -> None:
    state = torch.load(broken / WEIGHTS, weights_only=True)
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in state.items()}, broken / "open_clip_model.safetensors"
    )
    (broken / WEIGHTS).write_bytes(b"not read")
    loaded = load_open_clip_encoder(str(broken))
    assert loaded.fingerprint == load_open_clip_encoder(str(open_clip_folder)).fingerprint


@pytest.mark.parametrize("tower", ["vit", "resnet", "timm_resnet"])
def test_other_image_towers_give_encode_image_too(tower: str, tmp_path: Path, views: Tensor) -> None:
    vision_cfg = {
        "vit": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
        "timm_resnet": {"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"},
    }[tower]
    text_cfg = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    model_cfg = {"embed_dim": 12, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    torch.manual_seed(0)
    model = open_clip.CLIP(12, vision_cfg, text_cfg).eval()
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}), encoding="utf-8")
    torch.save(model.state_dict(), tmp_path / WEIGHTS)
    encoder = load_open_clip_encoder(str(tmp_path))
    with torch.no_grad():
        expected = model.encode_image(encoder.preprocess(views))
    features = encoder(views)
    torch.testing.assert_close(features.get("cls"), expected)
    assert (features.trunk_cls is not None) == (tower == "vit")
    if tower == "vit":
        torch.testing.assert_close(features.get("trunk-cls") @ encoder.network.proj, expected)
        assert features.grid == (4, 4)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(file: str, broken: Path) -> None:
    (broken / file).unlink()
    with pytest.raises(EncoderError, match=rf"has none of .*{file}.*: copy the published files there"):
        load_open_clip_encoder(str(broken))


def test_one_missing_tensor_never_becomes_a_random_one(broken: Path) -> None:
    state = torch.load(broken / WEIGHTS, weights_only=True)
    del state["visual.head.proj.weight"]
    torch.save(state, broken / WEIGHTS)
    with pytest.raises(EncoderError, match=r"does not fit its open_clip_config.json \(Missing key.*head.proj.weight"):
        load_open_clip_encoder(str(broken))


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_damaged_weight_file_is_refused(content: bytes, broken: Path) -> None:
    (broken / WEIGHTS).write_bytes(content)
    with pytest.raises(EncoderError, match=r"cannot be read as weights: fetch it again"):
        load_open_clip_encoder(str(broken))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model_cfg.vision_cfg", {"timm_model_name": "no_such_net"}, r"cannot be built with the installed open_clip"),
        ("model_cfg.vision_cfg", {"no_such_key": 1}, r"cannot be built with the installed open_clip \(TypeError"),
        ("model_cfg", {"vision_cfg": None}, r"cannot be built with the installed open_clip \(TypeError"),
        ("preprocess_cfg", {"interpolation": "random"}, r"asks for interpolation 'random'; only bicubic and bilinear"),
        ("preprocess_cfg", {"mean": [0.5]}, r"names 1 channels for mean or std"),
    ],
)
def test_a_configuration_that_cannot_be_met_is_refused(
    part: str, changes: dict[str, object], message: str, broken: Path
) -> None:
    change_config(broken, part, **changes)
    with pytest.raises(EncoderError, match=message):
        load_open_clip_encoder(str(broken))


def test_a_configuration_of_another_kind_is_refused(broken: Path) -> None:
    (broken / CONFIG).write_text("{}", encoding="utf-8")
    with pytest.raises(EncoderError, match=r"has no model_cfg: give a model saved in open_clip's layout"):
        load_open_clip_encoder(str(broken))
