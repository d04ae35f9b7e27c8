"""Chameleon's family: published folders, usable image logits, guided decoding with rows' ends, and folders that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, ChameleonForConditionalGeneration, LlamaConfig

from arra_med.errors import BundleError, GenerationError
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.models.chameleon import ChameleonForCausalLM
from arra_med.models.chameleon_checkpoint import ChameleonParts, read_chameleon
from arra_med.models.start import PretrainedStart, build_start
from tests.models import chameleon_reference as reference

SETTINGS: dict[str, Any] = {"grid": (4, 4), "codebook_size": 24, "max_text_tokens": 30}
GUIDANCE = 2.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "chameleon"
    reference.write_folder(path)
    return path


@pytest.fixture(scope="module", params=["plain", "lumina"])
def parts(request: pytest.FixtureRequest, folder: Path) -> ChameleonParts:
    found = read_chameleon(str(folder), image_layout=request.param, **SETTINGS)
    found.model.eval()
    return found


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("vision", [True, False], ids=["with vqmodel", "without vqmodel"])
def test_every_weight_of_the_decoder_is_kept_the_image_heads_included(vision: bool, tmp_path: Path) -> None:
    """The first implementation set the image rows of the head to zero."""
    reference.write_folder(tmp_path, vision=vision)
    published = weights_of(tmp_path)
    assert any(".vqmodel." in name for name in published) == vision
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    start = build_start(PretrainedStart(model=str(tmp_path)), **SETTINGS, sentences=[])
    found = start.model.state_dict()
    assert set(found) == {name for name in published if ".vqmodel." not in name}
    assert all(torch.equal(value, published[name]) for name, value in found.items())
    rows = start.layout.vocabulary.image_rows
    assert torch.equal(start.model.lm_head.weight[rows], published["lm_head.weight"][rows])
    assert bool((start.model.lm_head.weight[rows] != 0).any(dim=1).all())
    assert all(value.requires_grad for value in start.model.parameters())


def test_image_logits_are_those_that_transformers_hides(folder: Path, parts: ChameleonParts) -> None:
    theirs = ChameleonForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor([parts.layout.training_ids([40, 41], list(range(16)))[0]])
    with torch.no_grad():
        found = parts.model(ids)
        assert torch.equal(found.logits, theirs.lm_head(theirs.model(ids)[0]))
        hidden = theirs(ids).logits
        assert torch.allclose(parts.model(ids, logits_to_keep=2).logits, found.logits[:, -2:], atol=1e-5)
        loss = parts.model(ids, labels=ids).loss
    images = parts.layout.vocabulary.image_rows
    assert bool((hidden[..., images] == torch.finfo(torch.float32).min).all())
    others = [token for token in range(64) if token not in images]
    assert torch.equal(hidden[..., others], found.logits[..., others])
    expected = torch.nn.functional.cross_entropy(found.logits[0, :-1], ids[0, 1:])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_guided_decoding_equals_the_two_branches_run_separately_without_a_cache(parts: ChameleonParts) -> None:
    layout, model = parts.layout, parts.model
    order = layout.vocabulary.image_rows
    names = reference.names()
    texts = [[names["red"], names["bird"]], [names["effusion"]]]
    prompts = [layout.prompt_ids(text) for text in texts]
    rules = SamplingRules(temperature=0, guidance_scale=GUIDANCE)
    found = decode_image_tokens(model, layout, prompts, rules, [0, 1])
    for row, prompt in enumerate(prompts):
        drawn: list[int] = []
        behind: list[int] = []
        for step in range(16):
            if step and step % 4 == 0 and layout.row_end_id is not None:
                behind.append(layout.row_end_id)
            with torch.no_grad():
                conditional, unconditional = (
                    model(torch.tensor([start + behind])).logits[0, -1, order]
                    for start in (prompt, layout.unconditional_ids)
                )
            drawn.append(int((unconditional + GUIDANCE * (conditional - unconditional)).argmax()))
            behind.append(order[drawn[-1]])
        assert found[row].flatten().tolist() == drawn
    assert len(found.unique()) > 3
    assert not torch.equal(found[0], found[1])


def test_saved_and_opened_again_the_logits_are_equal(parts: ChameleonParts, tmp_path: Path) -> None:
    parts.model.save_pretrained(tmp_path)
    assert not any(".vqmodel." in name for name in weights_of(tmp_path))
    ids = torch.tensor([[0, 40, 30, 29, 4, 5, 6]])
    with torch.no_grad():
        expected = parts.model(ids).logits
        opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        assert isinstance(opened, ChameleonForCausalLM)
        assert torch.equal(opened(ids).logits, expected)
        theirs = ChameleonForConditionalGeneration.from_pretrained(tmp_path).eval()
        assert torch.equal(theirs.lm_head(theirs.model(ids)[0]), expected)


def test_lumina_prompts_are_the_sentence_that_its_weights_know(folder: Path) -> None:
    parts = read_chameleon(str(folder), image_layout="lumina", **SETTINGS)
    names = reference.names()
    ids = parts.layout.text_ids(parts.text_tokenizer, "a red bird")
    assert ids[0] == names["Generate"]
    assert ids[-4:] == [names[":"], names["a"], names["red"], names["bird"]]
    prompt = parts.layout.prompt_ids(ids)
    marks = ["<reserved08706>", "<racm3:break>", "<reserved08802>", "<reserved08802>"]
    assert prompt == [names["<s>"], *ids, *(names[mark] for mark in marks)]


def test_configurations_of_older_versions_open(folder: Path, tmp_path: Path) -> None:
    """As Lumina-mGPT's: another class's name, settings of its training, rotary settings under their former names."""
    model = reference.write_folder(tmp_path, vision=False)
    reference.edit_config(
        tmp_path,
        architectures=["ChameleonXLLMXForConditionalGeneration"],
        rope_parameters=None,
        rope_theta=10000.0,
        rope_scaling=None,
        z_loss_weight=1e-5,
        mask_image_logits=False,
    )
    parts = read_chameleon(str(tmp_path), **SETTINGS)
    ids = torch.tensor([[0, 40, 30, 29, 4, 5, 6]])
    with torch.no_grad():
        assert torch.equal(parts.model.eval()(ids).logits, model.lm_head(model.model(ids)[0]))


def test_tensors_that_lack_are_left_over_or_have_another_shape_are_named(tmp_path: Path) -> None:
    reference.write_folder(tmp_path, vision=False)
    tensors = weights_of(tmp_path)
    for file in [*tmp_path.glob("*.safetensors"), *tmp_path.glob("*.index.json")]:
        file.unlink()
    del tensors["model.layers.1.self_attn.q_norm.bias"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(1)
    tensors["lm_head.weight"] = torch.zeros(3, 32)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="does not fit its config.json") as error:
        read_chameleon(str(tmp_path), **SETTINGS)
    for part in (
        "model.layers.1.self_attn.q_norm.bias is missing",
        "model.layers.0.self_attn.q_proj.bias is not expected",
        "lm_head.weight has shape (3, 32) instead of (64, 32)",
    ):
        assert part in str(error.value)


def test_a_shard_or_the_tokenizer_that_is_missing(tmp_path: Path) -> None:
    reference.write_folder(tmp_path)
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    with pytest.raises(BundleError, match="safetensors files cannot be read"):
        read_chameleon(str(tmp_path), **SETTINGS)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"config\.json or tokenizer\.json cannot be read"):
        read_chameleon(str(tmp_path), **SETTINGS)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    reference.write_folder(tmp_path, vision=False)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    values["model"]["vocab"]["<eoss>"], values["model"]["vocab"]["<racm3:break>"] = 29, 28
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="tokenizer.json and vocabulary_map differ on <racm3:break>"):
        read_chameleon(str(tmp_path), **SETTINGS)


def test_another_architecture_a_map_without_images_and_too_long_sequences(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no folder with a Chameleon model \(no config.json\)"):
        read_chameleon(str(tmp_path / "none"), **SETTINGS)
    LlamaConfig().save_pretrained(tmp_path / "llama")
    with pytest.raises(BundleError, match=r"is no folder with a Chameleon model \(llama\)"):
        read_chameleon(str(tmp_path / "llama"), **SETTINGS)
    with pytest.raises(BundleError, match="image_layout is lumina, and .* is no model of Chameleon's family"):
        build_start(PretrainedStart(model=str(tmp_path / "llama"), image_layout="lumina"), **SETTINGS, sentences=[])
    reference.write_folder(tmp_path / "text", vision=False)
    reference.edit_config(tmp_path / "text", vocabulary_map={"<image>": 31, "<s>": 0})
    with pytest.raises(BundleError, match="names no image tokens"):
        read_chameleon(str(tmp_path / "text"), **SETTINGS)
    with pytest.raises(BundleError, match="form a square, the corpus has 2 x 8"):
        read_chameleon(str(folder), **{**SETTINGS, "grid": (2, 8)})
    with pytest.raises(BundleError, match="up to 257 tokens, the model holds 256: lower max_text_tokens"):
        read_chameleon(str(folder), **{**SETTINGS, "max_text_tokens": 237})


def test_a_prompt_too_long_for_the_model_is_refused_with_the_ends_of_rows_counted(folder: Path) -> None:
    parts = read_chameleon(str(folder), image_layout="lumina", **SETTINGS)
    with pytest.raises(GenerationError, match="a prompt of 238 tokens and 20 image tokens need 257 positions"):
        decode_image_tokens(parts.model, parts.layout, [[40] * 238], SamplingRules(), [0])
