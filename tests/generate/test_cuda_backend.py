"""The step that a GPU replays, called here without a graph, against the transformers backend."""

import gc
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    PhiConfig,
    PreTrainedModel,
    Qwen3Config,
)

from arra_med.errors import GenerationError
from arra_med.generate.cuda_backend import CudaGraphBackend, unsupported_reason
from arra_med.generate.decoding import decode_image_tokens, open_backend
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.chameleon_layout import ChameleonLayout
from arra_med.tokens.chameleon_vocabulary import ChameleonVocabulary
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.llamagen_layout import LlamaGenLayout
from tests.generate.tiny_models import LONG, RULES, SHORT, SIZES, random_model

CONFIGS = [
    LlamaConfig(**SIZES),
    LlamaConfig(**SIZES, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True),
    GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2, bos_token_id=0, eos_token_id=3),
    Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8),
    PhiConfig(**SIZES),
    GraniteConfig(**SIZES, logits_scaling=8.0),
    Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=6),
]


class OperationsSeen(TorchDispatchMode):
    """Lists the operations that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_tokens_equal_those_of_the_transformers_backend(config, layout: SequenceLayout, rules: SamplingRules):
    model = random_model(config, layout)
    prompts = [layout.prompt_ids(ids) for ids in (LONG, SHORT, LONG)]
    expected = decode_image_tokens(model, layout, prompts, rules, [4, 9, 11])
    found = decode_image_tokens(model, layout, prompts, rules, [4, 9, 11], backend=CudaGraphBackend(model, layout))
    assert torch.equal(found, expected)
    assert len(found.unique()) > 1


def test_prompts_of_one_token_have_nothing_to_read_beforehand(model: PreTrainedModel, layout: SequenceLayout):
    rules, backend = SamplingRules(guidance_scale=1.0), CudaGraphBackend(model, layout)
    for prompts in ([[5], [6]], [[5], [7, 8, 9]]):
        expected = decode_image_tokens(model, layout, prompts, rules, [1, 2])
        assert torch.equal(decode_image_tokens(model, layout, prompts, rules, [1, 2], backend=backend), expected)


def test_marks_between_rows_and_an_order_of_codes_are_read(model: PreTrainedModel):
    vocabulary = ChameleonVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=24, vocab_size=48,
        image_order=tuple(reversed(range(24))),
    )  # fmt: skip
    layout = ChameleonLayout(
        kind="chameleon", vocabulary=vocabulary, grid=(3, 3), max_text_tokens=12, turn_end_id=4, row_end_id=14
    )
    prompts = [layout.prompt_ids(LONG), layout.prompt_ids(SHORT)]
    expected = decode_image_tokens(model, layout, prompts, SamplingRules(), [1, 2])
    backend = CudaGraphBackend(model, layout)
    assert torch.equal(decode_image_tokens(model, layout, prompts, SamplingRules(), [1, 2], backend=backend), expected)
    unmarked = layout.model_copy(update={"row_end_id": None})
    assert not torch.equal(decode_image_tokens(model, unmarked, prompts, SamplingRules(), [1, 2]), expected)


def test_images_that_start_at_one_position_whatever_their_prompt(model: PreTrainedModel, layout: SequenceLayout):
    llamagen = LlamaGenLayout(
        kind="llamagen", num_classes=None, vocabulary=layout.vocabulary, grid=(3, 4), max_text_tokens=12
    )
    prompts = [LONG, SHORT]
    expected = decode_image_tokens(model, llamagen, prompts, SamplingRules(), [1, 2])
    backend = CudaGraphBackend(model, llamagen)
    found = decode_image_tokens(model, llamagen, prompts, SamplingRules(), [1, 2], backend=backend)
    assert torch.equal(found, expected)


def test_bfloat16_is_computed_in_bfloat16(layout: SequenceLayout):
    model = random_model(LlamaConfig(**SIZES), layout).bfloat16()
    backend = CudaGraphBackend(model, layout)
    prompt = layout.prompt_ids(LONG)
    rules = SamplingRules(temperature=0.0, guidance_scale=1.0)
    found = decode_image_tokens(model, layout, [prompt], rules, [0], backend=backend)
    assert backend._kept[0]._layers[0].keys.dtype == torch.bfloat16
    assert torch.equal(found, decode_image_tokens(model, layout, [prompt], rules, [0]))


def test_steps_are_kept_by_shape_and_never_shared_by_two_batches(model: PreTrainedModel, layout: SequenceLayout):
    backend = CudaGraphBackend(model, layout)
    prompts, rules = [layout.prompt_ids(SHORT)], SamplingRules()
    first, second = backend.start(prompts, rules), backend.start(prompts, rules)
    assert first._step is not second._step
    step = first._step
    del first
    gc.collect()
    third = backend.start([layout.prompt_ids(LONG)], SamplingRules(top_k=3))  # 64 places serve both lengths
    assert third._step is step
    assert step.rules.top_k == 3
    assert step.shape == (1, True, 64)
    kept = [backend.start(prompts * count, rules) for count in (2, 3, 4)]
    del kept, second, third
    gc.collect()
    assert len(backend._kept) == 2


def test_a_damaged_batch_is_an_error_and_leaves_nothing_behind(layout: SequenceLayout):
    model = random_model(LlamaConfig(**SIZES), layout)
    backend, prompts = CudaGraphBackend(model, layout), [layout.prompt_ids(SHORT)]
    expected = decode_image_tokens(model, layout, prompts, SamplingRules(), [1], backend=backend)
    weight = model.model.layers[0].self_attn.v_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = torch.nan
    with pytest.raises(GenerationError, match="not finite at image token 1 of 12"):
        decode_image_tokens(model, layout, prompts, SamplingRules(), [1], backend=backend)
    with torch.no_grad():
        weight.copy_(kept)
    assert torch.equal(decode_image_tokens(model, layout, prompts, SamplingRules(), [1], backend=backend), expected)


def test_what_it_cannot_decode_is_one_sentence(model: PreTrainedModel, layout: SequenceLayout):
    with pytest.raises(GenerationError, match="needs the model on a GPU of CUDA, it is on cpu"):
        open_backend("cuda-graph", model, layout)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=48, hidden_size=16, num_hidden_layers=1))
    with pytest.raises(GenerationError, match="MambaForCausalLM has no static key-value cache: choose the transf"):
        CudaGraphBackend(mamba, layout)
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    other = random_model(LlamaConfig(**SIZES, rope_parameters=dynamic), layout)
    assert "changes with the length" in str(unsupported_reason(other))
    other = random_model(LlamaConfig(**SIZES), layout)
    other.config._attn_implementation_internal = "flash_attention_2"
    assert "its attention is flash_attention_2, not sdpa or eager" in str(unsupported_reason(other))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_a_step_takes_nothing_from_the_host(config, layout: SequenceLayout):
    """No value is read back, none is sent, none drawn, and no buffer replaced: what a captured graph relies on."""
    model = random_model(config, layout)
    step = CudaGraphBackend(model, layout).start([layout.prompt_ids(SHORT)], SamplingRules(top_k=8, top_p=0.9))._step

    def addresses() -> dict[str, int]:
        buffers = {name: part for name, part in vars(step).items() if isinstance(part, torch.Tensor)}
        buffers |= {f"keys {number}": layer.keys for number, layer in enumerate(step._layers)}
        return {name: part.data_ptr() for name, part in buffers.items()}

    before = addresses()
    with OperationsSeen() as watch:
        step._run()
    assert len(watch.seen) > 50
    # a value read back; a shape that hangs on values; a tensor made of Python numbers
    forbidden = {"_local_scalar_dense", "is_nonzero", "nonzero", "lift_fresh", "rand", "uniform_", "multinomial"}
    assert not forbidden & set(watch.seen)
    assert addresses() == before


def test_a_step_that_cannot_be_captured_is_one_sentence(
    model: PreTrainedModel, layout: SequenceLayout, monkeypatch: pytest.MonkeyPatch
):
    step = CudaGraphBackend(model, layout).start([layout.prompt_ids(SHORT)], SamplingRules())._step
    stream = SimpleNamespace(wait_stream=lambda other: None)
    runs: list[int] = []

    def refuse(graph: object, stream: object, capture_error_mode: str):
        runs.append(int(step._column))
        raise RuntimeError("operation not permitted when stream is capturing")

    for name, stand_in in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "CUDAGraph": object,
        "graph": refuse,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    with pytest.raises(
        GenerationError, match="a step of LlamaModel cannot be captured in a CUDA graph .* transformers"
    ):
        step._capture()
    assert runs == [1]  # each warm-up started at the first column


def test_a_full_memory_is_emptied_of_kept_steps_once(
    model: PreTrainedModel, layout: SequenceLayout, monkeypatch: pytest.MonkeyPatch
):
    backend, prompts = CudaGraphBackend(model, layout), [layout.prompt_ids(SHORT)]
    backend.start(prompts, SamplingRules())
    gc.collect()
    make, kept = backend._new_step, []

    def new_step(*shape):
        kept.append(len(backend._kept))
        if len(kept) != 2:
            raise torch.OutOfMemoryError
        return make(*shape)

    monkeypatch.setattr(backend, "_new_step", new_step)
    backend.start(prompts * 2, SamplingRules())
    gc.collect()
    assert kept == [1, 0]
    backend._kept.clear()
    with pytest.raises(torch.OutOfMemoryError):
        backend.start(prompts * 3, SamplingRules())
