"""Llama, SmolLM, Qwen2, Qwen3 and GPT-2: image vocabulary, training as baseline and ARRA, plain `transformers`, legal codes.

SmolLM is Llama with grouped keys and a tied head. All models are tiny and random.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.models.presets import train_text_tokenizer
from arra_med.models.vocabulary_extension import add_image_vocabulary
from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import AlignmentConfig, TeacherShape
from arra_med.training.task import TrainingTask

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CODEBOOK_SIZE, GRID, TEACHER_WIDTH = 24, (2, 3), 5
SPARE_ROWS = 37  # published embeddings often have more rows than their tokenizer has tokens


def tiny_config(family: str, vocab_size: int, tied: bool) -> Any:
    shared: dict[str, Any] = {"vocab_size": vocab_size, "tie_word_embeddings": tied, "use_cache": False}
    if family == "llama":
        return LlamaConfig(**shared, **SMALL)
    if family == "smollm":
        return LlamaConfig(**shared, **SMALL, num_key_value_heads=2, rope_theta=100000.0)
    if family == "qwen2":
        return Qwen2Config(**shared, **SMALL, num_key_value_heads=2)
    if family == "qwen3":
        return Qwen3Config(**shared, **SMALL, num_key_value_heads=2, head_dim=16)
    return GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=64)


@pytest.mark.parametrize("arra", [False, True], ids=["finetuned", "arra"])
@pytest.mark.parametrize("padded", [False, True], ids=["exact", "padded"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "smollm", "qwen2", "qwen3", "gpt2"])
def test_every_family_learns_images_and_opens_with_plain_transformers(
    family: str, tied: bool, padded: bool, arra: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    tokenizer = train_text_tokenizer(["Pleural effusion.", "The heart is enlarged."], 280)
    num_old = len(tokenizer) + (SPARE_ROWS if padded else 0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, num_old, tied))
    vocabulary = add_image_vocabulary(model, tokenizer, CODEBOOK_SIZE)
    layout = SequenceLayout(vocabulary=vocabulary, grid=GRID, max_text_tokens=16)
    assert vocabulary.first_image_id >= num_old
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied

    alignments = [AlignmentConfig(teacher_features="unused", layer=1, projector_width=8)] if arra else []
    teachers = [TeacherShape(TEACHER_WIDTH)] if arra else []
    task = TrainingTask(model, layout, z_loss_weight=1e-5, alignments=alignments, teachers=teachers).train()
    text_ids = layout.text_ids(tokenizer, "Pleural effusion.")
    rows = [layout.training_ids(text_ids, [3, 1, 4, 1, 5, 9]), layout.training_ids([], [2, 6, 5, 3, 5, 8])]
    longest = max(len(ids) for ids, _ in rows)
    batch = {
        "input_ids": torch.tensor([ids + [vocabulary.pad_id] * (longest - len(ids)) for ids, _ in rows]),
        "image_start": torch.tensor([span.start for _, span in rows]),
        "teacher_features": [torch.randn(2, TEACHER_WIDTH)],
    }
    head = model.get_output_embeddings().weight
    before = head.detach().clone()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    with torch.no_grad():
        first = task.held_out_losses(batch["input_ids"], batch["image_start"])["image_token_loss"]
    for _ in range(2):
        optimizer.zero_grad()
        losses = task(**batch)
        losses["loss"].backward()
        optimizer.step()
    assert ("alignment_loss" in losses) == arra
    task.eval()
    with torch.no_grad():
        last = task.held_out_losses(batch["input_ids"], batch["image_start"])["image_token_loss"]
    assert last < first
    learnt = [vocabulary.first_image_id + code for code in (3, 1, 4, 5, 9, 2, 6, 8)]
    assert bool((head[learnt] != before[learnt]).any(dim=1).all())

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(opened) is type(model)
    with torch.no_grad():
        ids = batch["input_ids"][:1]
        assert torch.equal(opened(ids).logits, model.eval()(ids).logits)
    rules = SamplingRules(guidance_scale=2.0)
    codes = decode_image_tokens(opened, layout, [layout.prompt_ids(text_ids)] * 2, rules, [0, 1])
    assert codes.shape == (2, *GRID)
    assert 0 <= int(codes.min()) <= int(codes.max()) < CODEBOOK_SIZE
