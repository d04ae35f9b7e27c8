"""The analytic count of what autograd keeps, against autograd itself."""

from typing import Any

import pytest
import torch
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.alignment import AlignmentConfig, TeacherShape
from arra_med.training.blocks import enable_gradient_checkpointing
from arra_med.training.plan_activations import (
    Precision,
    kept_for_recomputation,
    saved_by_block,
    saved_by_head,
    saved_by_projector,
)
from arra_med.training.plan_shapes import BlockShape, model_shape
from arra_med.training.task import TrainingTask

VOCABULARY = ImageVocabulary(bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=64, vocab_size=96)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, grid=(8, 8), max_text_tokens=8)
SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "use_cache": False,
}


def language_model(kind: str) -> Any:
    match kind:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**SHAPE))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16))
        case _:
            given = {**SHAPE, "num_key_value_heads": 4, "tie_word_embeddings": False}
            return ChameleonForConditionalGeneration(ChameleonConfig(**given, vocabulary_map={"<image>": 5}))


def batch(num_sequences: int = 3) -> dict[str, torch.Tensor]:
    made = [LAYOUT.training_ids([10] * 8, list(range(64))) for _ in range(num_sequences)]
    return {
        "input_ids": torch.tensor([ids for ids, _ in made]),
        "image_start": torch.tensor([span.start for _, span in made]),
    }


def kept_bytes(task: TrainingTask, inputs: dict[str, torch.Tensor], bf16: bool) -> int:
    """Bytes of the distinct storages that a forward pass keeps, weights and their bf16 copies left out."""
    weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
    shapes = {tuple(p.shape) for p in task.parameters()} | {tuple(p.shape)[::-1] for p in task.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights and not (tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes):
            kept[storage] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        task(**inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "chameleon"])
@pytest.mark.parametrize("precision", ["fp32", "autocast"])
def test_a_step_keeps_what_is_counted(kind: str, precision: Precision) -> None:
    torch.manual_seed(0)
    model, inputs = language_model(kind), batch()
    shape, length = model_shape(model), inputs["input_ids"].shape[1]
    kept = kept_bytes(TrainingTask(model, LAYOUT, z_loss_weight=1e-5), inputs, precision == "autocast")
    blocks = shape.num_blocks * saved_by_block(shape.block, precision, on_cpu=True) * 3 * length
    assert kept == pytest.approx(blocks + saved_by_head(shape, precision, 3, length, 65), rel=0.01)


def test_checkpointing_keeps_the_inputs_of_the_blocks() -> None:
    model, inputs = language_model("llama").train(), batch()
    enable_gradient_checkpointing(model)
    shape, length = model_shape(model), inputs["input_ids"].shape[1]
    kept = kept_bytes(TrainingTask(model, LAYOUT, z_loss_weight=1e-5), inputs, bf16=True)
    inputs_kept = shape.num_blocks * kept_for_recomputation(shape.block, "autocast") * 3 * length
    rotary = 2 * 4 * 16 * length  # the checkpoints hold it, where hooks do not see it
    assert kept + rotary == pytest.approx(inputs_kept + saved_by_head(shape, "autocast", 3, length, 65), rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "autocast"])
def test_arra_adds_what_its_projector_keeps(precision: Precision) -> None:
    model, inputs = language_model("llama"), batch()
    plain = kept_bytes(TrainingTask(model, LAYOUT, z_loss_weight=1e-5), inputs, precision == "autocast")
    alignment = AlignmentConfig(teacher_features="unused", layer=1, projector_width=48)
    task = TrainingTask(model, LAYOUT, z_loss_weight=1e-5, alignments=[alignment], teachers=[TeacherShape(40)])
    inputs["teacher_features"] = [torch.randn(3, 40)]
    added = kept_bytes(task, inputs, precision == "autocast") - plain
    assert added == pytest.approx(saved_by_projector(64, 48, 40, precision, 3 * 64), rel=0.05)


def test_a_block_under_fsdp_by_hand() -> None:
    block = BlockShape(hidden_size=8, query_width=8, key_width=4, num_heads=2, intermediate_size=16)
    # 2 norms x (8 x (4 + 2) + 4), bf16 x (2 inputs x 8 + q 8 + k 4 + v 4 + output 8 + 4 x 16), log-sum-exp 2 x 4
    assert saved_by_block(block, "fsdp") == 2 * 52 + 2 * (16 + 24 + 64) + 8
