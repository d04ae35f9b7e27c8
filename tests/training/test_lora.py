"""LoRA: who is trained, that merging changes nothing, that a checkpoint holds what is trained, and whole trainings."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

from arra_med.errors import ConfigError
from arra_med.models.bundle import ModelBundle
from arra_med.models.presets import train_text_tokenizer
from arra_med.models.vocabulary_extension import add_image_vocabulary
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.lora import LoraSettings, add_lora
from arra_med.training.run import train
from tests.training.conftest import TinyData
from tests.training.test_run import logged, settings

CODEBOOK_SIZE = 24
LORA = {"rank": 2, "alpha": 4}


def language_model(family: str, tied: bool) -> tuple[Any, ImageVocabulary]:
    torch.manual_seed(0)
    tokenizer = train_text_tokenizer(["Pleural effusion.", "The heart is enlarged."], 280)
    shared: dict[str, Any] = {"vocab_size": len(tokenizer), "tie_word_embeddings": tied, "use_cache": False}
    small: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config: Any = {
        "llama": lambda: LlamaConfig(**shared, **small, num_attention_heads=4),
        "qwen2": lambda: Qwen2Config(**shared, **small, num_attention_heads=4, num_key_value_heads=2),
        "gpt2": lambda: GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    }[family]()
    model = AutoModelForCausalLM.from_config(config)
    return model, add_image_vocabulary(model, tokenizer, CODEBOOK_SIZE)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_only_additions_and_image_rows_learn_and_merging_changes_no_logit(family: str, tied: bool) -> None:
    model, vocabulary = language_model(family, tied)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    rows = [*range(vocabulary.first_image_id, vocabulary.first_image_id + CODEBOOK_SIZE)]
    adapter = add_lora(model, vocabulary, LoraSettings(**LORA))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)
    ids = torch.tensor([[5, vocabulary.boi_id, *rows[:4]]])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # one half of an addition starts at zero, so the other learns from the second step on
        optimizer.zero_grad()
        hidden = model.base_model(input_ids=ids)[0]
        (hidden @ model.get_output_embeddings().weight.T)[0, 1:5].log_softmax(-1)[
            range(4), rows[:4]
        ].sum().neg().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(ids).logits
        merged = adapter.merge_and_unload()
        torch.testing.assert_close(merged(ids).logits, logits, rtol=1e-4, atol=1e-4)
    after = merged.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    embedding = next(
        name for name, weight in after.items() if (weight is after[name] and "embed_tokens" in name) or "wte" in name
    )
    text_rows = [
        row
        for row in range(len(after[embedding]))
        if row not in rows and row not in (vocabulary.boi_id, vocabulary.eoi_id)
    ]
    assert embedding in changed
    assert torch.equal(after[embedding][text_rows], before[embedding][text_rows])
    assert any("proj" in name or "c_attn" in name for name in changed)
    assert not any("norm" in name or "ln_" in name for name in changed)
    assert (merged.get_input_embeddings().weight is merged.get_output_embeddings().weight) == tied


def test_targets_choose_the_matrices_and_rows_can_stay_frozen() -> None:
    model, vocabulary = language_model("llama", tied=True)
    add_lora(model, vocabulary, LoraSettings(**LORA, targets=("q_proj", "v_proj"), image_rows=False))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * 2  # blocks, matrices, halves
    assert all(".q_proj." in name or ".v_proj." in name for name in trained)
    # rank 2 x (32 in + 32 out) for each of the four matrices
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * 2 * 64


def test_what_cannot_be_adapted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, vocabulary = language_model("llama", tied=True)
    with pytest.raises(ConfigError, match=r"lora.targets names c_attn; the decoder blocks have down_proj, gate_proj"):
        add_lora(model, vocabulary, LoraSettings(targets=("q_proj", "c_attn")))
    with pytest.raises(ValidationError, match="greater than 0"):
        LoraSettings(rank=0)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ConfigError, match="pip install peft"):
        add_lora(model, vocabulary, LoraSettings())


@pytest.mark.parametrize("weight", [None, 1.0], ids=["finetuned", "arra"])
def test_a_training_resumes_exactly_keeps_small_checkpoints_and_leaves_a_plain_bundle(
    tiny_data: TinyData, tmp_path: Path, weight: float | None
) -> None:
    train(settings(tiny_data, weight=weight, lora=LORA), tmp_path / "whole")
    train(settings(tiny_data, weight=weight, lora=LORA, steps=3), tmp_path / "parts")
    saved = load_file(tmp_path / "parts/checkpoints/checkpoint-3/task.safetensors")
    assert all("lora_" in name or "trainable_tokens" in name or name.startswith("alignments.") for name in saved)
    train(settings(tiny_data, weight=weight, lora=LORA), tmp_path / "parts")
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")
    weights = [tmp_path / name / "bundle/model.safetensors" for name in ("whole", "parts")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    bundle = ModelBundle.load(tmp_path / "whole/bundle")
    assert not any("lora" in name for name, _ in bundle.model.named_parameters())
    told = bundle.info.training
    assert told["trained_parameters"] < told["parameters"] == sum(p.numel() for p in bundle.model.parameters())


def test_lora_and_sharding_exclude_each_other(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.training.run.check_sharding", lambda *_: None)
    with pytest.raises(ConfigError, match="set sharding to none"):
        train(settings(tiny_data, lora=LORA, sharding="fsdp2"), tmp_path)
