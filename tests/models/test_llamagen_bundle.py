"""From LlamaGen's published files to pictures, by the command line; and the engine's guided, cached decoding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arra_med.cli import main
from arra_med.errors import BundleError
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.models.llamagen_bundle import import_llamagen
from arra_med.tokens.llamagen_layout import LlamaGenLayout
from tests.models import llamagen_reference as reference
from tests.models.test_llamagen import t5_features
from tests.tokens import llamagen_reference as tokenizer_reference

GRID_SIDE = 4
GUIDANCE = 3.0
NAMES = ["tench", "goldfish", "great white shark", "owl", "crane"]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy files in the published layout, and the image tokenizer's folder that the command made of them."""
    folder = tmp_path_factory.mktemp("published")
    vq = tokenizer_reference.random_weights((32, 32, 32), stem=32, latent=32, codebook=(reference.CODEBOOK_SIZE, 8))
    torch.save({"model": vq}, folder / "vq.pt")
    torch.save({"model": reference.random_checkpoint()}, folder / "c2i.pt")
    torch.save(reference.random_checkpoint(classes=None), folder / "t2i.pt")  # as FSDP trainings were saved
    reference.write_tiny_t5(folder / "t5")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    assert (
        run("tokenizer", "import-llamagen", str(folder / "vq.pt"), "--size-px", "16", "--out", str(folder / "vq")) == 0
    )
    return folder


@pytest.fixture(scope="module")
def bundle(files: Path) -> Path:
    words = ["--image-tokenizer", str(files / "vq"), "--class-names", str(files / "names.txt"), "--num-heads", "2"]
    assert run("bundle", "import-llamagen", str(files / "c2i.pt"), *words, "--out", str(files / "bundle")) == 0
    return files / "bundle"


def greedy(tensors: dict[str, torch.Tensor], rows: list[tuple[np.ndarray, np.ndarray]], num_codes: int) -> list[int]:
    """The likeliest code at every place, by the reference, with guidance of row 0 against row 1."""
    codes: list[int] = []
    for _ in range(num_codes):
        conditional, unconditional = (reference.logits(tensors, *row, codes)[-1] for row in rows)
        codes.append(int((unconditional + GUIDANCE * (conditional - unconditional)).argmax()))
    return codes


def bf16(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a bundle keeps of the weights."""
    return {name: value.bfloat16().float() for name, value in tensors.items()}


def test_a_class_becomes_the_codes_of_the_equations(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "GRID", (GRID_SIDE, GRID_SIDE))
    opened = ModelBundle.load(bundle)
    assert isinstance(opened.layout, LlamaGenLayout)
    prompts = [opened.layout.prompt_ids(opened.layout.text_ids(opened.text_tokenizer, text)) for text in ("owl", "2")]
    rules = SamplingRules(temperature=0, guidance_scale=GUIDANCE)
    codes = decode_image_tokens(opened.model, opened.layout, prompts, rules, [0, 1])
    tensors, used = bf16(reference.random_checkpoint()), np.ones(1, dtype=bool)
    table = tensors["cls_embedding.embedding_table.weight"].double().numpy()
    for row, number in enumerate((3, 2)):
        expected = greedy(tensors, [(table[[number]], used), (table[[5]], used)], GRID_SIDE**2)
        assert codes[row].flatten().tolist() == expected
    assert codes[0].tolist() != codes[1].tolist()


def test_captions_of_two_lengths_in_one_batch_become_the_codes_of_the_equations(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "GRID", (GRID_SIDE, GRID_SIDE))
    import_llamagen(files / "t2i.pt", files / "vq", tmp_path / "bundle", text_encoder=str(files / "t5"), num_heads=2)
    opened = ModelBundle.load(tmp_path / "bundle")
    texts, tokens = ("the red bird", "sea"), ([7, 4, 5, 1], [8, 1])
    prompts = [opened.layout.prompt_ids(opened.layout.text_ids(opened.text_tokenizer, text)) for text in texts]
    rules = SamplingRules(temperature=0, guidance_scale=GUIDANCE)
    codes = decode_image_tokens(opened.model, opened.layout, prompts, rules, [0, 1])
    tensors = bf16(reference.random_checkpoint(classes=None))
    opened.model.model.text_encoder.save_pretrained(tmp_path / "t5")  # rounded as in the bundle
    nothing = tensors["cls_embedding.uncond_embedding"].double().numpy()
    for row, ids in enumerate(tokens):
        features, used = t5_features(tmp_path / "t5", ids, len(nothing))
        rows = [(reference.caption_prompt(tensors, found), used) for found in (features, nothing)]
        assert codes[row].flatten().tolist() == greedy(tensors, rows, GRID_SIDE**2)
    assert codes[0].tolist() != codes[1].tolist()


def test_generate_draws_a_class_by_name_or_number(bundle: Path, tmp_path: Path) -> None:
    for name, text in (("a", "a photo of a great white shark"), ("b", "2"), ("c", "crane")):
        assert run("generate", "--bundle", str(bundle), "--report", text, "--out", str(tmp_path / name)) == 0
    pictures = {name: np.asarray(Image.open(next((tmp_path / name).glob("*.png")))) for name in "abc"}
    assert pictures["a"].shape == (16, 16, 3)
    assert np.array_equal(pictures["a"], pictures["b"])
    assert not np.array_equal(pictures["a"], pictures["c"])


def test_an_unknown_class_is_refused_in_one_sentence(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "--bundle", str(bundle), "--report", "unicorn", "--out", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "one of 5 classes" in told
    assert "unicorn" not in told


def test_the_bundle_says_what_it_is(bundle: Path) -> None:
    described = json.loads((bundle / "bundle.json").read_text())
    assert described["variant"] == "imported"
    assert described["licence_class"] == "research-only"
    assert described["layout"]["kind"] == "llamagen"
    assert len(described["training"]["weights_sha256"]) == 64
    assert "MIT licence" in (bundle / "MODEL_CARD.md").read_text()


def test_parts_that_do_not_fit_are_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="import the image tokenizer with --channels 1"):
        import_llamagen(files / "c2i.pt", files / "vq", tmp_path / "x", modality="cxr", num_heads=2)
    vq = tokenizer_reference.random_weights((32, 32), stem=32, latent=32, codebook=(30, 8))
    torch.save(vq, tmp_path / "vq.pt")
    assert (
        run("tokenizer", "import-llamagen", str(tmp_path / "vq.pt"), "--size-px", "16", "--out", str(tmp_path / "vq"))
        == 0
    )
    with pytest.raises(BundleError, match=r"tok_embeddings.weight has shape \(24, 16\) instead of \(30, 16\)"):
        import_llamagen(files / "c2i.pt", tmp_path / "vq", tmp_path / "x", num_heads=2)
    assert not (tmp_path / "x").exists()


def test_class_names_that_cannot_be_read(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--image-tokenizer", str(files / "vq"), "--class-names", str(tmp_path / "none"), "--num-heads", "2"]
    assert run("bundle", "import-llamagen", str(files / "c2i.pt"), *words, "--out", str(tmp_path / "x")) == 2
    assert "one class name a line" in capsys.readouterr().err
