"""Bundles: what is saved is what is opened, and a bundle that is not whole says so."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from arra_med.errors import BundleError
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.models.bundled import bundled, find_bundle
from arra_med.models.card import model_card
from arra_med.models.start import BundleStart, PretrainedStart, RandomStart, build_start
from arra_med.tokens.vq import VQConfig, VQTokenizer

TRAINING = {
    "teachers": [],
    "held_out": {"eval_image_token_loss": 3.25},
    "parameters": 100_000,
    "num_training_images": 24,
    "views_per_image": 2,
    "sequences": 80,
    "steps": 10,
    "settings": {"seed": 0},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    image_tokenizer = VQTokenizer(
        VQConfig(size_px=32, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 3))
    )
    start = build_start(
        RandomStart(preset="tiny", text_vocab_size=280),
        grid=image_tokenizer.grid,
        codebook_size=image_tokenizer.codebook_size,
        max_text_tokens=20,
        sentences=["Pleural effusion."],
    )
    info = BundleInfo(
        name="tiny",
        variant="finetuned",
        layout=start.layout,
        canonical_view=CanonicalView(modality="cxr", size_px=32),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={"nih_cxr14": ("NIH Clinical Center",)},
        label_counts={"effusion": 3, "normal": 20},
        training=TRAINING,
    )
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    ModelBundle.save(
        folder,
        model=start.model,
        text_tokenizer=start.text_tokenizer,
        image_tokenizer=image_tokenizer,
        info=info,
        card=model_card(info),
    )
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_bundle_opens_and_its_fingerprint_is_that_of_its_files(folder: Path, copy: Path) -> None:
    first, second = ModelBundle.load(folder), ModelBundle.load(copy)
    assert first.fingerprint == second.fingerprint
    assert first.info == second.info
    assert not first.model.training
    assert not any(parameter.requires_grad for parameter in first.model.parameters())


def test_only_safetensors_are_written(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]


@pytest.mark.parametrize(
    "part", ["bundle.json", "config.json", "tokenizer.json", "model.safetensors", "image_tokenizer/model.safetensors"]
)
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    (copy / part).unlink()
    with pytest.raises(BundleError, match=f"no complete model bundle, {part} missing"):
        ModelBundle.load(copy)


def test_a_damaged_part_is_one_sentence(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleError, match="cannot be read"):
        ModelBundle.load(copy)


def test_parts_of_two_bundles_are_noticed(copy: Path) -> None:
    other = VQConfig(size_px=32, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(5, 5))
    VQTokenizer(other).save_pretrained(copy / "image_tokenizer")
    with pytest.raises(BundleError, match="codebook_size is 25 in a part and 12"):
        ModelBundle.load(copy)


def test_another_format_is_refused(copy: Path) -> None:
    described = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**described, "format_version": 99}))
    with pytest.raises(BundleError, match="bundle format 99"):
        ModelBundle.load(copy)


def test_a_bundle_of_another_modality_is_refused(folder: Path) -> None:
    assert find_bundle(str(folder), "cxr") == folder
    with pytest.raises(BundleError, match="makes cxr images, fundus was asked for"):
        find_bundle(str(folder), "fundus")


def test_an_unknown_bundle_says_what_is_shipped() -> None:
    with pytest.raises(BundleError, match="no bundled arra model for mri"):
        bundled("mri")


def test_the_card_says_what_the_labels_cannot_teach(folder: Path) -> None:
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Research use only" in card
    assert "side, severity" in card
    assert "| effusion | 3 |" in card


def test_adapting_a_bundle_needs_its_own_codes(folder: Path) -> None:
    with pytest.raises(BundleError, match="tokenize the studies with this bundle's image_tokenizer"):
        build_start(BundleStart(path=folder), grid=(2, 2), codebook_size=12, max_text_tokens=20, sentences=[])


def test_a_model_that_is_not_at_hand_names_the_folder_option() -> None:
    with pytest.raises(BundleError, match=r"give start\.model the folder of a downloaded model"):
        build_start(
            PretrainedStart(model="no-one/no-such-model"),
            grid=(4, 4),
            codebook_size=12,
            max_text_tokens=20,
            sentences=[],
        )


def test_a_random_start_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone() -> None:
    settings = {"grid": (4, 4), "codebook_size": 12, "max_text_tokens": 20, "sentences": ["Pleural effusion."]}
    torch.manual_seed(1)
    first = build_start(RandomStart(preset="tiny"), **settings)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    second = build_start(RandomStart(preset="tiny"), **settings)
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])
