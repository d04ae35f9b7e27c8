"""Chameleon from published files to pictures: import, tokenize, fine-tuning and ARRA, bundle, session, and start again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arra_med.cli import main
from arra_med.corpus.dataset import Corpus, TrainingDataset
from arra_med.corpus.tokenize import tokenize
from arra_med.errors import BundleError
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.models.chameleon_bundle import import_chameleon
from arra_med.models.chameleon_checkpoint import read_chameleon
from arra_med.tokens.chameleon_layout import ChameleonLayout
from arra_med.training.run import train
from arra_med.training.task import TrainingTask
from tests.models import chameleon_reference as reference
from tests.tokens import chameleon_reference as tokenizer_reference
from tests.training.conftest import TinyData
from tests.training.test_run import logged, settings

BOLD = {"steps": 2, "warmup_steps": 0, "learning_rate": 0.02}


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def chameleon(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """The tiny X-rays, tokenized by a toy of Chameleon's tokenizer that the command imported; `source` holds the files."""
    root = tmp_path_factory.mktemp("chameleon")
    torch.save({"state_dict": tokenizer_reference.random_weights()}, root / "vqgan.ckpt")
    words = ["--size-px", "32", "--channels", "1", "--out", str(root / "tokenizer")]
    assert run("tokenizer", "import-chameleon", str(root / "vqgan.ckpt"), *words) == 0
    tokenize(tiny_data.studies, root / "tokenizer", root / "corpus", views=2, progress=False)
    reference.write_folder(root / "model")
    return TinyData(tiny_data.studies, root / "tokenizer", root / "corpus", tiny_data.features)


def start_of(data: TinyData, image_layout: str = "plain") -> dict[str, Any]:
    return {"kind": "pretrained", "model": str(data.corpus.parent / "model"), "image_layout": image_layout}


@pytest.mark.parametrize("weight", [None, 1.0], ids=["fine-tuned", "arra"])
def test_weights_are_trained_on_and_the_bundle_draws_and_starts_again(
    chameleon: TinyData, tmp_path: Path, weight: float | None
) -> None:
    changes = {"start": start_of(chameleon), "max_text_tokens": 40, **BOLD}
    folder = train(settings(chameleon, weight=weight, **changes), tmp_path / "first")
    assert len(logged(tmp_path / "first", "image_token_loss")) == 2
    assert len(logged(tmp_path / "first", "alignment_loss")) == (2 if weight else 0)
    opened = ModelBundle.load(folder)
    assert isinstance(opened.layout, ChameleonLayout)
    result = ReportToImage(opened).generate(GenerationRequest(report="Effusion.", modality="cxr", num_images=2, seed=3))
    assert result.images.shape == (2, 32, 32)
    assert result.images.std() > 1
    assert 0 <= int(result.codes.min()) <= int(result.codes.max()) < tokenizer_reference.NUM_CODES
    again = train(
        settings(chameleon, start={"kind": "bundle", "path": folder}, steps=1, warmup_steps=0, learning_rate=1e-9),
        tmp_path / "again",
    )
    assert torch.equal(ModelBundle.load(again).model.lm_head.weight, opened.model.lm_head.weight)


@pytest.mark.parametrize("image_layout", ["plain", "lumina"])
def test_published_files_become_a_bundle_that_draws(chameleon: TinyData, tmp_path: Path, image_layout: str) -> None:
    words = ["--image-tokenizer", str(chameleon.tokenizer), "--image-layout", image_layout, "--modality", "cxr"]
    model = str(chameleon.corpus.parent / "model")
    out = tmp_path / "bundle"
    assert run("bundle", "import-chameleon", model, *words, "--max-text-tokens", "40", "--out", str(out)) == 0
    opened = ModelBundle.load(out)
    assert opened.info.variant == "imported"
    assert opened.info.licence_class == "research-only"
    assert (opened.layout.row_end_ids != ()) == (image_layout == "lumina")
    assert not hasattr(opened.model.model, "vqmodel")
    assert run("generate", "--bundle", str(out), "--report", "a red bird", "--out", str(tmp_path / "images")) == 0
    assert np.asarray(Image.open(next((tmp_path / "images").glob("*.png")))).shape == (32, 32)


def test_an_image_tokenizer_of_another_kind_is_refused(
    chameleon: TinyData, tiny_data: TinyData, tmp_path: Path
) -> None:
    model = chameleon.corpus.parent / "model"
    with pytest.raises(BundleError, match="import the image tokenizer with --channels 3"):
        import_chameleon(model, chameleon.tokenizer, tmp_path / "x")
    with pytest.raises(BundleError, match="names 24 image tokens, the image tokenizer has 16 codes"):
        import_chameleon(model, tiny_data.tokenizer, tmp_path / "x", modality="cxr")
    assert not (tmp_path / "x").exists()


def test_token_noise_leaves_the_ends_of_rows_as_they_are(chameleon: TinyData) -> None:
    parts = read_chameleon(
        str(chameleon.corpus.parent / "model"), grid=(4, 4), codebook_size=24, max_text_tokens=40, image_layout="lumina"
    )
    corpus = Corpus.open(chameleon.corpus)
    examples = TrainingDataset(corpus, "train", parts.layout, parts.text_tokenizer, token_noise=0.99)
    example = examples[0]
    start, stop = example["image_span"]
    seen, right = example["context_ids"], example["input_ids"]
    images = {start + offset for offset in parts.layout.image_offsets}
    assert all(seen[place] == right[place] for place in range(len(right)) if place not in images)
    assert sum(seen[place] != right[place] for place in images) > 10
    assert [right[place] for place in range(start, stop) if place not in images] == [parts.layout.row_end_id] * 4


def test_losses_with_ends_of_rows_equal_those_of_positions_written_out(chameleon: TinyData) -> None:
    parts = read_chameleon(
        str(chameleon.corpus.parent / "model"), grid=(4, 4), codebook_size=24, max_text_tokens=40, image_layout="lumina"
    )
    ids, span = parts.layout.training_ids([40, 41], list(range(16)))
    task = TrainingTask(parts.model.eval(), parts.layout, z_loss_weight=0.0)
    with torch.no_grad():
        found = task(torch.tensor([ids]), torch.tensor([span.start]))["image_token_loss"]
        logits = parts.model(torch.tensor([ids])).logits[0]
    # s 40 41 end boi h w | 4 rows of 4 tokens and an end each | eoi: positions 6 to 26 predict tokens 7 to 27
    assert (span.start, len(ids)) == (7, 28)
    expected = torch.nn.functional.cross_entropy(logits[6:27], torch.tensor(ids[7:28]))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_arra_with_ends_of_rows_trains_and_draws(chameleon: TinyData, tmp_path: Path) -> None:
    changes = {"start": start_of(chameleon, "lumina"), "max_text_tokens": 60, **BOLD}
    opened = ModelBundle.load(train(settings(chameleon, weight=1.0, **changes), tmp_path / "run"))
    assert len(logged(tmp_path / "run", "alignment_loss")) == 2
    result = ReportToImage(opened).generate(GenerationRequest(report="Effusion.", modality="cxr", num_images=1))
    assert result.images.shape == (1, 32, 32)
