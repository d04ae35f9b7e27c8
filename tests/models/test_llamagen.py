"""LlamaGen's language models: the published file format, their numbers against numpy, cache, guidance and saving."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, T5EncoderModel

from arra_med.errors import BundleError, ReportError
from arra_med.models.llamagen import LlamaGenForCausalLM
from arra_med.models.llamagen_checkpoint import (
    LLAMAGEN_SHAPES,
    LlamaGenParts,
    LlamaGenShape,
    random_llamagen,
    read_llamagen,
)
from arra_med.models.llamagen_prompts import class_tokenizer, imagenet_class_names
from tests.models import llamagen_reference as reference

CODES = [3, 17, 0, 23, 9]
GRID, CODEBOOK_SIZE = reference.GRID, reference.CODEBOOK_SIZE


def read(path: Path, tensors: dict[str, torch.Tensor], text_encoder: Path | None = None) -> LlamaGenParts:
    torch.save({"model": tensors, "steps": 300_000}, path)
    return read_llamagen(
        path,
        grid=GRID,
        codebook_size=CODEBOOK_SIZE,
        text_encoder=str(text_encoder) if text_encoder else None,
        num_heads=reference.HEADS,
    )


def image_logits(parts: LlamaGenParts, prompt: list[int], codes: list[int]) -> np.ndarray:
    ids = torch.tensor([prompt + codes])
    with torch.no_grad():
        found = parts.model.double().eval()(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :]
    return np.asarray(found[:, :CODEBOOK_SIZE].numpy())


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaGenParts, dict[str, torch.Tensor]]:
    tensors = reference.random_checkpoint()
    return read(tmp_path_factory.mktemp("c2i") / "c2i_toy.pt", tensors), tensors


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaGenParts, dict[str, torch.Tensor], Path]:
    folder = tmp_path_factory.mktemp("t2i")
    encoder = reference.write_tiny_t5(folder / "t5")
    tensors = reference.random_checkpoint(classes=None)
    return read(folder / "t2i_toy.pt", tensors, encoder), tensors, encoder


def t5_features(encoder: Path, tokens: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """As published: T5 on a text padded on the right, its features then moved to the right end, padding zero."""
    ids = torch.tensor([tokens + [0] * (length - len(tokens))])
    mask = torch.tensor([[1] * len(tokens) + [0] * (length - len(tokens))])
    model = T5EncoderModel.from_pretrained(encoder).double().eval()
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).last_hidden_state[0].numpy()
    features = np.zeros_like(found)
    features[length - len(tokens) :] = found[: len(tokens)]
    return features, np.arange(length) >= length - len(tokens)


def test_class_logits_are_those_of_the_equations(classes: tuple[LlamaGenParts, dict[str, torch.Tensor]]) -> None:
    parts, tensors = classes
    table = tensors["cls_embedding.embedding_table.weight"].double().numpy()
    used = np.ones(1, dtype=bool)
    for text, row in (("class 2", 2), ("4", 4)):
        prompt = parts.layout.prompt_ids(parts.layout.text_ids(parts.text_tokenizer, text))
        expected = reference.logits(tensors, table[[row]], used, CODES)
        assert np.abs(image_logits(parts, prompt, CODES) - expected).max() < 1e-5
    unconditional = reference.logits(tensors, table[[5]], used, CODES)  # the row behind the classes
    assert np.abs(image_logits(parts, parts.layout.unconditional_ids, CODES) - unconditional).max() < 1e-5
    assert np.abs(unconditional - expected).max() > 0.1


def test_caption_logits_are_those_of_the_equations(
    captions: tuple[LlamaGenParts, dict[str, torch.Tensor], Path],
) -> None:
    parts, tensors, encoder = captions
    for text, tokens in (("A red bird", [3, 4, 5, 1]), ("sea", [8, 1])):
        prompt = parts.layout.prompt_ids(parts.layout.text_ids(parts.text_tokenizer, text))
        assert [token - parts.layout.vocabulary.vocab_size for token in prompt] == tokens
        features, used = t5_features(encoder, tokens, 6)
        expected = reference.logits(tensors, reference.caption_prompt(tensors, features), used, CODES)
        assert np.abs(image_logits(parts, prompt, CODES) - expected).max() < 1e-5
        # the unconditional row shares the caption's padding mask
        nothing = tensors["cls_embedding.uncond_embedding"].double().numpy()
        expected = reference.logits(tensors, reference.caption_prompt(tensors, nothing), used, CODES)
        beside = parts.layout.unconditional_beside(prompt)
        assert np.abs(image_logits(parts, beside, CODES) - expected).max() < 1e-5


def test_a_batch_of_captions_of_different_lengths_equals_one_at_a_time(
    captions: tuple[LlamaGenParts, dict[str, torch.Tensor], Path],
) -> None:
    parts = captions[0]
    layout, texts = parts.layout, ["a red bird on the", "sea", ""]
    rows = [layout.text_ids(parts.text_tokenizer, text) if text else [] for text in texts]
    sequences = [layout.training_ids(row, [*CODES, 1])[0] for row in rows]
    longest = max(map(len, sequences))
    padded = [ids + [layout.vocabulary.pad_id] * (longest - len(ids)) for ids in sequences]
    model = parts.model.float().eval()
    with torch.no_grad():
        together = model(input_ids=torch.tensor(padded), use_cache=False).logits
        for ids, found in zip(sequences, together, strict=True):
            alone = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            assert torch.allclose(found[: len(ids) - 1], alone[:-1], atol=1e-4)


def test_a_caption_too_long_keeps_its_end_of_text(
    captions: tuple[LlamaGenParts, dict[str, torch.Tensor], Path],
) -> None:
    layout = captions[0].layout
    first = layout.vocabulary.vocab_size
    ids = layout.text_ids(captions[0].text_tokenizer, "a red bird on the sea a bird")
    assert layout.prompt_ids(ids) == [first + token for token in (3, 4, 5, 6, 7, 1)]


@pytest.mark.parametrize("kind", ["classes", "captions"])
def test_saved_and_opened_with_the_auto_class_the_logits_are_equal(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    parts: LlamaGenParts = request.getfixturevalue(kind)[0]
    model = parts.model.float().eval()
    model.save_pretrained(tmp_path)
    opened, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(opened, LlamaGenForCausalLM)
    assert not any(loading[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    first = parts.layout.vocabulary.vocab_size
    ids = torch.tensor([[*([first + 3, first + 1][: parts.layout.max_text_tokens]), *CODES]])
    with torch.no_grad():
        assert torch.equal(opened.eval()(ids, use_cache=False).logits, model(ids, use_cache=False).logits)


def test_the_text_encoder_is_frozen_whatever_is_asked_of_the_model(
    captions: tuple[LlamaGenParts, dict[str, torch.Tensor], Path],
) -> None:
    model = captions[0].model.train().requires_grad_(True)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen
    assert all(".text_encoder." in name for name in frozen)
    assert model.training
    assert not model.model.text_encoder.training


def test_a_part_of_a_sequence_needs_positions(classes: tuple[LlamaGenParts, dict[str, torch.Tensor]]) -> None:
    model = classes[0].model.float().eval()
    with pytest.raises(ValueError, match="give position_ids"):
        model(inputs_embeds=torch.zeros(1, 2, 16))


def test_tensors_of_another_architecture_are_named(tmp_path: Path) -> None:
    tensors = reference.random_checkpoint()
    del tensors["layers.1.ffn_norm.weight"]
    tensors["layers.0.attention.bias"] = torch.zeros(1)
    tensors["output.weight"] = torch.zeros(3, 16)
    with pytest.raises(BundleError, match="another architecture") as error:
        read(tmp_path / "c2i.pt", tensors)
    for part in (
        "layers.1.ffn_norm.weight is missing",
        "layers.0.attention.bias is not expected",
        "output.weight has shape (3, 16) instead of (24, 16)",
    ):
        assert part in str(error.value)


def test_a_wrong_pair_of_files_says_what_to_give(tmp_path: Path) -> None:
    torch.save(reference.random_checkpoint(), tmp_path / "c2i.pt")
    torch.save(reference.random_checkpoint(classes=None), tmp_path / "t2i.pt")
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "other.pt")
    shape = {"grid": GRID, "codebook_size": CODEBOOK_SIZE}
    with pytest.raises(BundleError, match="give its number of heads"):
        read_llamagen(tmp_path / "c2i.pt", **shape)
    with pytest.raises(BundleError, match="3 heads do not divide"):
        read_llamagen(tmp_path / "c2i.pt", **shape, num_heads=3)
    with pytest.raises(BundleError, match="leave it out"):
        read_llamagen(tmp_path / "c2i.pt", **shape, num_heads=2, text_encoder="t5")
    with pytest.raises(BundleError, match="give the folder of FLAN-T5-XL"):
        read_llamagen(tmp_path / "t2i.pt", **shape, num_heads=2)
    with pytest.raises(BundleError, match="is no local folder with a T5 model"):
        read_llamagen(tmp_path / "t2i.pt", **shape, num_heads=2, text_encoder=str(tmp_path / "none"))
    with pytest.raises(BundleError, match="is no LlamaGen language model"):
        read_llamagen(tmp_path / "other.pt", **shape)


@pytest.mark.parametrize(
    ("size", "published"), [("B", "111M"), ("L", "343M"), ("XL", "775M"), ("XXL", "1.4B"), ("3B", "3.1B")]
)
def test_the_published_sizes(size: str, published: str) -> None:
    """As the paper counts them."""
    with torch.device("meta"):
        parts = random_llamagen(
            LLAMAGEN_SHAPES[size],
            grid=(16, 16),
            codebook_size=16384,
            max_text_tokens=1,
            class_names=[f"class {number}" for number in range(1000)],
        )
    count = sum(value.numel() for value in parts.model.parameters())
    assert (f"{count / 1e6:.0f}M" if count < 1e9 else f"{count / 1e9:.1f}B") == published


def test_random_weights_depend_on_the_seed_alone() -> None:
    shape = LlamaGenShape(hidden_size=16, num_layers=1, num_heads=2)
    settings = {"grid": GRID, "codebook_size": CODEBOOK_SIZE, "max_text_tokens": 1, "class_names": ["x", "y"]}
    torch.manual_seed(1)
    first = random_llamagen(shape, **settings, seed=0).model.state_dict()
    torch.manual_seed(2)
    second, other = (random_llamagen(shape, **settings, seed=seed).model.state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_classes_are_found_by_name_number_and_phrase(
    classes: tuple[LlamaGenParts, dict[str, torch.Tensor]],
) -> None:
    layout, first = classes[0].layout, classes[0].layout.vocabulary.vocab_size
    names = class_tokenizer(5, ["tench", "goldfish", "great white shark", "owl", "crane"])
    for text, number in [("tench", 0), ("A photo of an OWL.", 3), ("great white shark", 2), ("4", 4), (" crane ", 4)]:
        assert layout.text_ids(names, text) == [first + number]
    for text in ("a shark", "5", "", "tench goldfish", "[UNK]"):
        with pytest.raises(ReportError, match="one of 5 classes"):
            layout.text_ids(names, text)


def test_imagenet_has_a_thousand_names_and_each_is_found() -> None:
    names = imagenet_class_names()
    tokenizer = class_tokenizer(1000)
    assert [names[number] for number in (0, 134, 207, 517)] == ["tench", "crane", "golden retriever", "crane 517"]
    assert [tokenizer(f"a photo of a {name}")["input_ids"] for name in names] == [[number] for number in range(1000)]


def test_names_that_are_too_few_or_stand_twice_are_refused() -> None:
    with pytest.raises(BundleError, match="2 different class names were given for 3 classes"):
        class_tokenizer(3, ["a bird", "fish", "fish"])
